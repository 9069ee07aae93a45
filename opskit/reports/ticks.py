"""Where an axis of time has its ticks, from a tenth of a second to decades, and what stands at them in any zone."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo

MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MONDAY = datetime(1969, 12, 29, tzinfo=UTC)
_DAY = timedelta(days=1)
_STEPS = (
    *(timedelta(milliseconds=n) for n in (1, 2, 5, 10, 20, 50, 100, 200, 500)),
    *(timedelta(seconds=n) for n in (1, 2, 5, 10, 15, 30)),
    *(timedelta(minutes=n) for n in (1, 2, 5, 10, 15, 30)),
    *(timedelta(hours=n) for n in (1, 2, 3, 6, 12)),
    *(timedelta(days=n) for n in (1, 2, 7, 14)),
)
_MONTHS = (1, 2, 3, 6, 12, 24, 60, 120, 240)


def ticks(
    start: datetime, end: datetime, most: int, zone: tzinfo = UTC
) -> list[tuple[datetime, str]]:
    """Round times in UTC between two aware ones, at most `most` (2 or more), and how each reads in a zone.

    The first, and each on which a day begins there, names the day as well.
    """
    span = end - start
    step = next((step for step in _STEPS if span / step <= most - 1), None)
    times = list(_every(step, start, end) if step is not None else _months(start, end, most))
    labels = []
    earlier: datetime | None = None
    for time in times:
        local = time.astimezone(zone)
        labels.append((time, _label(local, earlier, step)))
        earlier = local
    return labels


def round_step(span: timedelta) -> timedelta:
    """The longest round step that is not longer than `span`, but at least a millisecond."""
    return max((step for step in _STEPS if step <= span), default=_STEPS[0])


def _every(step: timedelta, start: datetime, end: datetime) -> Iterator[datetime]:
    origin = EPOCH if step < 7 * _DAY else _MONDAY
    time = origin - -(start - origin) // step * step  # the first that is not before the start
    while time <= end:
        yield time
        time += step


def _months(start: datetime, end: datetime, most: int) -> Iterator[datetime]:
    begin = start.astimezone(UTC)
    months = (end - start) / timedelta(days=30)
    step = next((step for step in _MONTHS if months / step <= most - 1), _MONTHS[-1])
    number = (begin.year * 12 + begin.month - 1) // step * step
    while number < 9999 * 12:
        time = datetime(max(number // 12, 1), number % 12 + 1, 1, tzinfo=UTC)
        if time > end:
            return
        if time >= start:
            yield time
        number += step


def _label(local: datetime, earlier: datetime | None, step: timedelta | None) -> str:
    clock = _clock(local, step)
    if step is None:
        return (
            f"{local:%b %Y}"
            if local.day == 1 and not clock
            else f"{local:%b} {local.day}, {local.year}"
        )
    day = f"{local:%b} {local.day}"
    if step >= _DAY:
        if clock:
            return f"{day}, {clock}"
        return f"{day}, {local.year}" if earlier is None or earlier.year != local.year else day
    if earlier is None or earlier.date() != local.date():
        return f"{day}, {clock or '00:00'}"
    return clock or "00:00"


def _clock(local: datetime, step: timedelta | None) -> str:
    """The time of day as exact as the step; nothing at midnight."""
    if step is None or step >= timedelta(minutes=1):
        return f"{local:%H:%M}" if local.hour or local.minute else ""
    if step >= timedelta(seconds=1):
        return f"{local:%H:%M:%S}"
    return f"{local:%H:%M:%S}.{local.microsecond // 1000:03}"
