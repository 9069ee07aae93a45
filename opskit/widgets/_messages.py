"""What cards say, as HTML: how far an operation is, how it ended, and what went wrong with what to do about it."""

import shlex
import traceback
from collections.abc import Mapping
from datetime import datetime
from html import escape

from opskit.errors import Cancelled, OpskitError
from opskit.model.backup import BaseBackup
from opskit.model.operation import Operation, OperationKind
from opskit.reports.format import format_bytes, format_duration, format_time
from opskit.widgets._pace import Pace

_DOING = {
    OperationKind.BACKUP: "Backing up",
    OperationKind.DOWNLOAD: "Downloading",
    OperationKind.RESTORE: "Restoring",
    OperationKind.DELETE: "Deleting",
    OperationKind.EXPIRE: "Expiring backups of",
    OperationKind.CONSOLIDATE: "Making whole",
    OperationKind.START: "Starting the copy of",
    OperationKind.ADVANCE: "Advancing the copy of",
}
_NOTHING_KEPT = "Nothing of it was kept."
_LEFT = {
    OperationKind.DELETE: "What was already removed is gone; the next expire removes the rest.",
    OperationKind.EXPIRE: "What was already removed is gone; the next expire goes on.",
    OperationKind.CONSOLIDATE: "The backup is as it was.",
    OperationKind.START: "The copy is stopped; its files are as they were.",
    OperationKind.ADVANCE: "The copy stopped on its way; start it to go on.",
}


def progress_html(operation: Operation, pace: Pace, now: datetime, is_cancelling: bool) -> str:
    """A running operation: what, phase, bytes of bytes, rate, time left."""
    progress = operation.progress
    what = f"{_DOING[operation.kind]} {operation.backup or operation.cluster}"
    phase = "cancelling" if is_cancelling else progress.phase
    share = None
    if progress.bytes_expected:
        share = min(100, 100 * progress.bytes_done // progress.bytes_expected)
    told = []
    if progress.bytes_expected:
        told.append(
            f"{format_bytes(progress.bytes_done)} of {format_bytes(progress.bytes_expected)}"
        )
    if pace.rate is not None:
        told.append(f"{format_bytes(pace.rate)}/s")
    if pace.left is not None:
        told.append(f"{format_duration(pace.left)} left")
    if not told:
        told.append(f"{format_duration(now - operation.started_at)} so far")
    value = "" if share is None else f' aria-valuenow="{share}"'
    bar = (
        '<div class="opskit-fill opskit-unknown"></div>'
        if share is None
        else f'<div class="opskit-fill" style="width:{share}%"></div>'
    )
    return (
        f'<div class="opskit-line"><b>{escape(what)}</b><span>{escape(phase)}</span></div>'
        f'<div class="opskit-bar" role="progressbar" aria-label="{escape(what)}: {escape(phase)}"'
        f' aria-valuemin="0" aria-valuemax="100"{value}>{bar}</div>'
        f'<div class="opskit-line opskit-quiet"><span>{escape(" · ".join(told))}</span>'
        f"<span>{'' if share is None else f'{share} %'}</span></div>"
    )


def ended_html(operation: Operation, backup: BaseBackup | None, size: int | None) -> str:
    """A complete operation, and what can be done next.

    Parameters
    ----------
    backup
        The backup it was about, where that can be read.
    size
        Of the file that a download wrote, in bytes, where it can be seen.
    """
    if operation.kind is OperationKind.BACKUP:
        return _backed_up(operation, backup)
    if operation.kind is OperationKind.DOWNLOAD:
        return _downloaded(operation, backup, size)
    result = operation.result or {}
    if operation.kind in (OperationKind.DELETE, OperationKind.EXPIRE):
        return _removed(result)
    if operation.kind is OperationKind.CONSOLIDATE:
        return _made_whole(operation, backup)
    directory = str(result.get("directory", ""))
    if operation.kind is OperationKind.RESTORE:
        start = f"opskit start {shlex.quote(directory)}"
        return (
            f"<p><b>Restored into {escape(directory)}</b></p>"
            f"<p>Press <b>Start</b> below to run it, or in a terminal:</p>{_commands([start])}"
        )
    if operation.kind in (OperationKind.START, OperationKind.ADVANCE):
        return (
            f"<p><b>The copy in {escape(directory)} is running</b></p>"
            "<p>Query it below, or with the <code>psql</code> line there.</p>"
        )
    return f"<p><b>The {escape(operation.kind)} is complete</b></p>"


def error_html(
    heading: str, error: OpskitError, details: Mapping[str, str], trace: str = ""
) -> str:
    """An error: message, hint, and what a report of it needs, folded; see `traceback_text` for the `trace`."""
    if isinstance(error, Cancelled):
        return f"<p><b>{escape(heading)}</b></p><p>{escape(error.hint or _NOTHING_KEPT)}</p>"
    rows = {"kind": f"{error.kind} ({type(error).__name__})", **details}
    listed = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in rows.items())
    traced = f'<pre tabindex="0">{escape(trace)}</pre>' if trace else ""
    hint = f'<p class="opskit-hint">{escape(error.hint)}</p>' if error.hint else ""
    return (
        f'<p role="alert"><b>{escape(heading)}</b>: {escape(error.message)}</p>{hint}'
        f"<details><summary>Details</summary><dl>{listed}</dl>{traced}</details>"
    )


