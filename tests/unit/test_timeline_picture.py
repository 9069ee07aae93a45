"""What can be restored, as a picture and in words; where the ticks of its axis are."""

import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.errors import InputError
from opskit.model.local_time import find_zone, parse_local_time
from opskit.operations.recoverable import NO_WAL
from opskit.reports.drawing import BLUE, ORANGE
from opskit.reports.recoverable import recoverable_table
from opskit.reports.scene import Window, read_scene, told, whole
from opskit.reports.tables import backups_table
from opskit.reports.ticks import ticks
from opskit.reports.timeline import draw, timeline_at, timeline_svg, timeline_view
from tests.property import repeatable
from tests.support.moments import END, NOW, moments

KOLKATA, BERLIN = ZoneInfo("Asia/Kolkata"), ZoneInfo("Europe/Berlin")
SVG = "{http://www.w3.org/2000/svg}"


def words_of(svg: str) -> list[str]:
    """What is written in a picture."""
    return [text.text or "" for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_gaps_are_told_in_words_as_well_as_drawn() -> None:
    """Each gap has its word in the picture and its segment in the text, beside how far each timeline leads."""
    intervals, backups = moments(10, gaps=[2, 6])
    svg = timeline_svg(intervals, backups, NOW)
    assert words_of(svg).count("gap") == 2
    assert ORANGE in svg and BLUE in svg
    label = ElementTree.fromstring(svg).get("aria-label") or ""
    view = timeline_view(read_scene(intervals, backups), NOW)
    for said in (label, view.text, view.html):
        assert f"segment {2:024X} is missing" in said
        assert "with 2 gaps, 2 full and 8 incremental backups" in said
    assert view._repr_mimebundle_().keys() == {"text/html", "text/plain", "image/svg+xml"}
    ElementTree.fromstring(str(view.data["image/svg+xml"]))


def test_idle_times_and_lone_backups_are_no_bars() -> None:
    """Where no transaction ended, it says so; a backup without its WAL is a gap up to the next, and why."""
    intervals, backups = moments(3)
    intervals["to_at"] = intervals["from_at"]
    assert words_of(timeline_svg(intervals, backups, NOW)).count("idle") == 2
    intervals["ends_because"] = NO_WAL
    svg = timeline_svg(intervals, backups, NOW)
    assert words_of(svg).count("gap") == 2
    assert NO_WAL in svg


def test_nothing_is_said_where_there_is_nothing() -> None:
    """A cluster without a backup has a picture that says so."""
    scene = read_scene(recoverable_table([]), backups_table([], []))
    assert "there is no backup" in draw(scene, whole(scene, NOW), NOW)
    assert told(scene) == ["Nothing can be restored yet: there is no backup."]


def test_what_others_wrote_is_text() -> None:
    """Nothing of a name or a reason becomes markup."""
    intervals, backups = moments(3, gaps=[1])
    intervals["ends_because"] = "<script>\"&'</script>"
    backups["trigger"] = "<b>"
    view = timeline_view(read_scene(intervals, backups), NOW)
    assert "<script" not in view.html and "<b>s" not in view.html
    ElementTree.fromstring(f"<page>{view.html}</page>")


def test_timelines_have_a_lane_each() -> None:
    """The newest timeline is on top, and a point of the picture belongs to one of them or none."""
    old, backups = moments(4)
    new = old.assign(timeline=2, from_at=old["to_at"], to_at=old["to_at"] + timedelta(hours=1))
    both = recoverable_table([]).reset_index(drop=True)
    both = type(both)({c: [*old[c], *new[c]] for c in both.columns}).astype(both.dtypes.to_dict())
    scene = read_scene(both, backups)
    lanes = [word for word in words_of(draw(scene, whole(scene, NOW), NOW)) if "timeline" in word]
    assert lanes == ["timeline 2", "timeline 1"]
    assert [timeline_at(scene, y) for y in (0, 20, 70, 500)] == [None, 2, 1, None]


def test_thousands_are_drawn_at_once() -> None:
    """10,000 backups in 400 ranges are drawn within 0.3 s, as few things that tell how many they are."""
    intervals, backups = moments(10_000, gaps=range(0, 10_000, 25), apart=timedelta(hours=1))
    began = time.process_time()
    scene = read_scene(intervals, backups)
    svg = draw(scene, whole(scene, NOW), NOW)
    assert time.process_time() - began < 0.3
    assert len(list(ElementTree.fromstring(svg).iter())) < 400
    assert len(scene.reach.ranges[1]) == 401
    crowds = [int(word) for word in words_of(svg) if word.isdigit()]
    assert sum(crowds) == 10_000
    near = Window(NOW - timedelta(seconds=1), NOW)
    assert {"14:00:00.000", "15:00:00.000"} < set(words_of(draw(scene, near, NOW, zone=BERLIN)))
    assert END in told(scene)[0]


@repeatable
@given(
    st.datetimes(datetime(1975, 1, 1), datetime(2100, 1, 1)),
    st.integers(0, 96).map(lambda power: timedelta(seconds=1) * 1.2**power),
    st.integers(2, 12),
)
def test_ticks_are_few_round_and_inside(start: datetime, span: timedelta, most: int) -> None:
    """From a second to a year and more, ticks rise inside of the window, few enough, and read differently."""
    begin = start.replace(tzinfo=UTC)
    span = min(span, timedelta(days=365 * 40))
    found = ticks(begin, begin + span, most, KOLKATA)
    times = [time for time, _ in found]
    assert len(found) <= most + 1
    assert times == sorted(set(times))
    assert all(begin <= time <= begin + span for time in times)
    labels = [label for _, label in found]
    assert all(one != other for one, other in pairwise(labels))
    assert all(time.microsecond % 1000 == 0 for time in times)


@pytest.mark.parametrize(
    ("text", "zone", "meant"),
    [
        ("2026-11-22 14:05", UTC, "2026-11-22 14:05:00"),
        ("2026-11-22 19:35:00.123457", KOLKATA, "2026-11-22 14:05:00.123457"),
        (" 2026-11-22 14:05:00 UTC", KOLKATA, "2026-11-22 14:05:00"),
        ("2026-11-22T15:05+01:00", KOLKATA, "2026-11-22 14:05:00"),
        ("2026-11-22", BERLIN, "2026-11-21 23:00:00"),
    ],
)
def test_times_are_read_by_a_clock(text: str, zone: ZoneInfo, meant: str) -> None:
    """A time without a zone is by the given clock, to the microsecond; one with a zone is by its own."""
    assert parse_local_time(text, zone) == datetime.fromisoformat(f"{meant}Z")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("2026-03-29 02:30", "put forward"),
        ("2026-10-25 02:30", "twice"),
        ("yesterday", "not of the form"),
    ],
)
def test_times_that_no_clock_shows_are_refused(text: str, why: str) -> None:
    """What the clocks skipped, showed twice or could never show is refused in words."""
    with pytest.raises(InputError, match=why):
        parse_local_time(text, BERLIN)


def test_unknown_zones_are_refused() -> None:
    """A zone that this machine does not know is quoted."""
    with pytest.raises(InputError, match="'Mars/Olympus'"):
        find_zone("Mars/Olympus")
    with pytest.raises(InputError):
        find_zone("../../etc/passwd")
