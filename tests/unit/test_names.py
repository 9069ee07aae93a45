"""Names of backups: one each, and the last backup has the greatest, whatever clocks say."""

from datetime import timedelta

from opskit.repository import Repository
from opskit.store import MemoryStore
from tests.support.records import EPOCH, record


def test_names_rise_though_clocks_go_back() -> None:
    """What is backed up last is the latest, and keeps its own time; a folder that no time names changes nothing."""
    store = MemoryStore()
    repository = Repository(store)
    store.put("main/backups/99999999T999999Z/stray", [b""])
    names = []
    for hours in (0, 3, 1, 1, -9000, 4):
        started_at = EPOCH + timedelta(hours=hours)
        writer = repository.new_backup("main", started_at)
        writer.volumes.finish()
        writer.commit(record(started_at, name=writer.name))
        assert repository.backup("main").name == writer.name
        assert repository.backup("main").started_at == started_at
        names.append(writer.name)
    assert names == sorted(set(names))
