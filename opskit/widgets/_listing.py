"""The backups of a cluster as a panel lists them: one line each, every value as people read it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from opskit.model.backup import BaseBackup
from opskit.model.operation import Operation
from opskit.model.retention import Hold
from opskit.reports.format import format_bytes, format_duration
from opskit.reports.listed import backup_rows, failure_words
from opskit.reports.tables import BYTES, DURATION, NUMBER, TEXT, TIME, typed_table
from opskit.reports.view import View, table

SHOWN = 200
"""So many backups are listed where there is no table to page in."""

_COLUMNS = (
    "Name",
    "Status",
    "Kind",
    "Trigger",
    "Started (UTC)",
    "Duration",
    "Unpacked",
    "Stored",
    "If full",
    "Chain",
    "Note",
)
_NUMBERS = ("Duration", "Unpacked", "Stored", "If full", "Chain")
_FRAME = {
    "name": TEXT,
    "status": TEXT,
    "kind": TEXT,
    "trigger": TEXT,
    "started_at": TIME,
    "took": DURATION,
    "stored_bytes": BYTES,
    "if_full_bytes": BYTES,
    "chain": NUMBER,
    "note": TEXT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One backup, or one attempt; `reason` says why it failed."""

    name: str
    status: str
    kind: str
    trigger: str
    started: str
    duration: str
    unpacked: str
    stored: str
    if_full: str
    chain: str
    note: str
    reason: str = ""


def lines(
    backups: Sequence[BaseBackup],
    operations: Sequence[Operation],
    now: datetime,
    parents: Mapping[str, str | None] | None = None,
) -> list[Line]:
    """The newest backups, newest first, with those that run or failed; see `backup_rows`."""
    attempts = {operation.started_at: operation for operation in operations}
    return [
        _line(row, None if row["status"] == "complete" else attempts.get(row["started_at"]), now)
        for row in backup_rows(backups, operations, parents)[:SHOWN]
    ]


def listing_frame(
    backups: Sequence[BaseBackup],
    operations: Sequence[Operation],
    holds: Mapping[str, Hold],
    parents: Mapping[str, str | None] | None = None,
) -> pd.DataFrame:
    """All backups, newest first, with those that run or failed, as the panel's table shows them; see `backup_rows`.

    Returns
    -------
    DataFrame
        name, status, kind, trigger, started_at (UTC), took, stored_bytes, if_full_bytes (of an increment, about what a
        full one would store), chain (how many backups it takes to restore it), note (with who holds it, and with the
        reason of one that failed).
    """
    attempts = {operation.started_at: operation for operation in operations}
    rows = []
    for row in backup_rows(backups, operations, parents):
        attempt = None if row["status"] == "complete" else attempts.get(row["started_at"])
        ended = row["stopped_at"] or (attempt.ended_at if attempt is not None else None)
        hold = holds.get(row["name"])
        rows.append(
            row
            | {
                "if_full_bytes": None if row["parent"] is None else row["full_bytes"],
                "chain": row["chain_length"],
                "took": None if ended is None else max(ended - row["started_at"], timedelta()),
                "note": _joined(
                    "" if hold is None else hold.words,
                    row["note"] or "",
                    "" if attempt is None else _reason(attempt),
                ),
            }
        )
    return typed_table(rows, _FRAME)


def table_view(listed: Sequence[Line]) -> View:
    """The lines where there is no panel: in an executed report, on a page, in a terminal."""
    return table(
        list(_COLUMNS),
        [[*_cells(line), _joined(line.note, line.reason)] for line in listed],
        numbers=_NUMBERS,
    )


def choices(backups: Sequence[BaseBackup]) -> list[tuple[str, str]]:
    """What can be selected: how a backup is called there, and its name."""
    return [(_choice(backup), backup.name) for backup in backups[:SHOWN]]


def _choice(backup: BaseBackup) -> str:
    parts = [
        backup.name,
        f"{backup.started_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
        str(backup.kind),
        format_bytes(backup.stored_bytes),
    ]
    note = " ".join(backup.note.split())
    return "  ·  ".join([*parts, note[:40] + "…" if len(note) > 40 else note]).rstrip(" ·")


def _line(row: dict[str, Any], attempt: Operation | None, now: datetime) -> Line:
    ended = row["stopped_at"]
    if attempt is not None:
        ended = attempt.ended_at or (now if row["status"] == "running" else None)
    return Line(
        name=row["name"] or "—",
        status=row["status"],
        kind=str(row["kind"]),
        trigger=str(row["trigger"]),
        started=row["started_at"].astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S"),
        duration=_duration(row["started_at"], ended),
        unpacked=_size(row["cluster_bytes"]),
        stored=_size(row["stored_bytes"]),
        if_full="" if row["parent"] is None else _size(row["full_bytes"]),
        chain="" if row["chain_length"] is None else f"{row['chain_length']:,}",
        note=row["note"] or "",
        reason="" if attempt is None else _reason(attempt),
    )


def _reason(attempt: Operation) -> str:
    """In short: libpq goes on with a guess, which the operation's card has."""
    return (failure_words(attempt) or "").partition("; ")[0]


def _duration(started: datetime, ended: datetime | None) -> str:
    if ended is None:
        return ""
    return format_duration(max(ended - started, timedelta()))


def _size(size: int | None) -> str:
    return "" if size is None else format_bytes(size)


def _cells(line: Line) -> list[str]:
    return [
        line.name,
        line.status,
        line.kind,
        line.trigger,
        line.started,
        line.duration,
        line.unpacked,
        line.stored,
        line.if_full,
        line.chain,
    ]


def _joined(*parts: str) -> str:
    return " — ".join(" ".join(part.split()) for part in parts if part)
