"""What the chart of times that can be restored says where nothing happened, and where something is missing."""

from datetime import UTC, datetime, timedelta

import pytest

from opskit.model.lsn import Lsn
from opskit.model.wal import WalSegment
from opskit.operations.recoverable import NO_WAL, Interval
from opskit.reports.charts import recoverability_chart

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
END = "the archive ends here"


def interval(hour: int, because: str = END, missing: int | None = None) -> Interval:
    """A backup after so many hours, behind which no transaction ended."""
    at = NOON + timedelta(hours=hour)
    return Interval(
        backup=f"{at:%Y%m%dT%H%M%SZ}",
        timeline=1,
        from_at=at,
        to_at=at,
        from_lsn=Lsn(hour << 20),
        to_lsn=Lsn(hour << 20),
        stored_bytes=0,
        missing=None if missing is None else WalSegment(1, missing, 1 << 20),
        ends_because=because,
    )


def test_idle_times_are_no_gaps() -> None:
    """Backups of a server on which nothing happened are one bar, as long as the WAL leads from one to the next."""
    told = recoverability_chart([interval(hour) for hour in (1, 2, 3)])
    assert (
        "timeline 1: 2026-11-22 13:00:00 UTC to 2026-11-22 15:00:00 UTC, the archive" in told.text
    )
    assert told.text.count("timeline 1") == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (interval(1, "segment x is missing", 2), interval(3)),
        (interval(1, "segment x is missing", 2), interval(3, "segment y is missing", 4)),
        (interval(1, NO_WAL), interval(3, NO_WAL)),
    ],
)
def test_what_is_missing_parts_the_bars(first: Interval, second: Interval) -> None:
    """A segment that is missing between two backups is a gap, and so is WAL that nobody archived."""
    told = recoverability_chart([second, first])
    assert told.text.count("timeline 1") == 2
    assert first.ends_because in told.text
