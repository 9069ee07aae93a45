"""Intervals that can be restored, as a DataFrame.

The columns, their order and their types are promised, also when empty.
"""

from collections.abc import Sequence

import pandas as pd

from opskit.operations.recoverable import Interval
from opskit.reports.tables import NUMBER, TEXT, TIME, typed_table

_COLUMNS = {
    "from_at": TIME,
    "to_at": TIME,
    "from_lsn": TEXT,
    "to_lsn": TEXT,
    "timeline": NUMBER,
    "backup": TEXT,
    "wal_bytes": NUMBER,
    "stored_bytes": NUMBER,
    "ends_because": TEXT,
}


def recoverable_table(intervals: Sequence[Interval]) -> pd.DataFrame:
    """Intervals as a table, in the given order.

    Returns
    -------
    DataFrame
        One row for each backup and timeline that it leads to: from_at, to_at (UTC; both can be restored), from_lsn,
        to_lsn (texts), timeline, backup (its name), wal_bytes (the log to replay up to to_lsn), stored_bytes (what its
        whole segments take in the repository), ends_because (``the archive ends here``, ``segment … is missing``,
        ``timeline … branched off at …`` or ``no WAL after the backup is archived``). The index counts rows.
    """
    return typed_table(
        [{column: getattr(interval, column) for column in _COLUMNS} for interval in intervals],
        _COLUMNS,
    )
