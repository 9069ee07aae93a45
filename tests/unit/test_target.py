"""Recovery targets as calls and commands name them."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from opskit.cli import _copies
from opskit.errors import InputError
from opskit.model.lsn import Lsn
from opskit.model.target import (
    RecoveryTarget,
    TargetArguments,
    TargetKind,
    parse_target,
    target_arguments,
    time_text,
)

AT = datetime(2026, 11, 22, 14, 5, 0, 250000, tzinfo=UTC)
TARGETS: list[tuple[TargetArguments, TargetKind, str]] = [
    ({"at": AT}, TargetKind.TIME, "time 2026-11-22 14:05:00.25 UTC"),
    ({"at": "2026-11-22 14:05Z"}, TargetKind.TIME, "time 2026-11-22 14:05:00 UTC"),
    ({"at": "2026-11-22T14:05:00+01:00"}, TargetKind.TIME, "time 2026-11-22 13:05:00 UTC"),
    ({"lsn": "0/3000148"}, TargetKind.LSN, "lsn 0/3000148"),
    ({"xid": 745}, TargetKind.XID, "xid 745"),
    ({"restore_point": "it's --so"}, TargetKind.RESTORE_POINT, "restore point it's --so"),
    ({"immediate": True}, TargetKind.IMMEDIATE, "the backup's end"),
    ({"latest": True}, TargetKind.LATEST, "the archive's end"),
]
all_targets = pytest.mark.parametrize(
    ("given", "kind", "shown"), TARGETS, ids=[shown for _, _, shown in TARGETS]
)


@all_targets
def test_a_target_is_read_and_told(given: TargetArguments, kind: TargetKind, shown: str) -> None:
    """Each way to name one gives its kind, and words that say it; by default inclusive, on the newest timeline."""
    target = parse_target(**given)
    assert target is not None
    assert (target.kind, str(target)) == (kind, shown)
    assert (target.inclusive, target.timeline) == (True, "latest")


def test_no_target_is_none() -> None:
    """Refinements alone name nothing."""
    assert parse_target() is None
    assert parse_target(timeline=3, inclusive=False, immediate=False) is None


def test_an_exclusive_target_says_so() -> None:
    """What is exactly at the target is left out, and the words tell."""
    assert str(parse_target(xid=745, inclusive=False)) == "just before xid 745"


@pytest.mark.parametrize("at", ["2026-11-22 14:05", "2026-11-22", datetime(2026, 11, 22, 14, 5)])
def test_a_time_without_a_zone_is_refused(at: str | datetime) -> None:
    """Nobody can tell which of two dozen moments is meant."""
    with pytest.raises(InputError, match="has no time zone") as caught:
        parse_target(at=at)
    assert "'Z' for UTC" in caught.value.hint


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"at": "yesterday"}, "'yesterday' is not of the form"),
        ({"at": ""}, "'' is not of the form"),
        ({"lsn": "3000148"}, "'3000148' is not of the form"),
        ({"xid": 2}, "2 is not between 3 and 4294967295"),
        ({"xid": 1 << 32}, "4294967296 is not between"),
        ({"restore_point": ""}, "'' is not a name"),
        ({"restore_point": "ä" * 32}, "is not a name of 1 to 63 bytes"),
        ({"restore_point": "a\nb"}, "is not a name"),
        ({"timeline": "newest"}, "'newest' is neither"),
        ({"timeline": 0}, "0 is neither"),
    ],
)
def test_what_is_no_target_is_refused(given: Any, message: str) -> None:
    """The message quotes what was given, and says what was expected."""
    with pytest.raises(InputError, match=message):
        parse_target(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"at": AT, "lsn": "0/3000148"},
        {"xid": 745, "latest": True},
        {"immediate": True, "restore_point": "here"},
    ],
)
def test_several_targets_are_refused(given: Any) -> None:
    """One place in the log is meant, and which one is not for opskit to choose."""
    with pytest.raises(InputError, match="2 recovery targets are given"):
        parse_target(**given)


@pytest.mark.parametrize(
    ("timeline", "checked"), [("latest", "latest"), ("current", "current"), ("3", 3), (3, 3)]
)
def test_a_timeline_is_a_word_or_a_number(timeline: int | str, checked: int | str) -> None:
    """Numbers come as text from the command."""
    target = parse_target(latest=True, timeline=timeline)
    assert target is not None and target.timeline == checked


@all_targets
@pytest.mark.parametrize(
    "refined", [{}, {"inclusive": False}, {"timeline": 3}, {"timeline": "current"}]
)
def test_a_target_survives_the_command_line(
    given: TargetArguments, kind: TargetKind, shown: str, refined: Any
) -> None:
    """The options that a process of its own is started with are read as the very same target."""
    target = parse_target(**{**given, **refined})
    arguments = target_arguments(target, pause=True)
    assert arguments[-1] == "--pause"
    assert read_by_the_command(arguments[:-1]) == target


def test_no_target_has_no_options() -> None:
    """A copy as it was when its backup ended is restored without any."""
    assert target_arguments(None, pause=False) == []


def read_by_the_command(arguments: list[str]) -> RecoveryTarget | None:
    """What a command with the options of ``opskit restore`` understands."""
    read: list[TargetArguments] = []
    app = typer.Typer()

    @app.command()
    def command(
        at: _copies.At = None,
        lsn: _copies.AtLsn = None,
        xid: _copies.AtXid = None,
        restore_point: _copies.AtPoint = None,
        immediate: _copies.Immediate = False,
        latest: _copies.Latest = False,
        exclusive: _copies.Exclusive = False,
        timeline: _copies.Timeline = "latest",
    ) -> None:
        read.append(
            _copies._target(at, lsn, xid, restore_point, immediate, latest, exclusive, timeline)
        )

    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return parse_target(**read[0])


def test_times_are_told_in_utc_to_the_microsecond() -> None:
    """Whatever zone they come in, without zeros that say nothing."""
    zone = timezone(timedelta(hours=5, minutes=30))
    assert time_text(datetime(2026, 11, 22, 0, 0, 0, 1, tzinfo=zone)) == (
        "2026-11-21 18:30:00.000001 UTC"
    )
    assert time_text(datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)) == "2026-11-22 10:00:00 UTC"


def test_an_lsn_is_kept_as_one() -> None:
    """It can be counted with."""
    target = parse_target(lsn=Lsn(0x3000148))
    assert target is not None and target.value == Lsn.parse("0/3000148")
