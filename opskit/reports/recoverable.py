"""Intervals that can be restored, as a DataFrame.

The columns, their order and their types are promised, also when empty.
"""

from collections.abc import Sequence

import pandas as pd

from opskit.operations.recoverable import Interval

_TEXT, _NUMBER, _TIME = "string", "Int64", "datetime64[us, UTC]"
_COLUMNS = {
    "from_at": _TIME,
    "to_at": _TIME,
    "from_lsn": _TEXT,
    "to_lsn": _TEXT,
    "timeline": _NUMBER,
    "backup": _TEXT,
    "wal_bytes": _NUMBER,
    "stored_bytes": _NUMBER,
    "ends_because": _TEXT,
}


def recoverable_table(intervals: Sequence[Interval]) -> pd.DataFrame:
    """Intervals as a table, in the given order.

    Returns
    -------
    DataFrame
        One row for each backup and timeline that it leads to: from_at, to_at (UTC; both can be restored), from_lsn,
        to_lsn (texts), timeline, backup (its name), wal_bytes (the log to replay up to to_lsn), stored_bytes (what its
        whole segments take in the repository), ends_because (``the archive ends here``, ``segment … is missing``,
        ``timeline … branched off at …`` or ``no WAL behind the backup is archived``). The index counts rows.
    """
    return pd.DataFrame(
        {
            column: pd.Series(
                [
                    str(value) if dtype == _TEXT else value
                    for value in (getattr(interval, column) for interval in intervals)
                ],
                dtype=dtype,
            )
            for column, dtype in _COLUMNS.items()
        }
    )
