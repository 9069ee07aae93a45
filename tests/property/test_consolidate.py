"""Chains that are consolidated at random places restore to what they were, every backup of them."""

import functools
import random
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opskit.model.backup import BackupKind
from opskit.operations import consolidate
from opskit.operations.consolidate import execute_consolidate, plan_consolidate
from opskit.operations.inventory import read_backups, take_inventory
from opskit.operations.monitor import SilentMonitor
from opskit.repository import Repository, writer
from opskit.repository.volumes import VolumeWriter
from opskit.store import MemoryStore
from tests.property import repeatable
from tests.support.chains import MadeUpChain, relations, restored

NOW = datetime(2026, 11, 24, tzinfo=UTC)


chains = given(
    st.integers(0, 1 << 32).map(random.Random),
    st.integers(2, 5),
    st.sampled_from((512, 1024, 4096)),
    st.sampled_from((1, 5000, 1 << 20)),
)


@settings(repeatable, max_examples=5)
@chains
def test_every_backup_of_a_chain_restores_as_before(
    seed: random.Random, length: int, frame_bytes: int, volume_bytes: int
) -> None:
    """Whichever of them become full, in whatever order; and an increment on one of them restores, too."""
    assert_restore_as_before(seed, length, frame_bytes, volume_bytes)


@pytest.mark.sweep
@settings(repeatable, max_examples=300)
@chains
def test_many_chains_restore_as_before(
    seed: random.Random, length: int, frame_bytes: int, volume_bytes: int
) -> None:
    """The same of many more."""
    assert_restore_as_before(seed, length, frame_bytes, volume_bytes)


def assert_restore_as_before(
    seed: random.Random, length: int, frame_bytes: int, volume_bytes: int
) -> None:
    """Take a chain, consolidate some of it, go on with it; what each backup restores to stays the same."""
    small = functools.partial(VolumeWriter, frame_bytes=frame_bytes, volume_bytes=volume_bytes)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as work:
        patch.setattr(writer, "VolumeWriter", small)
        patch.setattr(consolidate, "COPIED_BYTES", frame_bytes)
        store = MemoryStore()
        chain = MadeUpChain(store, seed)
        for _ in range(length):
            chain.take()
        repository = Repository(store)
        before = {
            b.name: restored(repository, b.name, Path(work, f"{b.name}-before"))
            for b in chain.backups
        }
        for number, backup in enumerate(seed.sample(chain.backups[1:], seed.randrange(1, length))):
            done = execute_consolidate(
                plan_consolidate(repository, "main", backup.name),
                repository,
                NOW + timedelta(seconds=number),
                SilentMonitor(),
                is_read=lambda: False,
            )
            assert repository.backup("main", backup.name) == done
            assert (done.kind, done.parent) == (BackupKind.FULL, None)
        chain.backups[-1] = repository.backup("main", chain.backups[-1].name)
        newest = chain.take()
        for backup, files in zip(chain.backups, chain.taken, strict=True):
            found = restored(repository, backup.name, Path(work, f"{backup.name}-after"))
            assert found == before.get(backup.name, found)
            assert relations(found) == files
        assert len(repository.chain(newest)) <= length + 1
        inventory = take_inventory(repository, "main")
        assert (inventory.flaws, inventory.unknown) == ((), ())
        assert list(read_backups(repository, repository.backups("main"))) == []
