"""Sizes, durations and times as people read them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from opskit.reports.format import format_bytes, format_duration, format_time


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_500_000_000, "1.5 GB"),
        (99_940_000, "99.9 MB"),
        (99_960_000, "100 MB"),
        (134_217_728, "134 MB"),
        (999_600, "1.0 MB"),
        (999_400, "999 kB"),
        (2**60, "1.2 EB"),
        (10**22, "10000 EB"),
        (-1500, "-1.5 kB"),
    ],
)
def test_sizes_have_one_decimal_below_a_hundred(size: int, text: str) -> None:
    """A size keeps two or three digits and its unit, and never reads as a thousand of one."""
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.96, "10 s"),
        (59.7, "1 min"),
        (134, "2 min 14 s"),
        (3600, "1 h"),
        (3661, "1 h 1 min"),
        (11_100, "3 h 5 min"),
        (90_000, "1 d 1 h"),
        (86_400, "1 d"),
        (-5, "0.0 s"),
    ],
)
def test_durations_show_their_two_largest_units(seconds: float, text: str) -> None:
    """A duration is told by two units at most; a clock that went back makes none negative."""
    assert format_duration(timedelta(seconds=seconds)) == text


def test_times_are_told_in_utc_with_the_zone() -> None:
    """A time of any zone reads the same."""
    there = datetime(2026, 11, 22, 23, 3, 5, 999_999, tzinfo=timezone(timedelta(hours=9)))
    assert format_time(there) == "2026-11-22 14:03:05 UTC"
    assert format_time(there.astimezone(UTC)) == "2026-11-22 14:03:05 UTC"
