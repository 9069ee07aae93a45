"""Acknowledged is durable: whatever the storage does, the server keeps what the archive has not got."""

import random
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from opskit.repository import Repository
from opskit.repository.wal import WalArchive
from opskit.store import LocalStore
from tests.servers import ServerFactory
from tests.support.backups import wait_until
from tests.support.faulty import FaultyStore, Moment
from tests.support.majors import newest_first
from tests.support.slots import restart_lsn
from tests.support.streams import (
    KEPT,
    archived,
    assert_complete,
    assert_contiguous,
    caught_up,
    streaming,
)

pytestmark = newest_first
WRITE = "INSERT INTO written SELECT repeat(i::text, 20) FROM generate_series(1, 20000) i"


class BlockingStore(LocalStore):
    """A store whose puts of WAL wait while it is blocked."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.free = threading.Event()
        self.waiting = threading.Event()

    def put(self, name: str, chunks: Iterable[bytes | memoryview], *, replace: bool = False) -> int:
        """See `Store.put`."""
        if "/wal/" in name and not self.free.is_set():
            self.waiting.set()
            self.free.wait()
        return super().put(name, chunks, replace=replace)


def durable(archive: WalArchive) -> int:
    """Up to where the archive has everything from its beginning on."""
    ranges = archive.ranges(1)
    return int(ranges[0].end) if len(ranges) > 1 else archived(archive)


@pytest.fixture
def healthy(scratch: Path) -> Repository:
    """The repository when its storage is well."""
    return Repository(LocalStore(scratch / "repository"))


@pytest.mark.parametrize("moment", list(Moment))
@pytest.mark.parametrize("lasting", [True, False])
def test_the_slot_never_passes_what_a_failing_store_has(
    server: ServerFactory,
    healthy: Repository,
    scratch: Path,
    seed: random.Random,
    moment: Moment,
    lasting: bool,
) -> None:
    """A put of WAL fails, once or for good: no gap, no slot ahead of the archive, and the next start goes on."""
    source = server(KEPT, wal_segment_megabytes=1)
    source.query("CREATE TABLE written (text text)")
    with streaming(source, healthy):
        caught_up(source, lambda: healthy.known_wal("main"))
    store = FaultyStore(
        LocalStore(scratch / "repository"),
        at=seed.randint(1, 8),
        verbs=("put",),
        moment=moment,
        lasting=lasting,
    )
    archive = healthy.known_wal("main")
    with streaming(source, Repository(store)):
        for _ in range(3):
            source.query(WRITE)
            assert restart_lsn(source) <= durable(archive)
        wait_until(lambda: bool(store.struck))
        assert restart_lsn(source) <= durable(archive)
    assert_contiguous(archive)
    assert restart_lsn(source) <= durable(archive)
    with streaming(source, healthy):
        caught_up(source, lambda: healthy.known_wal("main"))
    assert assert_complete(archive, source) >= 3


def test_the_slot_waits_for_a_store_that_blocks(
    server: ServerFactory, healthy: Repository, scratch: Path
) -> None:
    """While a put hangs the slot stays, and the server goes on; then all of it is stored."""
    source = server(KEPT, wal_segment_megabytes=1)
    source.query("CREATE TABLE written (text text)")
    with streaming(source, healthy):
        caught_up(source, lambda: healthy.known_wal("main"))
    archive, before = healthy.known_wal("main"), restart_lsn(source)
    store = BlockingStore(scratch / "repository")
    with streaming(source, Repository(store)):
        try:
            for _ in range(3):
                source.query(WRITE)
            assert store.waiting.wait(60)
            assert restart_lsn(source) == before <= durable(archive)
        finally:
            store.free.set()
        caught_up(source, lambda: archive)
    assert assert_complete(archive, source) >= 3
