"""Backups that no server ever gave, whose archives are tar nevertheless, of whatever size."""

import hashlib
import io
import random
import tarfile
from dataclasses import replace
from datetime import UTC, datetime

import zstandard

from opskit.model.backup import BaseBackup, write_record
from opskit.model.wal import WalSegment
from opskit.repository import Repository
from opskit.repository.index import write_index
from opskit.repository.volumes import Volume, volume_name
from opskit.store import Store
from tests.support.repositories import SEGMENT, made_up_backup
from tests.support.wal import made_up

SEGMENT_NUMBER = 5


def archived_backup(store: Store, *, volumes: int = 2, volume_bytes: int = 300_000) -> BaseBackup:
    """A backup of ``main`` within the WAL segment `SEGMENT_NUMBER`, of volumes of about so many bytes each."""
    made = made_up_backup(store, datetime(2026, 11, 20, 2, tzinfo=UTC), SEGMENT_NUMBER)
    folder = f"main/backups/{made.name}"
    kept = [_volume(store, folder, made.name, n, volume_bytes) for n in range(1, volumes + 1)]
    index = write_index(kept)
    backup = replace(
        made,
        volumes=volumes,
        stored_bytes=sum(volume.stored_bytes for volume in kept),
        index_sha256=hashlib.sha256(index).hexdigest(),
    )
    store.put(f"{folder}/index.json.zst", [index], replace=True)
    store.put(f"{folder}/backup.json", [write_record(backup)], replace=True)
    return backup


def wal_of(segment: int, fill: bytes = b"w") -> bytes:
    """What the WAL segment of that number holds."""
    return made_up(WalSegment(1, segment, SEGMENT), fill=fill)


def archive_wal(repository: Repository, number: int) -> None:
    """Archive a whole segment of timeline 1."""
    segment = WalSegment(1, number, SEGMENT)
    repository.wal("main", SEGMENT).put_segment(segment, wal_of(number))


def archive_partial(repository: Repository, number: int, size: int) -> None:
    """Archive the beginning of a segment of timeline 1."""
    segment = WalSegment(1, number, SEGMENT)
    repository.wal("main", SEGMENT).put_partial(segment, wal_of(number)[:size])


def _volume(store: Store, folder: str, backup: str, number: int, size: int) -> Volume:
    content = random.Random(number).randbytes(size)
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as members:
        member = tarfile.TarInfo(f"data/backup/{backup}/snapshot/data/{number}")
        member.size = size
        members.addfile(member, io.BytesIO(content))
    # What ends a tar archive comes once, behind all volumes.
    plain = tar.getvalue()[: tarfile.BLOCKSIZE + -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE]
    stored: bytes = zstandard.ZstdCompressor(level=1, write_checksum=True).compress(plain)
    store.put(f"{folder}/{volume_name(number)}", [stored], replace=True)
    return Volume(
        name=volume_name(number),
        stored_bytes=len(stored),
        tar_bytes=len(plain),
        sha256=hashlib.sha256(stored).hexdigest(),
        frames=(len(stored),),
        members=(),
    )
