"""Records of backups that nobody took, for what only reads records."""

from datetime import UTC, datetime, timedelta
from typing import Any

from opskit.model.backup import BackupKind, BaseBackup, Trigger, backup_name
from opskit.model.lsn import Lsn

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
SEGMENT_BYTES = 1 << 20


def record(started_at: datetime, **changed: Any) -> BaseBackup:
    """A full, scheduled backup that took a minute and began at the WAL address of its time, a segment an hour."""
    hours = int((started_at - EPOCH) / timedelta(hours=1))
    values: dict[str, Any] = {
        "name": backup_name(started_at),
        "cluster": "main",
        "system_identifier": "7000000000000000001",
        "postgresql_version": "18.0",
        "kind": BackupKind.FULL,
        "trigger": Trigger.SCHEDULED,
        "parent": None,
        "started_at": started_at,
        "stopped_at": started_at + timedelta(minutes=1),
        "start_lsn": Lsn(max(hours, 1) * SEGMENT_BYTES + 40),
        "stop_lsn": Lsn(max(hours, 1) * SEGMENT_BYTES + 400),
        "timeline": 1,
        "wal_segment_bytes": SEGMENT_BYTES,
        "data_checksums": True,
        "superuser": "focker",
        "tablespaces": (),
        "cluster_bytes": 1000,
        "stored_bytes": 100,
        "volumes": 1,
        "index_sha256": "0" * 64,
        "manifest_sha256": "0" * 64,
        "note": "",
        "opskit_version": "0",
    }
    return BaseBackup(**{**values, **changed})
