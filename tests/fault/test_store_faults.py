"""One failure of the store at every single call of a backup: loud, without a trace, and over with the next backup."""

import functools
import shutil
from pathlib import Path

import pytest

from opskit.errors import ErrorKind, IntegrityError, StoreError
from opskit.operations.download import ArchiveFormat, download
from opskit.operations.monitor import SilentMonitor
from opskit.operations.restore import execute_restore, plan_restore
from opskit.postgres.server import LocalServer
from opskit.repository import Repository, Survey, writer
from opskit.repository.volumes import VolumeWriter
from opskit.store import LocalStore, MemoryStore, Store
from tests.servers import ServerFactory
from tests.support.backups import assert_free, assert_restores, mark, take
from tests.support.faulty import FaultyStore, Moment


@pytest.fixture(autouse=True)
def small_volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut volumes so small that a tiny cluster has several."""
    small = functools.partial(VolumeWriter, volume_bytes=6 << 20, frame_bytes=1 << 20)
    monkeypatch.setattr(writer, "VolumeWriter", small)


@pytest.fixture
def source(server: ServerFactory) -> LocalServer:
    """A tiny cluster."""
    source = server(wal_segment_megabytes=1)
    mark(source)
    return source


def files_of(directory: Path) -> set[str]:
    """The names of the objects below a local store's directory."""
    return {str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()}


@pytest.mark.parametrize("programs", [18], indirect=True)
@pytest.mark.parametrize("moment", Moment)
def test_a_fault_at_every_call(source: LocalServer, scratch: Path, moment: Moment) -> None:
    """It ends in its StoreError, lists nothing, leaves no object, slot or lock; the next backup is whole."""
    counting = FaultyStore(LocalStore(scratch / "counted"))
    take(source, Repository(counting))
    assert sum("snapshot-" in call for call in counting.calls) >= 3
    for at in range(1, len(counting.calls) + 1):
        directory = scratch / f"repository{at}"
        store = FaultyStore(LocalStore(directory), at=at, moment=moment)
        with pytest.raises(StoreError, match="injected") as raised:
            take(source, Repository(store))
        assert raised.value.kind is ErrorKind.STORE_FAILED
        what = f"call {at}: {store.calls[at - 1]}"
        assert store.struck == 1, what
        assert files_of(directory) <= {"repository.json", "main/cluster.json"}, what
        assert_free(source)
        repository = Repository(LocalStore(directory))
        assert repository.survey("main") == Survey((), (), {}), what
        backup = take(source, repository)
        assert repository.backups("main") == [backup], what
        assert sum(volume.tar_bytes for volume in repository.volumes(backup)) > backup.cluster_bytes
    assert_restores(source, repository, backup, scratch / "copy")


@pytest.mark.parametrize("programs", [17], indirect=True)
@pytest.mark.parametrize("moment", Moment)
def test_a_store_that_stays_broken(source: LocalServer, scratch: Path, moment: Moment) -> None:
    """Where nothing can be removed either, what is left behind is no backup, and the next one is whole."""
    verbs = ("put", "delete")
    counting = FaultyStore(MemoryStore(), verbs=verbs)
    take(source, Repository(counting))
    names = [call.rpartition("/")[2] for call in counting.calls]
    chosen = {1, names.index("snapshot-00001.tar.zst") + 1, len(names) - 1, len(names)}
    for at in sorted(chosen):
        inner = LocalStore(scratch / f"repository{at}")
        store = FaultyStore(inner, at=at, moment=moment, verbs=verbs, lasting=True)
        with pytest.raises(StoreError, match="injected"):
            take(source, Repository(store))
        repository = Repository(inner)
        assert repository.backups("main") == [], names[at - 1]
        assert_free(source)
        backup = take(source, repository)
        assert repository.backups("main") == [backup]
    assert_restores(source, repository, backup, scratch / "copy")


@pytest.mark.parametrize("programs", [18], indirect=True)
def test_a_volume_that_is_forced_away(source: LocalServer) -> None:
    """What an expire by a clock that is days ahead takes from a backup while it is written makes that fail."""
    store = MemoryStore()

    class Clumsy(SilentMonitor):
        """Removes what is unfinished, as soon as all of it is stored."""

        def check(self) -> None:
            """See `Monitor`."""
            repository = Repository(store)
            for name in repository.names("main"):
                if any("index.json" in stat.name for stat in repository.objects("main")):
                    repository.remove_backup("main", name)

    with pytest.raises(IntegrityError, match="is damaged"):
        take(source, Repository(store), monitor=Clumsy())
    assert Repository(store).survey("main") == Survey((), (), {})


def test_a_record_that_cannot_be_taken_back(source: LocalServer, scratch: Path) -> None:
    """Where the record was put, its answer lost, and its removal refused: it is still a backup that restores."""
    calls = FaultyStore(MemoryStore(), verbs=("put",))
    take(source, Repository(calls))
    inner = LocalStore(scratch / "repository")
    refusing = FaultyStore(inner, at=2, verbs=("delete",), lasting=True)  # the name's claim goes
    last = len(calls.calls)
    store = FaultyStore(refusing, at=last, moment=Moment.AFTER, verbs=("put",))
    with pytest.raises(StoreError, match="injected"):
        take(source, Repository(store))
    repository = Repository(inner)
    [backup] = repository.backups("main")
    assert_restores(source, repository, backup, scratch / "copy")


@pytest.mark.parametrize("programs", [18], indirect=True)
@pytest.mark.parametrize("moment", [Moment.BEFORE, Moment.MIDDLE])
def test_a_fault_at_every_call_of_a_restore(
    source: LocalServer, scratch: Path, moment: Moment
) -> None:
    """Restore and download end in the store's error and leave their target as it was; the next ones succeed."""
    inner = LocalStore(scratch / "repository")
    backup = take(source, Repository(inner))
    target, archive = scratch / "copy", scratch / "main.tar.zst"

    def restore(store: Store) -> None:
        repository = Repository(store)
        plan = plan_restore(repository.backup("main", backup.name), target)
        execute_restore(plan, repository, SilentMonitor(), owner=None)

    def fetch(store: Store) -> None:
        repository = Repository(store)
        chosen = repository.backup("main", backup.name)
        archive_format = ArchiveFormat.TAR_ZST
        download(
            repository, chosen, archive, archive_format=archive_format, monitor=SilentMonitor()
        )

    for work in (restore, fetch):
        counting = FaultyStore(inner)
        work(counting)
        for made in (target, archive):
            shutil.rmtree(made) if made.is_dir() else made.unlink(missing_ok=True)
        before = set(scratch.iterdir())
        assert len(counting.calls) > 4
        for at in range(1, len(counting.calls) + 1):
            with pytest.raises(StoreError, match="injected"):
                work(FaultyStore(inner, at=at, moment=moment))
            assert set(scratch.iterdir()) == before
        work(inner)
