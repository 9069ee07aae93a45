"""Clusters beside one another, as a DataFrame and as bars.

The columns, their order and their types are promised, also when empty.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd

from opskit.reports.format import format_bytes
from opskit.reports.tables import BYTES, DURATION, NUMBER, TEXT, TIME, typed_table

_COLUMNS = {
    "cluster": TEXT,
    "backups": NUMBER,
    "newest_backup": TEXT,
    "newest_at": TIME,
    "newest_age": DURATION,
    "oldest_at": TIME,
    "cluster_bytes": BYTES,
    "growth_per_day_bytes": BYTES,
    "stored_bytes": BYTES,
    "archive_at": TIME,
    "behind_bytes": BYTES,
    "behind": DURATION,
    "answered": "boolean",
    "failed_at": TIME,
    "failure": TEXT,
    "due_at": TIME,
    "trouble": TEXT,
}


def clusters_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Clusters as a table, in the given order.

    Returns
    -------
    DataFrame
        One row a cluster: cluster, backups (how many are complete), newest_backup, newest_at (when it ended, UTC),
        newest_age, oldest_at (UTC), cluster_bytes (the newest backup unpacked), growth_per_day_bytes (by the full
        backups of the last 30 days), stored_bytes (all its backups), archive_at (when WAL was stored last, UTC),
        behind_bytes and behind (what the server has and the archive not, and how old that is at most), answered
        (whether the server did, missing where it was not asked), failed_at (UTC), failure (the last operation that
        failed), due_at (of the schedule, UTC), trouble (what is not well, joined by ``; ``). What is not known is
        missing. The index counts rows.
    """
    return typed_table([dict(row) for row in rows], _COLUMNS)


def bars(title: str, sizes: Mapping[str, int]) -> str:
    """Sizes beside one another as HTML: a line each with its bar, drawn to one scale, the number beside it."""
    top = max(sizes.values(), default=0) or 1
    lines = "".join(
        f'<tr><th scope="row" title="{escape(name)}">{escape(name)}</th>'
        f'<td><div class="opskit-share" style="width:{100 * max(size, 0) / top:.1f}%"></div></td>'
        f'<td class="opskit-number">{format_bytes(size)}</td></tr>'
        for name, size in sizes.items()
    )
    return f'<table class="opskit-bars"><caption>{escape(title)}</caption><tbody>{lines}</tbody></table>'
