"""Every DataFrame that the API gives: columns that say unit and zone, promised types, no index to stumble on."""

import inspect
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from opskit.local_copy import CopyServer
from opskit.model.audit import START, AuditEntry, AuditEvent, AuditKind, StoredEntry
from opskit.model.lsn import Lsn
from opskit.model.retention import Hold
from opskit.model.wal import WalSegment
from opskit.operations.expire import ExpirePlan, LostInterval
from opskit.operations.recoverable import Interval
from opskit.operations.wal_gaps import TimelineWal
from opskit.postgres.server import Rows
from opskit.reports.comparison import clusters_table
from opskit.reports.recoverable import recoverable_table
from opskit.reports.report import Report
from opskit.reports.retention import WhatIf, decisions_table, holds_table
from opskit.reports.tables import (
    audit_table,
    backups_table,
    operations_table,
    reports_table,
    wal_table,
)
from opskit.repository.wal import StoredSegment, WalRange, contiguous
from tests.support.records import EPOCH
from tests.unit.test_rich_display import BACKUP, EXPIRE, FAILED, HOLD

NOTHING = ExpirePlan(cluster="main", decisions=(), abandoned=(), wal=())
SEGMENT = WalSegment(1, 7, 1 << 20)
INTERVAL = Interval(
    backup=BACKUP.name,
    timeline=1,
    from_at=EPOCH,
    to_at=EPOCH + timedelta(hours=1),
    from_lsn=Lsn(1),
    to_lsn=Lsn(2),
    stored_bytes=3,
    missing=None,
    ends_because="the archive ends here",
)
LOST = LostInterval(timeline=1, from_at=EPOCH, to_at=EPOCH)
REPORT = Report(
    name="main/2026/01/20260101T000000Z-x",
    runbook="x",
    cluster="main",
    outcome="passed",
    reason="",
    started_at=EPOCH,
    duration=timedelta(seconds=3),
)


def _archive() -> TimelineWal:
    stored = StoredSegment(segment=SEGMENT, stored_bytes=1, stored_at=EPOCH)
    ranges: list[WalRange] = contiguous([stored])
    return TimelineWal(timeline=1, ranges=tuple(ranges), partial=None, stored_at=EPOCH)


def _entry() -> StoredEntry:
    event = AuditEvent(
        kind=AuditKind.OPERATION,
        what="backup",
        cluster="main",
        actor="anna",
        jupyter_user=None,
        host="db1",
        parameters={},
        outcome="complete",
        started_at=EPOCH,
        ended_at=EPOCH,
    )
    return AuditEntry(number=1, at=EPOCH, previous=START, event=event).stored()


def _getter(owner: type, name: str) -> Any:
    return inspect.getattr_static(owner, name).fget


# A table of something, the same of nothing, and where its columns are promised.
TABLES: dict[str, tuple[Callable[[], pd.DataFrame], Callable[[], pd.DataFrame], Any]] = {
    "backups": (
        lambda: backups_table([BACKUP], [FAILED]),
        lambda: backups_table([], []),
        backups_table,
    ),
    "operations": (
        lambda: operations_table([FAILED]),
        lambda: operations_table([]),
        operations_table,
    ),
    "audit": (
        lambda: audit_table([_entry()], "main"),
        lambda: audit_table([], "main"),
        audit_table,
    ),
    "wal": (lambda: wal_table([_archive()]), lambda: wal_table([]), wal_table),
    "reports": (
        lambda: reports_table([REPORT], Path("/nowhere")),
        lambda: reports_table([], Path("/nowhere")),
        reports_table,
    ),
    "recoverable": (
        lambda: recoverable_table([INTERVAL]),
        lambda: recoverable_table([]),
        recoverable_table,
    ),
    "decisions": (
        lambda: decisions_table(EXPIRE),
        lambda: decisions_table(NOTHING),
        _getter(WhatIf, "backups"),
    ),
    "lost": (
        lambda: WhatIf(EXPIRE, [LOST]).lost,
        lambda: WhatIf(NOTHING, None).lost,
        _getter(WhatIf, "lost"),
    ),
    "holds": (lambda: holds_table([HOLD]), lambda: holds_table([]), holds_table),
    "clusters": (
        lambda: clusters_table([dict.fromkeys(clusters_table([]).columns)]),
        lambda: clusters_table([]),
        clusters_table,
    ),
}
_COUNTS = (
    "timeline",
    "number",
    "chain_length",
    "segments",
    "backups",
    "checks_passed",
    "checks_failed",
)
_COUNTED = (*_COUNTS, "checks_not_run")
_ORDERS = r"newest first|in the given order|by rising|newest backup first"


@pytest.mark.parametrize(("full", "empty", "promise"), TABLES.values(), ids=TABLES.keys())
def test_a_table_keeps_its_promises(
    full: Callable[[], pd.DataFrame], empty: Callable[[], pd.DataFrame], promise: Any
) -> None:
    """Its docstring names columns and order; names tell sizes and times in UTC; without a row it is the same."""
    table, nothing = full(), empty()
    assert len(table) > 0 and len(nothing) == 0
    assert table.dtypes.equals(nothing.dtypes)
    told = inspect.getdoc(promise) or ""
    assert all(re.search(rf"\b{column}\b", told) for column in table.columns), told
    assert re.search(_ORDERS, told) and "The index counts rows" in told
    for frame in (table, nothing):
        assert isinstance(frame.index, pd.RangeIndex) and frame.index.name is None
    for column, dtype in table.dtypes.items():
        name = str(column)
        assert name.endswith("_at") == isinstance(dtype, pd.DatetimeTZDtype), name
        if isinstance(dtype, pd.DatetimeTZDtype):
            assert str(dtype.tz) == "UTC" and dtype.unit == "us"
        is_number = pd.api.types.is_integer_dtype(dtype)
        assert is_number == (name.endswith("_bytes") or name in _COUNTED), name
        assert str(dtype) != "object", name


def test_a_hold_without_an_end_has_none() -> None:
    """What ends when somebody releases it has no time, and what has one keeps it."""
    ends = Hold(backup="b", by="anna", reason="", placed_at=EPOCH, until=EPOCH)
    assert list(holds_table([HOLD, ends])["ends_at"].isna()) == [True, False]


def test_a_query_has_no_index_to_stumble_on() -> None:
    """Rows of a copy's server come with PostgreSQL's names and rows that are counted."""

    class Server:
        def query(self, sql: str, database: str) -> Rows:
            return Rows(columns=("count", "count"), rows=[(1, 2)])

    server: Any = Server()
    frame = CopyServer(server).query("SELECT 1, 2")
    assert list(frame.columns) == ["count", "count"] and isinstance(frame.index, pd.RangeIndex)
