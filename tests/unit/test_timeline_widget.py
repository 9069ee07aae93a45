"""The timeline and the table without a browser: what their scripts ask for, and what the panels see of that."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from traitlets import TraitError

from opskit.reports.cells import columns_of
from opskit.reports.ticks import EPOCH
from opskit.widgets.table import Table
from opskit.widgets.timeline import Timeline
from tests.support.moments import NOW, moments

MICROSECOND = timedelta(microseconds=1)


def asked(timeline: Timeline, **question: Any) -> dict[str, Any]:
    """What the script learns when it asks something."""
    timeline._receive(timeline, {"asked": "view-1", **question}, [])
    assert timeline._asked == "view-1"
    return dict(timeline._answer)


def microseconds(time: datetime) -> int:
    """A time as the script has it."""
    return (time - EPOCH) // MICROSECOND


def test_what_is_asked_for_becomes_the_moment() -> None:
    """A moment within reach is chosen to the microsecond, with its timeline; observers see all of it at once."""
    timeline = Timeline(*moments(10))
    seen: list[Any] = []
    timeline.observe(lambda _: seen.append((timeline.moment, timeline.timeline, timeline.reason)))
    wish = NOW - timedelta(days=2, microseconds=7)
    answer = asked(timeline, do="wish", at=microseconds(wish))
    assert (wish, 1, "") in seen
    assert (answer["at"], answer["reason"], answer["sides"]) == (microseconds(wish), "", [])
    assert answer["utc"] == "2026-11-20 13:59:59.999993"
    assert answer["said"] == "2026-11-20 13:59:59.999993 UTC, timeline 1"


def test_a_gap_is_refused_with_both_sides_and_near_it_is_snapped() -> None:
    """In a gap nothing stays chosen, why is said and what is near is offered; a drag close to its edge snaps."""
    intervals, backups = moments(10, gaps=[8])
    timeline = Timeline(intervals, backups)
    edge, other = intervals["to_at"][1].to_pydatetime(), intervals["from_at"][0].to_pydatetime()
    timeline.moment = NOW
    wish = edge + timedelta(hours=1)
    answer = asked(timeline, do="type", text=f"{wish:%Y-%m-%d %H:%M:%S}", local=False)
    assert [timeline.moment, timeline.timeline] == [None, None]
    assert f"segment {8:024X} is missing" in timeline.reason
    assert [side["at"] for side in answer["sides"]] == [microseconds(edge), microseconds(other)]
    near = timedelta(hours=2) // MICROSECOND
    asked(timeline, do="wish", at=microseconds(wish), near=near)
    assert timeline.moment == edge
    assert timeline.reason.startswith("moved by 1 h")


def test_keys_go_everywhere() -> None:
    """Steps, ends and backups: over a gap to the other side, and no further than what there is."""
    intervals, backups = moments(10, gaps=[8])
    timeline = Timeline(intervals, backups)
    first = intervals["from_at"].min().to_pydatetime()
    assert asked(timeline, do="end", last=False)["at"] == microseconds(first)
    asked(timeline, do="step", by=-1)
    assert timeline.moment == first and "oldest backup" in timeline.reason
    asked(timeline, do="backup", by=1)
    assert timeline.moment == intervals["from_at"][8].to_pydatetime()
    assert "the end of incremental backup" in timeline._answer["said"]
    seen = {timeline.moment}
    for _ in range(400):
        asked(timeline, do="step", by=1)
        seen.add(timeline.moment)
    assert {intervals["to_at"][1].to_pydatetime(), intervals["from_at"][0].to_pydatetime()} < seen
    assert timeline.moment == NOW
    asked(timeline, do="backup", by=1)
    assert timeline.moment == NOW and timeline.reason.startswith("there is no backup after")


def test_zoom_goes_from_a_year_to_a_second_and_follows() -> None:
    """What is zoomed around stays where it is; what is chosen outside comes into the picture."""
    timeline = Timeline(*moments(400))
    around = microseconds(NOW - timedelta(days=100))
    for _ in range(40):
        before = dict(timeline._picture)
        asked(timeline, do="zoom", by=0.5, around=around)
        after = dict(timeline._picture)
        share = (around - before["start"]) / (before["end"] - before["start"])
        assert share == pytest.approx(
            (around - after["start"]) / (after["end"] - after["start"]), abs=1e-3
        )
    assert after["end"] - after["start"] == 1_000_000
    asked(timeline, do="end", last=True)
    assert timeline._picture["start"] <= microseconds(NOW) <= timeline._picture["end"]
    for _ in range(40):
        asked(timeline, do="zoom", by=2)
    assert (
        timeline._picture["end"] - timeline._picture["start"] > timedelta(days=365) // MICROSECOND
    )
    asked(timeline, do="pan", by=-0.5)
    asked(timeline, do="size", width=640)
    assert timeline._picture["right"] == 626
    asked(timeline, do="fit")
    assert timeline._picture["start"] < timeline._picture["first"]


def test_local_times_are_the_browsers() -> None:
    """The browser's zone is taken where it is known, and what is typed by it is meant by it."""
    timeline = Timeline(*moments(10))
    asked(timeline, do="zone", zone="Mars/Olympus")
    assert timeline._zone == ""
    asked(timeline, do="zone", zone="Asia/Kolkata")
    assert "Kolkata" in timeline._picture["svg"]
    answer = asked(timeline, do="type", text="2026-11-22 19:00", local=True)
    assert timeline.moment == datetime(2026, 11, 22, 13, 30, tzinfo=UTC)
    assert (answer["utc"], answer["local"]) == ("2026-11-22 13:30:00", "2026-11-22 19:00:00")
    answer = asked(timeline, do="type", text="noon", local=True)
    assert timeline.moment is None
    assert answer["utc"] == answer["local"] == "noon" and "'noon'" in timeline.reason
    fixed = Timeline(*moments(10), zone="Europe/Berlin")
    asked(fixed, do="zone", zone="Asia/Kolkata")
    assert fixed._zone == "Europe/Berlin"


