"""A consolidation that is cut off anywhere: the chain is as it was or the backup is full, and the next run ends it."""

import errno
import random
import resource
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path

import pytest

from opskit.errors import Cancelled, ConflictError, ErrorKind, IntegrityError, StoreError
from opskit.model.backup import BackupKind, BaseBackup
from opskit.model.operation import Progress
from opskit.model.retention import Hold, Retention
from opskit.operations import consolidate
from opskit.operations.consolidate import execute_consolidate, plan_consolidate
from opskit.operations.delete import plan_delete
from opskit.operations.expire import execute_expire, plan_expire
from opskit.operations.inventory import take_inventory
from opskit.operations.monitor import Monitor, SilentMonitor
from opskit.repository import Repository, writer
from opskit.repository.volumes import VolumeWriter
from opskit.store import LocalStore, MemoryStore, Store
from tests.support.chains import MadeUpChain, restored
from tests.support.faulty import FaultyStore, Moment
from tests.support.machine import small_disk

NOW = datetime.now(UTC).replace(microsecond=0)
LATER = NOW + timedelta(days=2)
Objects = dict[str, bytes]


@pytest.fixture(autouse=True)
def small_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut frames and volumes so small that a tiny cluster has many of them."""
    small = partial(VolumeWriter, frame_bytes=4096, volume_bytes=30_000)
    monkeypatch.setattr(writer, "VolumeWriter", small)
    monkeypatch.setattr(consolidate, "COPIED_BYTES", 4096)


@cache
def chained() -> tuple[MemoryStore, BaseBackup]:
    """Four backups, each based on the one before; the last but one is what is consolidated."""
    store = MemoryStore()
    chain = MadeUpChain(store, random.Random(7), largest=160)
    for _ in range(4):
        chain.take()
    return store, chain.backups[2]


def objects(store: Store) -> Objects:
    """All that is in a store, below ``main``."""
    return {stat.name: b"".join(store.get(stat.name)) for stat in Repository(store).objects("main")}


def copied(found: Objects) -> MemoryStore:
    """Another store with the same in it."""
    copy = MemoryStore()
    for name, content in found.items():
        copy.put(name, [content])
    return copy


def consolidated(
    store: Store,
    monitor: Monitor | None = None,
    *,
    now: datetime = NOW,
    is_read: Callable[[], bool] = lambda: False,
) -> BaseBackup:
    """Consolidate the backup of `chained`."""
    repository = Repository(store)
    plan = plan_consolidate(repository, "main", chained()[1].name)
    return execute_consolidate(plan, repository, now, monitor or SilentMonitor(), is_read=is_read)


def expired(store: Store, now: datetime) -> None:
    """Expire what is left over; every backup is kept."""
    repository = Repository(store)
    plan = plan_expire(repository, "main", Retention(), now)
    assert plan.expired == ()
    execute_expire(plan, repository, now, SilentMonitor())


def assert_full(backup: BaseBackup) -> None:
    """It is a full backup."""
    assert (backup.kind, backup.parent) == (BackupKind.FULL, None)


def fill(file: Path) -> None:
    """Leave no room on a small disk: in the file system, or in what this process may write (see `small_disk`)."""
    try:
        with file.open("wb", buffering=0) as filling:
            while filling.write(bytes(4096)):
                pass
    except OSError as error:
        if error.errno == errno.EFBIG:
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))


def volumes(store: Store) -> list[str]:
    """The digests of the volumes that the backup has now."""
    repository = Repository(store)
    return [v.sha256 for v in repository.volumes(repository.backup("main", chained()[1].name))]


@pytest.mark.parametrize(
    ("moment", "lasting"),
    [
        (Moment.BEFORE, True),
        pytest.param(Moment.MIDDLE, True, marks=pytest.mark.sweep),
        pytest.param(Moment.AFTER, True, marks=pytest.mark.sweep),
        *(pytest.param(moment, False, marks=pytest.mark.sweep) for moment in Moment),
    ],
)
def test_cut_off_at_any_call_of_the_store(moment: Moment, lasting: bool) -> None:
    """It fails loudly; the chain is untouched or the backup is full; the next run ends it, and nothing stays behind."""
    original = objects(chained()[0])
    record = f"main/backups/{chained()[1].name}/backup.json"
    reference = copied(original)
    counting = FaultyStore(reference)
    consolidated(counting)
    whole = objects(reference)
    assert len(counting.calls) > 40
    replaced = [n for n, call in enumerate(counting.calls) if call == f"put {record}"]
    for at in range(1, len(counting.calls) + 1):
        store = copied(original)
        faulty = FaultyStore(store, at=at, moment=moment, lasting=lasting)
        what = f"call {at}: {counting.calls[at - 1]}"
        try:
            consolidated(faulty)
        except StoreError:
            pass
        else:  # only the answer to the record's put may be missed without a word
            assert (at - 1 in replaced, moment, lasting) == (True, Moment.AFTER, False), what
        left = objects(store)
        if left[record] == original[record]:
            assert left.items() >= original.items(), what
            assert lasting or left == original, what
        else:
            assert volumes(store) == volumes(reference), what
        assert consolidated(store, now=NOW + timedelta(seconds=9)).kind is BackupKind.FULL, what
        assert volumes(store) == volumes(reference), what
        expired(store, LATER)
        inventory = take_inventory(Repository(store), "main")
        assert (inventory.flaws, inventory.unknown) == ((), ()), what
        assert len(objects(store)) == len(whole), what


def test_what_is_left_restores_as_before(tmp_path: Path) -> None:
    """The backup, and the increment that is based on it, before and after."""
    store = copied(objects(chained()[0]))
    repository = Repository(store)
    names = [backup.name for backup in repository.backups("main")]
    before = [restored(repository, name, tmp_path / f"{name}-before") for name in names]
    done = consolidated(store)
    assert [restored(repository, name, tmp_path / f"{name}-after") for name in names] == before
    child, backup, *_ = repository.chain(repository.backup("main"))
    assert (child.parent, backup) == (done.name, done)
    assert done.stored_bytes > chained()[1].stored_bytes
    assert repository.archive(done).length == done.stored_bytes + 23


class Ending(SilentMonitor):
    """A monitor that asks for the end at one of its checks."""

    def __init__(self, at: int) -> None:
        self.left = at

    def report(self, progress: Progress) -> None:
        """See `Monitor`."""
        assert progress.bytes_done <= (progress.bytes_expected or 0) * 1.1

    def check(self) -> None:
        """See `Monitor`."""
        self.left -= 1
        if self.left == 0:
            raise Cancelled("cancelled")


def test_cancelled_at_any_check() -> None:
    """Nothing of it is left."""
    original = objects(chained()[0])
    counting = Ending(0)
    consolidated(copied(original), counting)
    for at in range(1, -counting.left + 1, 17):
        store = copied(original)
        with pytest.raises(Cancelled):
            consolidated(store, Ending(at))
        assert objects(store) == original


def test_a_full_disk(tmp_path: Path) -> None:
    """It is told as full, and as much is there as before."""
    original = objects(chained()[0])
    with small_disk(tmp_path / "disk", 4 << 10) as disk:
        store = LocalStore(disk)
        for name, content in original.items():
            store.put(name, [content])
        filling = disk / "filling"
        fill(filling)
        with pytest.raises(StoreError) as raised:
            consolidated(store)
        assert raised.value.kind is ErrorKind.STORE_FULL
        filling.unlink()
        assert objects(store) == original


@pytest.mark.parametrize("what", ["backup.json", "snapshot-00001.tar.zst", "index.json.zst"])
def test_what_it_is_based_on_is_missing_or_damaged(what: str) -> None:
    """It is refused, naming the backup, and changes nothing."""
    original = objects(chained()[0])
    parent = chained()[1].parent
    for content in (None, b"x"):
        broken = dict(original)
        if content is None:
            del broken[f"main/backups/{parent}/{what}"]
        else:
            broken[f"main/backups/{parent}/{what}"] = content
        store = copied(broken)
        with pytest.raises(IntegrityError) as raised:
            consolidated(store)
        assert raised.value.hint
        assert objects(store) == broken


def test_a_full_one_stays_as_it_is() -> None:
    """Also when it is asked for twice; what it was before goes when nobody reads it any more."""
    store = copied(objects(chained()[0]))
    once = consolidated(store, is_read=lambda: True)
    assert f"main/backups/{once.name}/snapshot-00001.tar.zst" in objects(store)
    assert consolidated(store, is_read=lambda: True) == once
    expired(store, NOW + timedelta(hours=1))
    assert f"main/backups/{once.name}/snapshot-00001.tar.zst" in objects(store)
    assert consolidated(store) == once
    assert {n for n in objects(store) if once.name in n and n.count("/") == 3} == {
        f"main/backups/{once.name}/backup.json"
    }


class Meddling(MemoryStore):
    """A store in which somebody else does something right before or after the record is put."""

    def __init__(self, found: Objects, meddle: Callable[[Store], None], *, after: bool) -> None:
        super().__init__()
        self._meddle: Callable[[Store], None] | None = None
        for name, content in found.items():
            self.put(name, [content])
        self._meddle, self._after = meddle, after

    def put(self, name: str, chunks: Iterable[bytes | memoryview], *, replace: bool = False) -> int:
        """See `Store.put`."""
        meddle = self._meddle if replace else None
        if meddle is None:
            return super().put(name, chunks, replace=replace)
        self._meddle = None
        if not self._after:
            meddle(self)
        size = super().put(name, chunks, replace=replace)
        if self._after:
            meddle(self)
        return size


@pytest.mark.parametrize("after", [False, True])
def test_removed_at_the_last_moment(after: bool) -> None:
    """Whoever removes the backup while its record is replaced wins: it is gone, and nothing of it is listed."""
    name = chained()[1].name
    store = Meddling(
        objects(chained()[0]), lambda s: Repository(s).remove_backup("main", name), after=after
    )
    with pytest.raises(ConflictError):
        consolidated(store)
    assert not any(name in found for found in objects(store))


def test_consolidated_twice_at_once() -> None:
    """Both end with a full backup, whoever is later; the other one's contents go with the next expire."""
    store = Meddling(
        objects(chained()[0]),
        lambda s: assert_full(consolidated(s, now=NOW + timedelta(seconds=5))),
        after=False,
    )
    consolidated(store)
    repository = Repository(store)
    repository.check_chain(repository.backup("main"))
    expired(store, LATER)
    assert take_inventory(repository, "main").flaws == ()


def test_held_and_kept() -> None:
    """A hold stays; the parents are let go of afterwards, and not before."""
    store = copied(objects(chained()[0]))
    repository = Repository(store)
    names = [backup.name for backup in repository.backups("main")]
    hold = Hold(backup=names[1], by="anna", reason="audit", placed_at=NOW)
    repository.holds("main").place(hold)

    def kept() -> set[str]:
        plan = plan_expire(repository, "main", Retention(daily=1), NOW)
        return {backup.name for backup in plan.kept}

    assert kept() == set(names)
    consolidated(store)
    assert repository.holds("main").of(names[1]) == hold
    assert kept() == set(names[:2])
    with pytest.raises(ConflictError, match="held by anna"):
        plan_delete(repository, "main", names[1], NOW)
