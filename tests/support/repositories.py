"""Repositories with backups that no server ever gave: whole by every record and checksum."""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta

from opskit.model.backup import BaseBackup, write_record
from opskit.model.lsn import Lsn
from opskit.model.wal import WalSegment
from opskit.repository import Repository
from opskit.repository.compression import compress
from opskit.repository.index import write_index
from opskit.repository.volumes import Volume, volume_name
from opskit.store import Store
from tests.support.records import record
from tests.support.wal import SYSTEM, made_up

SEGMENT = 1 << 20


def made_up_backup(
    store: Store, stopped_at: datetime, segment: int, *, volumes: int = 2
) -> BaseBackup:
    """Store a backup of ``main`` that ended then, within the WAL segment of that number."""
    name = f"{stopped_at - timedelta(seconds=90):%Y%m%dT%H%M%SZ}"
    Repository(store).claim_cluster("main", SYSTEM, 18, SEGMENT)
    kept = []
    for number in range(1, volumes + 1):
        content = compress(f"{name} {number} ".encode() * 1000)
        store.put(f"main/backups/{name}/{volume_name(number)}", [content])
        kept.append(
            Volume(
                name=volume_name(number),
                stored_bytes=len(content),
                tar_bytes=1,
                sha256=hashlib.sha256(content).hexdigest(),
                frames=(len(content),),
                members=(),
            )
        )
    index, manifest = write_index(kept), compress(b'{ "Path": "x" }')
    backup = record(
        stopped_at - timedelta(seconds=90),
        system_identifier=SYSTEM,
        postgresql_version="18.1",
        stopped_at=stopped_at,
        start_lsn=Lsn(segment * SEGMENT + 40),
        stop_lsn=Lsn(segment * SEGMENT + 400),
        cluster_bytes=20_000,
        stored_bytes=sum(volume.stored_bytes for volume in kept),
        volumes=volumes,
        index_sha256=hashlib.sha256(index).hexdigest(),
        manifest_sha256=hashlib.sha256(manifest).hexdigest(),
    )
    store.put(f"main/backups/{name}/index.json.zst", [index])
    store.put(f"main/backups/{name}/backup_manifest.zst", [manifest])
    store.put(f"main/backups/{name}/backup.json", [write_record(backup)])
    return backup


def made_up_wal(store: Store, numbers: Sequence[int]) -> None:
    """Store WAL segments of ``main`` on timeline 1."""
    archive = Repository(store).known_wal("main")
    for number in numbers:
        segment = WalSegment(1, number, SEGMENT)
        archive.put_segment(segment, made_up(segment, pages=2))