def test_only_what_can_be_restored_is_set() -> None:
    """From Python, too, a moment out of reach, or without a zone, is refused."""
    timeline = Timeline(*moments(10))
    timeline.moment = NOW - timedelta(days=1)
    assert (timeline.timeline, timeline._answer["at"]) == (1, microseconds(timeline.moment))
    with pytest.raises(TraitError, match="the last transaction"):
        timeline.moment = NOW + timedelta(days=1)
    with pytest.raises(TraitError, match="no time zone"):
        timeline.moment = datetime(2026, 11, 20)
    timeline.moment = None
    assert (timeline.timeline, timeline._answer["said"]) == (None, "nothing chosen")
    assert timeline.wish(NOW + timedelta(days=1)).before == NOW


def test_new_backups_leave_the_choice() -> None:
    """What is chosen stays when there is more, and goes when it cannot be restored any longer."""
    intervals, backups = moments(10)
    timeline = Timeline(intervals, backups)
    old, new = NOW - timedelta(days=8), NOW - timedelta(hours=1)
    timeline.moment = new
    asked(timeline, do="zoom", by=0.5)
    window = timeline._picture["start"], timeline._picture["end"]
    timeline.show(*moments(3))
    assert timeline.moment == new
    assert (timeline._picture["start"], timeline._picture["end"]) == window
    timeline.show(intervals, backups)
    timeline.moment = old
    timeline.show(*moments(3))
    assert timeline.moment is None and "oldest backup" in timeline.reason


def test_new_backups_leave_what_was_said() -> None:
    """Why a wish was refused, what was offered instead and what was typed stay while the archive grows."""
    intervals, backups = moments(10, gaps=[8])
    timeline = Timeline(intervals, backups)
    grown = intervals.assign(to_at=intervals["to_at"].replace(NOW, NOW + timedelta(minutes=1)))
    refused = asked(timeline, do="type", text="2026-11-21 06:30", local=False)
    assert refused["sides"]
    timeline.show(grown, backups)
    assert timeline._answer == refused
    unread = asked(timeline, do="type", text="noon", local=False)
    timeline.show(intervals, backups)
    assert timeline._answer == unread
    timeline.moment = NOW
    asked(timeline, do="step", by=1)
    assert timeline.reason.startswith("the last transaction")
    timeline.show(grown, backups)
    assert timeline.moment == NOW and timeline.reason.startswith("the last transaction")


def test_without_a_front_end_there_is_the_picture() -> None:
    """An executed notebook carries the widget, its picture and its words."""
    timeline = Timeline(*moments(10, gaps=[3]))
    timeline.moment = NOW
    shown = timeline._repr_mimebundle_()
    bundle = shown[0] if isinstance(shown, tuple) else shown
    assert (
        "<svg" in bundle["text/html"] and "Chosen: 2026-11-22 14:00:00 UTC" in bundle["text/html"]
    )
    assert bundle["text/plain"] == repr(timeline)
    assert "Gap on timeline 1" in bundle["text/plain"]


def test_a_column_reads_as_what_it_is() -> None:
    """Sizes, times, durations, numbers and truths are written for people and sorted as what they are."""
    frame = pd.DataFrame(
        {
            "stored_bytes": pd.array([2**63, 999, None], dtype="UInt64"),
            "started_at": pd.Series(
                ["2026-11-22 14:05Z", "2026-01-01 00:00Z", None], dtype="datetime64[us, UTC]"
            ),
            "took": pd.to_timedelta([90, None, 4000], unit="s"),
            "timeline": pd.array([2**62 + 1, 2**62, 3], dtype="int64"),
            "signed": pd.array([True, False, None], dtype="boolean"),
            "start_lsn": pd.array(["0/1", None, "0/2"], dtype="string"),
        }
    )
    columns = columns_of(frame)
    assert [c.title for c in columns] == [
        *("Stored", "Started (UTC)", "Took", "Timeline", "Signed", "Start LSN"),
    ]
    assert [c.shown(frame) for c in columns] == [
        ["9.2 EB", "999 B", ""],
        ["2026-11-22 14:05:00", "2026-01-01 00:00:00", ""],
        ["1 min 30 s", "", "1 h 6 min"],
        ["4,611,686,018,427,387,905", "4,611,686,018,427,387,904", "3"],
        ["yes", "no", ""],
        ["0/1", "", "0/2"],
    ]
    ranked = [c.ranked(frame) for c in columns if c.is_ranked]
    assert ranked == [[2, 1, 0], [1, 0, 2], [3, 2, 1]]


def test_a_table_keeps_what_still_exists_selected() -> None:
    """New rows keep the selection as far as it still exists; rows without a key are never selected."""
    frame = pd.DataFrame({"name": ["a", "b", None], "note": ["<i>", "", ""]}).astype("string")
    table = Table(frame, key="name", label="Backups", empty="none")
    chosen: list[tuple[str, ...]] = []
    table.on_choose(lambda: chosen.append(table.chosen))
    table.widget._chosen = ["b"]
    assert chosen == [("b",)]
    table.show(frame.iloc[1:])
    assert list(table.chosen) == ["b"]
    table.chosen = ("a", "")
    assert list(table.chosen) == []
    rows = json.loads(table.widget._rows)
    assert rows == {"keys": ["b", ""], "data": [["b", ""], ["", ""]]}
    table.show(frame)
    assert json.loads(table.widget._rows)["data"][0] == ["a", "&lt;i&gt;"]
    table.close()