def traceback_text(error: BaseException) -> str:
    """Which way an exception came, line by line, with its class. Its own text is left out: that may quote anything."""
    lines = traceback.format_tb(error.__traceback__)
    return "".join(lines) + type(error).__name__


def trouble_html(error: OpskitError) -> str:
    """What keeps a panel from being up to date."""
    told = error_html("This may be out of date", error, {})
    return f'<div class="opskit-trouble">{told}</div>'


def ended_heading(operation: Operation, error: OpskitError) -> str:
    """How an operation ended that is not complete, in a few words."""
    ended = "was cancelled" if isinstance(error, Cancelled) else "failed"
    return f"The {operation.kind} {ended}"


def as_left(operation: Operation, error: OpskitError) -> OpskitError:
    """The error that an operation ended with; where it was cancelled, with what that leaves behind."""
    if isinstance(error, Cancelled):
        return Cancelled(error.message, hint=_LEFT.get(operation.kind, _NOTHING_KEPT))
    return error


def operation_details(operation: Operation) -> dict[str, str]:
    """What tells one operation from others, for the folded part of an error."""
    return {
        "operation": operation.id,
        "process": f"{operation.pid} on {operation.host}",
        "started": format_time(operation.started_at),
    }


def _removed(result: Mapping[str, object]) -> str:
    names = result.get("backups")
    gone = list(map(str, names)) if isinstance(names, list) else []
    segments, freed = result.get("wal_segments", 0), result.get("freed_bytes", 0)
    what = f"Backup {gone[0]} is" if len(gone) == 1 else f"{len(gone):,} backups are"
    size = format_bytes(freed) if isinstance(freed, int) else ""
    return f"<p><b>{escape(what)} deleted</b>, with {escape(str(segments))} WAL segments; {size} freed.</p>"


def _backed_up(operation: Operation, backup: BaseBackup | None) -> str:
    if backup is None:
        told = ""
    else:
        took = format_duration(backup.stopped_at - backup.started_at)
        why = f": {backup.reason}" if backup.reason else ""
        told = (
            f"<p>{escape(f'{format_bytes(backup.cluster_bytes)} in {took}')},"
            f" stored as {format_bytes(backup.stored_bytes)}. {escape(str(backup.kind).capitalize() + why)}."
            " <b>Download</b> saves it to your computer.</p>"
        )
    return f"<p><b>Backup {escape(operation.backup or '')} is complete</b></p>{told}"


def _made_whole(operation: Operation, backup: BaseBackup | None) -> str:
    size = f", stored as {format_bytes(backup.stored_bytes)}" if backup is not None else ""
    return (
        f"<p><b>Backup {escape(operation.backup or '')} is now a full one</b>{size}</p>"
        "<p>It no longer needs the backups it was based on. They can go, unless another increment is based on them.</p>"
    )


def _downloaded(operation: Operation, backup: BaseBackup | None, size: int | None) -> str:
    path = str((operation.result or {}).get("path", operation.parameters.get("path", "")))
    sized = f", {format_bytes(size)}" if size is not None else ""
    needs = f", with PostgreSQL {backup.major} on the PATH" if backup is not None else ""
    user = backup.superuser if backup is not None else "postgres"
    commands = [
        f"tar --zstd -xf {shlex.quote(path)}",
        f"cd data/backup/{operation.backup}/snapshot",
        "postgres -D conf",
    ]
    return (
        f"<p><b>Downloaded</b> to <code>{escape(path)}</code>{sized}</p>"
        f"<p>To start it, here or wherever you carry it{escape(needs)}:</p>{_commands(commands)}"
        f"<p>and in another terminal:</p>{_commands([f'psql postgres -U {shlex.quote(user)}'])}"
    )


def _commands(lines: list[str]) -> str:
    return f'<pre tabindex="0">{escape(chr(10).join(lines))}</pre>'
