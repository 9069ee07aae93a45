"""Moments on their way between the timeline and its script, and as they are written there."""

from datetime import UTC, datetime, tzinfo

from opskit.model.reach import Answer
from opskit.model.target import time_text
from opskit.reports.ticks import EPOCH, MICROSECOND


def sides_of(answer: Answer) -> dict[str, datetime]:
    """The nearest moments that could be chosen instead, as a button says them."""
    sides = {}
    if answer.before is not None and answer.before != answer.moment:
        sides[f"Take {time_text(answer.before)}, the nearest before"] = answer.before
    if answer.after is not None and answer.after != answer.moment:
        sides[f"Take {time_text(answer.after)}, the nearest after"] = answer.after
    return sides


def number(time: datetime) -> int:
    """Microseconds since the epoch: a browser's whole numbers hold them exactly, its dates do not."""
    return (time - EPOCH) // MICROSECOND


def moment_at(microseconds: float) -> datetime:
    """The time of a number; see `number`."""
    return EPOCH + MICROSECOND * round(microseconds)


def written(time: datetime | None, zone: tzinfo | None) -> str:
    """A time by the clocks of a zone, as it can be typed."""
    if time is None or zone is None:
        return ""
    return time.astimezone(zone).replace(tzinfo=None).isoformat(" ", "auto")


def short(time: datetime) -> str:
    """A time in UTC to the second, without saying so."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
