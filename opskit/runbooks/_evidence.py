"""What a run's record vouches for beside its report: the backups that the run made or used."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from opskit.config import load_settings
from opskit.errors import OpskitError, unexpected
from opskit.evidence.trail import Trail
from opskit.model.backup import BaseBackup
from opskit.reports.view import View, facts
from opskit.repository.records import record_name, record_sha256
from opskit.runbooks._record import timestamp
from opskit.store import open_store

BACKUP = "application/vnd.opskit.backup+json"


def facts_of(backup: BaseBackup, rows: Mapping[str, str]) -> View:
    """Facts about a backup that the run made or uses: the record of the run will vouch for the backup's record, too."""
    told = {
        "cluster": backup.cluster,
        "name": backup.name,
        "started_at": timestamp(backup.started_at),
        "duration_seconds": round((backup.stopped_at - backup.started_at).total_seconds(), 3),
        "stored_bytes": backup.stored_bytes,
    }
    return replace(facts(rows), data={BACKUP: told})


def told_backups(notebook: Any) -> list[dict[str, Any]]:
    """Those backups, as the executed notebook tells of them."""
    return [
        output.data[BACKUP]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if BACKUP in output.get("data", {})
    ]


def open_trail(order: Mapping[str, Any]) -> Trail:
    """The audit trail that the configuration of a run names; one that cannot be opened says so, and costs nothing."""
    try:
        return Trail(load_settings(Path(order["configuration"])))
    except Exception as error:  # a report that is not filed would be worse than one outside the log
        told = error if isinstance(error, OpskitError) else unexpected(error)
        return Trail(None, f"the audit log cannot be used: {told}")


def backup_subjects(order: Mapping[str, Any], notebook: Any) -> dict[str, str]:
    """The SHA-256 of the records of those backups, by name; what cannot be read (any more) is left out."""
    found: dict[str, str] = {}
    for backup in told_backups(notebook):
        try:
            store = open_store(load_settings(Path(order["configuration"])).repository_url)
            digest = record_sha256(store, backup["cluster"], backup["name"])
        except (OpskitError, OSError, KeyError, TypeError):
            continue
        found[record_name(backup["cluster"], backup["name"])] = digest
    return found
