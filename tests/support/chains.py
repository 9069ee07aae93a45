"""Chains of backups that no server ever gave: real volumes, labels and manifests of files that change at random."""

import hashlib
import io
import json
import random
import struct
import tarfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from crc32c import crc32c

from opskit.model.backup import BackupKind, BaseBackup, Tablespace, Trigger
from opskit.model.lsn import Lsn
from opskit.model.manifest import checksum_text
from opskit.operations.monitor import SilentMonitor
from opskit.operations.restore import execute_restore, plan_restore
from opskit.repository import Repository
from opskit.repository.snapshot import SnapshotWriter
from opskit.store import Store
from tests.support.wal import SYSTEM

BEGAN = datetime(2026, 11, 22, 13, 3, 5, tzinfo=UTC)
BLOCK = 512
SPACE = 16000
_SEGMENT = 1 << 20
_ALWAYS = {
    "PG_VERSION": b"18\n",
    "global/pg_control": b"control" * 100,
    "postgresql.auto.conf": b"# nothing\n",
}


class MadeUpChain:
    """A cluster of relations, some in a tablespace, and the chain of its backups of ``main``, the full one first.

    Attributes
    ----------
    files
        The relations as they are now, by their paths in the manifest.
    """

    def __init__(self, store: Store, seed: random.Random, *, largest: int = 40) -> None:
        self.backups: list[BaseBackup] = []
        self.files: dict[str, bytes] = {}
        self.taken: list[dict[str, bytes]] = []
        self._repository, self._seed, self._largest = Repository(store), seed, largest
        self._made = 0
        self._repository.claim_cluster("main", SYSTEM, 18, _SEGMENT)
        for _ in range(4):
            self._new()

    def take(self, *, full: bool = False) -> BaseBackup:
        """Change something, and back up; an increment to the last one, if there is one."""
        before = self.taken[-1] if self.taken and not full else None
        if self.taken:
            self._change()
        count = len(self.taken)
        started_at = BEGAN + timedelta(hours=count)
        lsn = Lsn((count + 2) * _SEGMENT + 40)
        parent = self.backups[-1] if before is not None else None
        label = f"START WAL LOCATION: {lsn} (file 0)\nLABEL: opskit {count}\n"
        if parent is not None:
            label += f"INCREMENTAL FROM LSN: {parent.start_lsn}\nINCREMENTAL FROM TLI: 1\n"
        sent = {"backup_label": label.encode(), **_ALWAYS}
        for path, content in self.files.items():
            sent.update([self._sent(path, content, before)])
        sent[f"pg_wal/{count:024X}"] = self._seed.randbytes(3 * BLOCK)
        backup = self._stored(sent, started_at, lsn, parent)
        self.backups.append(backup)
        self.taken.append(dict(self.files))
        return backup

    def _sent(
        self, path: str, content: bytes, before: Mapping[str, bytes] | None
    ) -> tuple[str, bytes]:
        """As the server sends a relation: whole, or what changed of it."""
        former = None if before is None else before.get(path)
        if former is None or self._seed.random() < 0.1:
            return path, content
        length = min(len(former), len(content)) // BLOCK
        changed = [
            n
            for n in range(len(content) // BLOCK)
            if n >= length or _block(former, n) != _block(content, n)
        ]
        header = struct.pack(f"<III{len(changed)}I", 0xD3AE1F0D, len(changed), length, *changed)
        if changed:
            header += bytes(-len(header) % BLOCK)
        folder, _, name = path.rpartition("/")
        blocks = b"".join(_block(content, n) for n in changed)
        return f"{folder}/INCREMENTAL.{name}", header + blocks

    def _stored(
        self, sent: dict[str, bytes], started_at: datetime, lsn: Lsn, parent: BaseBackup | None
    ) -> BaseBackup:
        name = None if parent is None else parent.name
        writer = self._repository.new_backup("main", started_at, name)
        snapshot = SnapshotWriter(
            writer.volumes,
            writer.name,
            own_files={
                "README": b"read me\n",
                "conf/postgresql.conf": b"data_directory = 'data'\n",
            },
            tablespaces=(SPACE,),
            made_at=started_at,
            block_bytes=None if parent is None else BLOCK,
        )
        place = f"pg_tblspc/{SPACE}/"
        spaced = {p.removeprefix(place): c for p, c in sent.items() if p.startswith(place)}
        rest = {p: c for p, c in sent.items() if not p.startswith(place)}
        snapshot.start_archive(SPACE)
        snapshot.feed(memoryview(_tar(spaced)))
        snapshot.start_archive(None)
        snapshot.feed(memoryview(_tar({place.rstrip("/"): None, **rest})))
        manifest = _manifest(sent)
        snapshot.finish(manifest)
        volumes = writer.volumes.finish()
        content = snapshot.content_bytes
        backup = BaseBackup(
            name=writer.name,
            cluster="main",
            system_identifier=SYSTEM,
            postgresql_version="18.1",
            kind=BackupKind.FULL if parent is None else BackupKind.INCREMENTAL,
            trigger=Trigger.SCHEDULED,
            parent=name,
            started_at=started_at,
            stopped_at=started_at + timedelta(seconds=90),
            start_lsn=lsn,
            stop_lsn=Lsn(int(lsn) + 400),
            timeline=1,
            wal_segment_bytes=_SEGMENT,
            data_checksums=True,
            superuser="focker",
            tablespaces=(
                Tablespace(
                    oid=SPACE, name="s", location="/s", tablespace_bytes=content.get(SPACE, 0)
                ),
            ),
            cluster_bytes=sum(content.values()),
            stored_bytes=sum(volume.stored_bytes for volume in volumes),
            volumes=len(volumes),
            manifest_sha256=writer.put_manifest(manifest),
            index_sha256=writer.put_index(volumes),
            note="before the migration",
            opskit_version="0",
            parent_start_lsn=None if parent is None else parent.start_lsn,
        )
        writer.commit(backup)
        return backup

    def _change(self) -> None:
        for _ in range(self._seed.randrange(1, 5)):
            self._seed.choice([self._new, self._drop, self._write, self._write, self._resize])()

    def _new(self) -> None:
        self._made += 1
        folder = self._seed.choice(["base/5", f"pg_tblspc/{SPACE}/PG_18_1/5", "global"])
        self.files[f"{folder}/{self._made}"] = self._blocks(self._seed.randrange(self._largest))

    def _drop(self) -> None:
        if len(self.files) > 2:
            del self.files[self._seed.choice(sorted(self.files))]

    def _write(self) -> None:
        path = self._seed.choice(sorted(self.files))
        content = bytearray(self.files[path])
        for _ in range(self._seed.randrange(1, 4)):
            if content:
                at = self._seed.randrange(len(content) // BLOCK) * BLOCK
                content[at : at + BLOCK] = self._blocks(1)
        self.files[path] = bytes(content)

    def _resize(self) -> None:
        path, size = self._seed.choice(sorted(self.files)), self._seed.randrange(self._largest)
        content = self.files[path][: size * BLOCK]
        self.files[path] = content + self._blocks(size - len(content) // BLOCK)

    def _blocks(self, count: int) -> bytes:
        return b"".join(
            self._seed.randbytes(BLOCK // 4).ljust(BLOCK, b"x") for _ in range(max(count, 0))
        )


def restored(repository: Repository, name: str, directory: Path) -> dict[str, bytes]:
    """What a restore of a backup writes, by path."""
    plan = plan_restore(repository.backup("main", name), directory)
    execute_restore(plan, repository, SilentMonitor(), owner=None)
    return {
        str(path.relative_to(directory)): str(path.readlink()).encode()
        if path.is_symlink()
        else path.read_bytes()
        for path in directory.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def relations(found: Mapping[str, bytes]) -> dict[str, bytes]:
    """The relations among restored files, as `MadeUpChain.files` has them."""
    named = {
        path.removeprefix("snapshot/")
        .removeprefix("data/")
        .replace("tablespaces/", "pg_tblspc/"): c
        for path, c in found.items()
    }
    return {
        path: content
        for path, content in named.items()
        if path.startswith(("base/", "global/", f"pg_tblspc/{SPACE}/"))
        and path.rpartition("/")[2].isdigit()
    }


def _block(content: bytes, number: int) -> bytes:
    return content[number * BLOCK : (number + 1) * BLOCK]


def _tar(files: Mapping[str, bytes | None]) -> bytes:
    """As the server's archives are; without content it is a link."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.mode, info.mtime = 0o600, int(BEGAN.timestamp())
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/s"
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content or b""))
    return made.getvalue()


def _manifest(sent: Mapping[str, bytes]) -> bytes:
    files = [
        {
            "Path": path,
            "Size": len(content),
            "Last-Modified": "2026-11-22 02:00:00 GMT",
            "Checksum-Algorithm": "CRC32C",
            "Checksum": checksum_text(crc32c(content)),
        }
        for path, content in sent.items()
        if not path.startswith("pg_wal/")
    ]
    lines = ",\n".join(json.dumps(file) for file in files)
    text = (
        f'{{ "PostgreSQL-Backup-Manifest-Version": 2,\n"System-Identifier": {SYSTEM},\n"Files": [\n{lines}\n],\n'
        '"WAL-Ranges": [\n{ "Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/2000158" }\n],\n'
    ).encode()
    return text + f'"Manifest-Checksum": "{hashlib.sha256(text).hexdigest()}"}}\n'.encode()
