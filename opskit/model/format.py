"""Sizes, durations and times as people read them. Programs get the plain values elsewhere."""

from datetime import UTC, datetime, timedelta

_SIZES = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_DURATIONS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def format_bytes(size: float) -> str:
    """A size in powers of 1,000, as disks and networks are sold: ``1.5 GB``, ``128 MB``, ``512 B``."""
    value = float(size)
    for unit in _SIZES:
        # what would round up to 1000 is one of the next unit
        if abs(value) < 999.5 or unit == _SIZES[-1]:
            break
        value /= 1000
    if unit == "B" or abs(value) >= 99.95:
        return f"{value:.0f} {unit}"
    return f"{value:.1f} {unit}"


def format_duration(duration: timedelta) -> str:
    """A duration by its two largest units: ``2 min 14 s``, ``3 h 5 min``, ``0.4 s``; never below zero."""
    seconds = max(0.0, duration.total_seconds())
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    left = round(seconds)
    parts: list[str] = []
    for length, unit in _DURATIONS:
        count, left = divmod(left, length)
        if parts:
            return " ".join([*parts, f"{count} {unit}"] if count else parts)
        if count:
            parts.append(f"{count} {unit}")
    return parts[0]


def format_time(time: datetime) -> str:
    """An aware time in UTC, to the second: ``2026-11-22 14:03:05 UTC``."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
