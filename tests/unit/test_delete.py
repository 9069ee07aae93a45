"""Deleting one backup by hand: what goes with it, and when it is refused."""

from datetime import UTC, datetime, timedelta

import pytest

from opskit.errors import ConflictError, ErrorKind, InputError, NotFoundError
from opskit.model.backup import BackupKind, BaseBackup, write_record
from opskit.model.retention import Hold
from opskit.operations.delete import execute_delete, plan_delete
from opskit.operations.expire import ExpirePlan
from opskit.operations.inventory import take_inventory
from opskit.operations.monitor import SilentMonitor
from opskit.repository import Repository
from opskit.store import MemoryStore
from tests.support.records import record
from tests.support.repositories import made_up_backup, made_up_wal

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def filled(count: int = 3) -> tuple[Repository, list[BaseBackup], MemoryStore]:
    """Nightly backups, newest first, with WAL from before the first on."""
    store = MemoryStore()
    backups = [
        made_up_backup(store, NOW - timedelta(days=count - n), 10 + 2 * n) for n in range(count)
    ]
    made_up_wal(store, range(8, 20))
    return Repository(store), backups[::-1], store


def segments(repository: Repository) -> list[int]:
    """The numbers of the WAL segments."""
    return [stored.segment.number for stored in repository.known_wal("main").segments(1)]


def deleted(repository: Repository, plan: ExpirePlan) -> None:
    """Carry a plan out."""
    execute_delete(plan, repository, NOW, SilentMonitor())


def test_the_oldest_takes_its_wal_along() -> None:
    """The backup goes, and the WAL up to the oldest that is left; the rest is whole."""
    repository, backups, _ = filled()
    plan = plan_delete(repository, "main", backups[-1].name, NOW)
    assert [b.name for b in plan.expired] == [backups[-1].name]
    assert [stored.segment.number for stored in plan.wal] == [8, 9, 10, 11]
    assert plan.freed_bytes > backups[-1].stored_bytes
    deleted(repository, plan)
    assert repository.backups("main") == backups[:-1]
    assert segments(repository) == list(range(12, 20))
    assert take_inventory(repository, "main").flaws == ()


@pytest.mark.parametrize("position", [0, 1])
def test_another_one_leaves_the_wal(position: int) -> None:
    """The way of the older backups through the WAL stays as it was, whichever newer one goes."""
    repository, backups, _ = filled()
    plan = plan_delete(repository, "main", backups[position].name, NOW)
    assert [s.segment.number for s in plan.wal] == [8, 9]
    deleted(repository, plan)
    assert segments(repository) == list(range(10, 20))
    assert backups[position] not in repository.backups("main")


def test_the_last_one_is_deleted_only_when_that_is_said() -> None:
    """Without it nothing could be restored any more; and what WAL is there may be a next backup's."""
    repository, [only], _ = filled(1)
    with pytest.raises(ConflictError, match="is the last one") as refused:
        plan_delete(repository, "main", only.name, NOW)
    assert refused.value.kind is ErrorKind.BACKUP_KEPT and "even_last" in refused.value.hint
    plan = plan_delete(repository, "main", only.name, NOW, even_last=True)
    deleted(repository, plan)
    assert repository.backups("main") == []
    assert segments(repository) == list(range(8, 20))


def test_what_is_needed_is_refused() -> None:
    """A held backup, one that is read, and the parent of another one stay, and the reason is told."""
    repository, backups, store = filled()
    held, read, parent = backups
    repository.holds("main").place(Hold(backup=held.name, by="anna", reason="audit", placed_at=NOW))
    child = record(NOW, parent=parent.name, kind=BackupKind.INCREMENTAL)
    store.put(f"main/backups/{child.name}/backup.json", [write_record(child)])
    with pytest.raises(ConflictError, match="held by anna: audit") as refused:
        plan_delete(repository, "main", held.name, NOW)
    assert f"opskit release main {held.name}" in refused.value.hint
    with pytest.raises(ConflictError, match="restore 1f reads it"):
        plan_delete(repository, "main", read.name, NOW, in_use={read.name: "restore 1f reads it"})
    with pytest.raises(ConflictError, match=f"parent of {child.name}"):
        plan_delete(repository, "main", parent.name, NOW, even_last=True)
    assert len(repository.backups("main")) == 4


def test_a_hold_that_came_since_the_plan_is_kept() -> None:
    """Whoever holds a backup while somebody thinks about its plan has it."""
    repository, backups, _ = filled()
    plan = plan_delete(repository, "main", backups[1].name, NOW)
    hold = Hold(backup=backups[1].name, by="anna", reason="", placed_at=NOW)
    repository.holds("main").place(hold)
    with pytest.raises(ConflictError, match="held by anna"):
        deleted(repository, plan)
    assert backups[1] in repository.backups("main")


@pytest.mark.parametrize(
    ("name", "error"), [("latest", InputError), ("20200101T000000Z", NotFoundError)]
)
def test_a_backup_is_named_in_full(name: str, error: type[Exception]) -> None:
    """Nobody deletes what happens to be the latest, nor what is not there."""
    repository, *_ = filled()
    with pytest.raises(error):
        plan_delete(repository, "main", name, NOW)
