"""Backups and what they lead to, as the API's DataFrames tell of them, made up."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import pandas as pd

from opskit.model.lsn import Lsn
from opskit.model.wal import WalSegment
from opskit.operations.recoverable import Interval
from opskit.reports.recoverable import recoverable_table
from opskit.reports.tables import backups_table
from tests.support.records import record

NOW = datetime(2026, 11, 22, 14, tzinfo=UTC)
ODD = timedelta(microseconds=123457)
END = "the archive ends here"


def moments(
    count: int, gaps: Collection[int] = (), apart: timedelta = timedelta(days=1)
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Intervals and backups, of which the last leads up to `NOW`.

    Backup 0 ends `count` times `apart` before that, and an odd number of microseconds; every seventh is full. Behind
    each of the backups `gaps` half of the log up to the next is missing.
    """
    backups = [
        record(
            NOW - (count - n) * apart + ODD - timedelta(minutes=1),
            kind="incremental" if n % 7 else "full",
        )
        for n in range(count)
    ]
    ends = {n: (backups[n].stopped_at + apart / 2, f"segment {n:024X} is missing") for n in gaps}
    intervals = []
    following = (NOW, END)
    for n in reversed(range(count)):
        following = ends.get(n, following)
        backup = backups[n]
        intervals.append(
            Interval(
                backup=backup.name,
                timeline=1,
                from_at=backup.stopped_at,
                to_at=following[0],
                from_lsn=Lsn(n),
                to_lsn=Lsn(n + 1),
                stored_bytes=1,
                missing=WalSegment(1, n, 1 << 20) if following[1] != END else None,
                ends_because=following[1],
            )
        )
    return recoverable_table(intervals), backups_table(backups[::-1], [])
