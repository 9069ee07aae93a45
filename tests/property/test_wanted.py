"""A restore of a chain reads of the older backups only volumes that hold something it still wants."""

import functools
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opskit.model.backup import BaseBackup
from opskit.operations.combined import known_checksums
from opskit.repository import Repository, frames, writer
from opskit.repository.compression import decompress
from opskit.repository.content import reader_of
from opskit.repository.merged import MergedArchive
from opskit.repository.volumes import Member, VolumeWriter
from opskit.store import MemoryStore
from tests.property import repeatable
from tests.support.chains import BLOCK, MadeUpChain, relations, restored


class Watched(MemoryStore):
    """Counts the bytes that were read of each volume."""

    def __init__(self) -> None:
        super().__init__()
        self.read: Counter[tuple[str, str]] = Counter()

    def get(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[memoryview]:
        """Give it, and count it if it is a volume."""
        folder, _, object_name = name.rpartition("/")
        for piece in super().get(name, start, stop):
            if object_name.startswith("snapshot-"):
                self.read[folder.rpartition("/")[2], object_name] += len(piece)
            yield piece


@settings(repeatable, max_examples=20)
@given(st.integers(0, 1 << 32).map(random.Random), st.integers(2, 5))
def test_volumes_without_anything_wanted_are_not_read(seed: random.Random, length: int) -> None:
    """With a volume for every file: of relations that were dropped, or that a newer backup has whole, none is read."""
    single = functools.partial(VolumeWriter, frame_bytes=1024, volume_bytes=1)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as work:
        patch.setattr(writer, "VolumeWriter", single)
        store = Watched()
        chain, repository = MadeUpChain(store, seed), Repository(store)
        for _ in range(length):
            chain.take()
        store.read.clear()
        found = restored(repository, chain.backups[-1].name, Path(work, "copy"))
        assert relations(found) == chain.taken[-1]
        assert_read_once(store, repository, chain.backups[-1])
        older = {read for read in store.read if read[0] != chain.backups[-1].name}
        assert older == wanted_volumes(repository, chain)


def assert_read_once(store: Watched, repository: Repository, newest: BaseBackup) -> None:
    """All of the newest backup is read once, but for its label, which the plan has read before."""
    expected = {
        (newest.name, volume.name): volume.stored_bytes * (1 + is_label)
        for volume in repository.volumes(newest)
        for is_label in [any(m.name.endswith("/backup_label") for m in volume.members)]
    }
    assert {key: count for key, count in store.read.items() if key[0] == newest.name} == expected


def wanted_volumes(repository: Repository, chain: MadeUpChain) -> set[tuple[str, str]]:
    """Those of the older backups with blocks of a file that no newer backup has."""
    lacking: dict[str, set[int]] = {}
    for member in members(repository, chain.backups[-1]):
        if member.blocks is not None:
            lacks = set(range(member.blocks.truncation)) - set(member.blocks.numbers)
            lacking[whole(member)] = lacks
    wanted = set[tuple[str, str]]()
    for backup in reversed(chain.backups[:-1]):
        for volume in repository.volumes(backup):
            for member in volume.members:
                lacks = lacking.get(whole(member), set())
                if member.blocks is not None:
                    has = lacks & set(member.blocks.numbers)
                    lacks -= has
                else:  # what lies behind its end is zeros
                    has = lacks & set(range(member.size // BLOCK))
                    lacks.clear()
                if has:
                    wanted.add((backup.name, volume.name))
    return wanted


def members(repository: Repository, backup: BaseBackup) -> Iterator[Member]:
    """All that a backup's volumes hold."""
    for volume in repository.volumes(backup):
        yield from volume.members


def whole(member: Member) -> str:
    """A file's path within the snapshot, also of one that holds what changed."""
    folder, _, name = member.name.partition("/snapshot/")[2].rpartition("/")
    return f"{folder}/{name.removeprefix('INCREMENTAL.')}"


class Never(random.Random):
    """Chooses, but sends no relation whole that has changed in part."""

    def random(self) -> float:
        """The largest."""
        return 1.0

    def getrandbits(self, k: int, /) -> int:
        """As ever: choices are made of these."""
        return super().getrandbits(k)


class Written(MadeUpChain):
    """Nothing but blocks of it changes."""

    def _change(self) -> None:
        for _ in range(8):
            self._write()


def test_of_a_long_chain_each_frame_is_decompressed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A download has a frame of each of 24 backups in use, block by block: none is decompressed again for the next."""
    repository = Repository(store := MemoryStore())
    chain = Written(store, Never(24), largest=400)
    for _ in range(24):
        chain.take()
    content = repository.content(chain.backups[-1])
    decompressed: list[bytes] = []

    def counted(stored: bytes) -> bytes:
        decompressed.append(stored)
        return decompress(stored)

    monkeypatch.setattr(frames, "decompress", counted)
    archive = MergedArchive(
        content,
        repository.manifest(chain.backups[-1]),
        reader_of(repository, content.chain),
        known_checksums(repository, content),
    )
    assert sum(map(len, archive.read())) > 0
    assert len(decompressed) == len(set(decompressed)) > 16
