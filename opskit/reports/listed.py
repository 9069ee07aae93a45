"""Backups as plain values by column: those that are complete, and the attempts that run or failed. Loads no pandas."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from opskit.errors import OpskitError
from opskit.model.backup import BackupKind, BaseBackup, Trigger
from opskit.model.format import format_bytes
from opskit.model.increment import BackupMode, chain_of
from opskit.model.operation import Operation, OperationStatus, shown_status
from opskit.repository import Repository

COLUMNS = (
    "name",
    "kind",
    "trigger",
    "status",
    "started_at",
    "stopped_at",
    "start_lsn",
    "stop_lsn",
    "timeline",
    "cluster_bytes",
    "stored_bytes",
    "parent",
    "note",
    "chain_length",
    "full_bytes",
    "reason",
)
_TEXTS = ("kind", "trigger", "start_lsn", "stop_lsn")


def backup_rows(
    backups: Iterable[BaseBackup],
    operations: Iterable[Operation],
    parents: Mapping[str, str | None] | None = None,
) -> list[dict[str, Any]]:
    """Complete backups, and operations that are running or failed, as plain values by column, newest first.

    The status is ``complete``, ``running`` or ``failed``; a backup that was cancelled or whose process died failed.
    The kind of an attempt is what was asked for, ``auto`` where that was left to opskit, until it is known. What an
    operation cannot know (yet) is `None`.

    Parameters
    ----------
    parents
        As `running_parents` gives them.
    """
    known = {backup.name: backup for backup in backups}
    rows = [_complete(backup, known) for backup in known.values()]
    rows += [
        _attempt(operation, parents or {})
        for operation in operations
        if operation.status is not OperationStatus.COMPLETE and operation.backup not in known
    ]
    return sorted(rows, key=lambda row: row["started_at"], reverse=True)


def running_parents(
    repository: Repository, operations: Iterable[Operation]
) -> dict[str, str | None]:
    """For the backups that are being written, what each is based on, as its claim says; `None` for a full one."""
    found = {}
    for operation in operations:
        if operation.status is OperationStatus.RUNNING and operation.backup is not None:
            with suppress(OpskitError):  # it has ended since, or says it later
                found[operation.backup] = repository.based_on(operation.cluster, operation.backup)
    return found


def chain_facts(
    backup: BaseBackup, known: Mapping[str, BaseBackup]
) -> tuple[int | None, int | None]:
    """How many backups it takes to restore one, and what it would store about as a full one, in bytes.

    Of a full one these are 1 and what it stores; both are `None` if its chain does not lead to a full backup.
    """
    if backup.kind is BackupKind.FULL:
        return 1, backup.stored_bytes
    chain = chain_of(backup, known)
    full = chain[-1]
    if full.kind is not BackupKind.FULL:
        return None, None
    share = backup.cluster_bytes / max(full.cluster_bytes, 1)
    return len(chain), round(full.stored_bytes * share)


def chain_words(backup: BaseBackup, backups: Iterable[BaseBackup]) -> list[str]:
    """What a backup is based on, and what is based on it, in sentences; none for a full one that stands alone."""
    known = {one.name: one for one in backups}
    told = []
    if backup.parent is not None:
        length, full_bytes = chain_facts(backup, known)
        whole = (
            ""
            if full_bytes is None
            else f"; a full one would take about {format_bytes(full_bytes)}"
        )
        told.append(
            f"Incremental: changes since {backup.parent}{whole}."
            if length is None
            else f"Incremental: changes since {backup.parent}, restored from a chain of {length:,}{whole}."
        )
    children = sorted(one.name for one in known.values() if one.parent == backup.name)
    if children:
        more = f" and {len(children) - 1} more are" if len(children) > 1 else " is"
        told.append(f"{children[0]}{more} based on it, so it stays as long.")
    return told


def failure_words(operation: Operation) -> str | None:
    """Why an operation did not complete; `None` while it runs."""
    if operation.status is OperationStatus.RUNNING:
        return None
    if operation.status is OperationStatus.CANCELLED:
        return "cancelled"
    if operation.status is OperationStatus.DIED:
        return "its process died"
    message: str = (operation.error or {}).get("message", "")
    return message


def _complete(backup: BaseBackup, known: Mapping[str, BaseBackup]) -> dict[str, Any]:
    row = {column: getattr(backup, column, None) for column in COLUMNS}
    for column in _TEXTS:
        row[column] = str(row[column])
    row["status"] = "complete"
    row["chain_length"], row["full_bytes"] = chain_facts(backup, known)
    return row


def _attempt(operation: Operation, parents: Mapping[str, str | None]) -> dict[str, Any]:
    kind, parent = operation.parameters.get("mode", str(BackupMode.AUTO)), None
    name = operation.backup
    if operation.status is OperationStatus.RUNNING and name is not None and name in parents:
        parent = parents[name]
        kind = str(BackupKind.FULL if parent is None else BackupKind.INCREMENTAL)
    return dict.fromkeys(COLUMNS) | {
        "name": name,
        "kind": kind,
        "parent": parent,
        "trigger": operation.parameters.get("trigger", str(Trigger.ON_DEMAND)),
        "status": shown_status(operation),
        "started_at": operation.started_at,
        "note": operation.parameters.get("note", ""),
        "reason": failure_words(operation),
    }
