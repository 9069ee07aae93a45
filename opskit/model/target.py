"""Recovery targets: where a restored copy is to stop in the log."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypedDict

from opskit.errors import InputError
from opskit.model.lsn import Lsn

NEWEST_TIMELINE, BACKUP_TIMELINE = "latest", "current"
TargetValue = datetime | Lsn | int | str | None


class TargetKind(StrEnum):
    """What a target names (manual, "Recovery Target")."""

    TIME = "time"
    LSN = "lsn"
    XID = "xid"
    RESTORE_POINT = "restore point"
    IMMEDIATE = "immediate"
    LATEST = "latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryTarget:
    """A place in the log.

    `inclusive` tells whether what is exactly at the target is still replayed; `timeline` is ``latest``, ``current``
    (the backup's) or a number. `words` say what was asked for where that is reached by another kind of target.
    """

    kind: TargetKind
    value: TargetValue = None
    inclusive: bool = True
    timeline: int | str = NEWEST_TIMELINE
    words: str = ""

    def __str__(self) -> str:
        if self.words:
            return self.words
        if self.kind is TargetKind.IMMEDIATE:
            return "the backup's end"
        if self.kind is TargetKind.LATEST:
            return "the archive's end"
        shown = time_text(self.value) if isinstance(self.value, datetime) else str(self.value)
        return f"{'' if self.inclusive else 'just before '}{self.kind} {shown}"


class TargetArguments(TypedDict, total=False):
    """How a call names a target: one of the first six, refined by the last two; see `parse_target`."""

    at: str | datetime | None
    lsn: str | Lsn | None
    xid: int | None
    restore_point: str | None
    immediate: bool
    latest: bool
    inclusive: bool
    timeline: int | str


def time_text(time: datetime) -> str:
    """A time in UTC to the microsecond, as PostgreSQL and people read it."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f").rstrip("0").rstrip(".") + " UTC"


def parse_target(
    *,
    at: str | datetime | None = None,
    lsn: str | Lsn | None = None,
    xid: int | None = None,
    restore_point: str | None = None,
    immediate: bool = False,
    latest: bool = False,
    inclusive: bool = True,
    timeline: int | str = NEWEST_TIMELINE,
) -> RecoveryTarget | None:
    """The target that the arguments name; `None` when they name none.

    Raises
    ------
    InputError
        Several are named, or one cannot be read.
    """
    given: list[tuple[TargetKind, TargetValue]] = []
    if at is not None:
        given.append((TargetKind.TIME, parse_time(at)))
    if lsn is not None:
        given.append((TargetKind.LSN, Lsn.parse(str(lsn))))
    if xid is not None:
        given.append((TargetKind.XID, _xid(xid)))
    if restore_point is not None:
        given.append((TargetKind.RESTORE_POINT, _point(restore_point)))
    if immediate:
        given.append((TargetKind.IMMEDIATE, None))
    if latest:
        given.append((TargetKind.LATEST, None))
    if len(given) > 1:
        raise InputError(
            f"{len(given)} recovery targets are given ({', '.join(kind for kind, _ in given)}), expected one"
        )
    checked = _timeline(timeline)
    if not given:
        return None
    kind, value = given[0]
    return RecoveryTarget(kind=kind, value=value, inclusive=inclusive, timeline=checked)


def target_arguments(target: RecoveryTarget | None, *, pause: bool) -> list[str]:
    """A target as the options of ``opskit restore``."""
    if target is None:
        return []
    flag = {
        TargetKind.TIME: "--at",
        TargetKind.LSN: "--lsn",
        TargetKind.XID: "--xid",
        TargetKind.RESTORE_POINT: "--restore-point",
        TargetKind.IMMEDIATE: "--immediate",
        TargetKind.LATEST: "--latest",
    }[target.kind]
    value = target.value.isoformat() if isinstance(target.value, datetime) else target.value
    arguments = [flag if value is None else f"{flag}={value}", f"--timeline={target.timeline}"]
    return [
        *arguments,
        *([] if target.inclusive else ["--exclusive"]),
        *(["--pause"] if pause else []),
    ]


def parse_time(given: str | datetime) -> datetime:
    """An aware time, in UTC.

    Raises
    ------
    InputError
        It is not one, or has no time zone.
    """
    try:
        time = datetime.fromisoformat(given) if isinstance(given, str) else given
    except ValueError:
        raise InputError(
            f"the time {given!r} is not of the form '2026-11-22 14:05:00Z'",
            hint="Write date and time, with 'Z' for UTC or an offset like +01:00.",
        ) from None
    if time.tzinfo is None:
        raise InputError(
            f"the time {str(given)!r} has no time zone",
            hint="Add 'Z' for UTC, or an offset like +01:00.",
        )
    return time.astimezone(UTC)


def _xid(given: int) -> int:
    if not 3 <= given < 1 << 32:
        raise InputError(f"the transaction id {given} is not between 3 and 4294967295")
    return given


def _point(given: str) -> str:
    if not given or len(given.encode()) > 63 or any(ord(c) < 32 for c in given):
        raise InputError(f"the restore point {given!r} is not a name of 1 to 63 bytes")
    return given


def _timeline(given: int | str) -> int | str:
    if given in (NEWEST_TIMELINE, BACKUP_TIMELINE):
        return given
    try:
        number = int(given)
    except ValueError:
        number = 0
    if number < 1:
        raise InputError(
            f"the timeline {given!r} is neither 'latest' nor 'current' nor a number from 1 on"
        )
    return number
