"""The backups of a cluster as a panel lists them: one line each, every value as people read it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Any

from opskit.model.backup import BaseBackup
from opskit.model.operation import Operation, OperationStatus
from opskit.reports.format import format_bytes, format_duration
from opskit.reports.tables import backup_rows
from opskit.reports.view import View, table

SHOWN = 200
"""So many backups are listed; a browser stumbles over thousands of rows."""

_COLUMNS = {
    "Name": "",
    "Status": "",
    "Kind": "A full backup holds everything",
    "Trigger": "What started it",
    "Started (UTC)": "",
    "Duration": "",
    "Unpacked": "What it is when unpacked",
    "Stored": "What it takes in the repository",
    "Note": "",
}
_NUMBERS = ("Duration", "Unpacked", "Stored")
_MARKS = {"complete": "✓", "running": "●", "failed": "✕"}


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
    note: str
    reason: str = ""


def lines(
    backups: Sequence[BaseBackup], operations: Sequence[Operation], now: datetime
) -> list[Line]:
    """The newest backups, newest first, with those that run or failed; see `backup_rows`."""
    attempts = {operation.started_at: operation for operation in operations}
    return [
        _line(row, None if row["status"] == "complete" else attempts.get(row["started_at"]), now)
        for row in backup_rows(backups, operations)[:SHOWN]
    ]


def table_html(listed: Sequence[Line], selected: str | None, older: int) -> str:
    """The lines as a table, the selected backup marked; `older`, if it is more than 0, is how many are left out."""
    if not listed:
        return '<p class="opskit-empty">There is no backup yet. <b>Back up now</b> takes the first.</p>'
    head = "".join(
        f'<th scope="col"{_class(column)}{_title(text)}>{escape(column)}</th>'
        for column, text in _COLUMNS.items()
    )
    body = "".join(_row(line, line.name == selected) for line in listed)
    left_out = (
        f'<p class="opskit-empty">{older:,} older ones are not shown here; <code>backups()</code> lists all.</p>'
        if older > 0
        else ""
    )
    return (
        '<table class="opskit-backups" aria-label="Backups, newest first">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{left_out}"
    )


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
        note=row["note"] or "",
        reason="" if attempt is None else _reason(attempt),
    )


def _reason(attempt: Operation) -> str:
    if attempt.status is OperationStatus.CANCELLED:
        return "cancelled"
    if attempt.status is OperationStatus.DIED:
        return "its process died"
    return (attempt.error or {}).get("message", "")


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
    ]


def _row(line: Line, is_selected: bool) -> str:
    name, status, *rest = _cells(line)
    cells = "".join(
        f"<td{_class(column)}>{escape(cell)}</td>"
        for column, cell in zip(list(_COLUMNS)[2:], rest, strict=False)
    )
    note = "".join(
        f"<span{kind}{_title(text)}>{escape(text)}</span>"  # long ones are cut by the style sheet
        for text, kind in ((line.note, ""), (line.reason, ' class="opskit-reason"'))
        if text
    )
    current = ' aria-current="true" class="opskit-selected"' if is_selected else ""
    return (
        f'<tr{current}><th scope="row">{escape(name)}</th>'
        f'<td class="opskit-status opskit-{status}">'
        f'<span aria-hidden="true">{_MARKS.get(status, "")}</span> {escape(status)}</td>'
        f'{cells}<td class="opskit-note">{note}</td></tr>'
    )


def _class(column: str) -> str:
    return ' class="opskit-number"' if column in _NUMBERS else ""


def _title(text: str) -> str:
    return f' title="{escape(text)}"' if text else ""


def _joined(note: str, reason: str) -> str:
    return " — ".join(" ".join(part.split()) for part in (note, reason) if part)
