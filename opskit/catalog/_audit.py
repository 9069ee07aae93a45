"""The table of the audit log: entries are appended, one after the other whoever appends them, and never changed.

Functions on a connection whose transaction the catalog holds. `lock` comes first in it, so that two processes never
take the same number, nor wait for each other's rows.
"""

import sqlite3
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, insert, select, text, update

from opskit.catalog._identity import process_is_gone
from opskit.catalog._open import failures_of
from opskit.catalog._tables import audit, operations
from opskit.model.audit import (
    PAYLOAD,
    REPLACED,
    START,
    AuditEntry,
    AuditEvent,
    AuditKind,
    Head,
    ReportReference,
    Signer,
    StoredEntry,
    canonical,
)
from opskit.model.operation import OperationStatus
from opskit.model.secrets import Scrubber

# A process that cannot be looked at may have slept, or lost the catalog for a while: its death is not entered at once.
CERTAINLY_DEAD = timedelta(hours=1)
_ADVISORY_LOCK = 0x6F70736B6975  # one after that of the migrations


def lock(connection: Connection) -> None:
    """Wait until nobody else appends. A writing transaction of SQLite has waited already."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})


def read_head(connection: Connection) -> Head:
    """The last entry."""
    row = connection.execute(
        select(audit.c.number, audit.c.sha256).order_by(audit.c.number.desc()).limit(1)
    ).first()
    return Head(number=0, sha256=START) if row is None else Head(number=row[0], sha256=row[1])


def read_entries(connection: Connection) -> list[StoredEntry]:
    """All entries, as they are stored."""
    rows = connection.execute(
        select(audit.c.number, audit.c.sha256, audit.c.entry).order_by(audit.c.number)
    )
    return [StoredEntry(number=row[0], sha256=row[1], text=row[2]) for row in rows]


def append(
    connection: Connection, now: datetime, event: AuditEvent, signer: Signer | None
) -> AuditEntry:
    """Append an entry; the transaction holds the `lock`.

    Raises
    ------
    InputError
        The signer's key cannot be used; nothing was written.
    """
    head = read_head(connection)
    unsigned = AuditEntry(number=head.number + 1, at=now, previous=head.sha256, event=event)
    entry = (
        unsigned if signer is None else unsigned.signed(signer.sign(unsigned.payload(), PAYLOAD))
    )
    stored = entry.stored()
    connection.execute(
        insert(audit).values(number=stored.number, sha256=stored.sha256, entry=stored.text)
    )
    return entry


def is_entered(connection: Connection, report: ReportReference) -> bool:
    """Whether there is an entry for that report."""
    told = f'"path":{canonical(report.path).decode()}'
    found = select(audit.c.number).where(audit.c.entry.contains(told, autoescape=True)).limit(1)
    return connection.execute(found).first() is not None


def enter_ended(connection: Connection, now: datetime, signer: Signer | None) -> None:
    """Append an entry for each operation that has ended, or certainly died, and has none; errors as `append`."""
    for row in ended_operations(connection, now):
        append(connection, now, _event(dict(row._mapping)), signer)
        connection.execute(
            update(operations).where(operations.c.number == row.number).values(is_entered=True)
        )


def ended_operations(connection: Connection, now: datetime) -> list[Row[Any]]:
    """The rows of those operations, in the order of their ends."""
    rows = connection.execute(
        select(operations)
        .where(operations.c.is_entered.is_(False))
        .order_by(operations.c.ended_at.nulls_first(), operations.c.number)
    ).all()
    return [row for row in rows if row.status != OperationStatus.RUNNING or _is_dead(row, now)]


def _is_dead(row: Row[Any], now: datetime) -> bool:
    return process_is_gone(row.pid, row.process) or now - row.heartbeat_at > CERTAINLY_DEAD


def _event(row: Mapping[str, Any]) -> AuditEvent:
    running = row["status"] == OperationStatus.RUNNING
    return AuditEvent(
        kind=AuditKind.OPERATION,
        what=row["kind"],
        cluster=row["cluster"],
        actor=row["actor"],
        jupyter_user=row["jupyter_user"],
        host=row["host"],
        parameters=Scrubber().data({**row["parameters"], **_replaced(row)}),
        outcome=str(OperationStatus.DIED) if running else row["status"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        backup=row["backup"],
        operation=row["id"],
    )


def _replaced(row: Mapping[str, Any]) -> dict[str, str]:
    """The digests of the record that a consolidation replaced, and of the one that it put."""
    result = row["result"] or {}
    return {key: str(result[key]) for key in REPLACED if key in result}


def read_file(path: Path) -> list[StoredEntry]:
    """The entries in an SQLite catalog that is not opened as one: nothing is migrated or written, or even locked.

    Raises
    ------
    StoreError
        It is no catalog with an audit log.
    """
    beside = path.with_name(f"{path.name}-wal")
    mode = "mode=ro" if beside.exists() else "mode=ro&immutable=1"
    with failures_of(f"sqlite:///{path}"):
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)
        try:
            rows = connection.execute("SELECT number, sha256, entry FROM opskit_audit ORDER BY 1")
            return [StoredEntry(number=n, sha256=d, text=t) for n, d, t in rows]
        finally:
            connection.close()
