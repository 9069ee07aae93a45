"""An expire that is cut off anywhere: what is listed is whole, what is kept has its WAL, and the next one converges."""

from datetime import UTC, datetime, timedelta

import pytest

from opskit.errors import IntegrityError, StoreError
from opskit.model.backup import BackupKind, BaseBackup, write_record
from opskit.model.retention import Hold, Retention
from opskit.operations.expire import (
    ExpirePlan,
    LostInterval,
    execute_expire,
    lost_intervals,
    plan_expire,
)
from opskit.operations.inventory import take_inventory
from opskit.operations.monitor import SilentMonitor
from opskit.operations.recoverable import Interval
from opskit.repository import Repository
from opskit.repository.wal import contiguous
from opskit.store import MemoryStore, Store
from tests.support.faulty import FaultyStore, Moment
from tests.support.records import record
from tests.support.repositories import made_up_backup, made_up_wal

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
TWO = Retention(daily=2)


def filled() -> tuple[MemoryStore, list[BaseBackup]]:
    """Five nightly backups, a segment of WAL behind each and two before the first; newest first."""
    store = MemoryStore()
    backups = [
        made_up_backup(store, NOW - timedelta(days=4 - number), 10 + 2 * number)
        for number in range(5)
    ]
    made_up_wal(store, range(8, 20))
    return store, backups[::-1]


def copied(repository: Repository, store: Store) -> MemoryStore:
    """Another store with everything of ``main`` in it."""
    copy = MemoryStore()
    for stat in repository.objects("main"):
        copy.put(stat.name, store.get(stat.name))
    return copy


def plan(repository: Repository, retention: Retention = TWO) -> ExpirePlan:
    """What the policy lets go of ``main``."""
    return plan_expire(repository, "main", retention, NOW)


def segments(repository: Repository) -> list[int]:
    """The numbers of the WAL segments."""
    return [stored.segment.number for stored in repository.known_wal("main").segments(1)]


def assert_sound(repository: Repository, kept: list[BaseBackup]) -> None:
    """What is listed is whole, the kept backups are there, and their WAL has no gap."""
    inventory = take_inventory(repository, "main")
    assert inventory.flaws == ()
    assert inventory.unknown == ()
    assert {b.name for b in kept} <= {b.name for b in inventory.backups}
    [*_, newest] = contiguous(repository.known_wal("main").segments(1))
    assert newest.first.start <= min(b.start_lsn for b in kept)
    assert newest.last.number == 19


def test_what_is_not_kept_goes_and_nothing_else() -> None:
    """Backups by the policy, WAL up to the oldest kept backup; a second run finds nothing."""
    store, backups = filled()
    repository = Repository(store)
    planned = plan(repository)
    assert [b.name for b in planned.expired] == [b.name for b in backups[2:]]
    assert planned.freed_bytes > 0
    done = execute_expire(planned, repository, NOW, SilentMonitor())
    assert done.backups == tuple(b.name for b in backups[2:])
    assert done.freed_bytes == planned.freed_bytes
    assert repository.backups("main") == backups[:2]
    assert segments(repository) == [16, 17, 18, 19]
    assert_sound(repository, backups[:2])
    assert plan(repository).is_empty


@pytest.mark.parametrize("moment", [Moment.BEFORE, Moment.AFTER])
def test_cut_off_at_any_call_of_the_store(moment: Moment) -> None:
    """It fails loudly, leaves everything sound, and the expire after it ends as if nothing had been."""
    original, backups = filled()
    counting = FaultyStore(copied(Repository(original), original))
    planned = plan(Repository(original))
    execute_expire(planned, Repository(counting), NOW, SilentMonitor())
    assert len(counting.calls) > 40
    for at in range(1, len(counting.calls) + 1):
        store = copied(Repository(original), original)
        faulty = FaultyStore(store, at=at, moment=moment, lasting=True)
        with pytest.raises(StoreError):
            execute_expire(planned, Repository(faulty), NOW, SilentMonitor())
        repository = Repository(store)
        assert_sound(repository, backups[:2])
        later = NOW + timedelta(days=2)  # what is left of a backup is old enough to go
        again = plan_expire(repository, "main", TWO, later)
        execute_expire(again, repository, later, SilentMonitor())
        assert repository.survey("main").incomplete == ()
        assert repository.backups("main") == backups[:2]
        assert segments(repository) == [16, 17, 18, 19]


def test_what_is_held_since_the_plan_is_kept_with_its_wal() -> None:
    """A hold that comes between plan and removal counts, and WAL is asked for again."""
    store, backups = filled()
    repository = Repository(store)
    planned = plan(repository)
    repository.holds("main").place(
        Hold(backup=backups[3].name, by="anna", reason="audit", placed_at=NOW)
    )
    done = execute_expire(planned, repository, NOW, SilentMonitor())
    assert done.kept_after_all == {backups[3].name: "held by anna: audit"}
    assert segments(repository) == list(range(12, 20))
    assert_sound(repository, [*backups[:2], backups[3]])


def chained() -> tuple[MemoryStore, list[BaseBackup]]:
    """As `filled`, with an increment on the oldest backup, and one on that, taken after a clock went back."""
    store, backups = filled()
    chain = [backups[-1]]
    for hours in (-1, -2):
        parent = chain[-1]
        child = record(
            backups[-1].started_at + timedelta(hours=hours),
            system_identifier=parent.system_identifier,
            kind=BackupKind.INCREMENTAL,
            parent=parent.name,
            parent_start_lsn=parent.start_lsn,
            start_lsn=parent.start_lsn,
            stop_lsn=parent.stop_lsn,
        )
        store.put(f"main/backups/{child.name}/backup.json", [write_record(child)])
        chain.append(child)
    return store, chain


def test_a_chain_goes_from_its_end() -> None:
    """However far an expire comes, no increment is listed without what it is based on, whatever the clocks said."""
    store, chain = chained()
    planned = plan(Repository(store))
    assert {b.name for b in chain} <= {b.name for b in planned.expired}
    counting = FaultyStore(copied(Repository(store), store))
    execute_expire(planned, Repository(counting), NOW, SilentMonitor())
    for at in range(1, len(counting.calls) + 1):
        broken = copied(Repository(store), store)
        with pytest.raises(StoreError):
            faulty = FaultyStore(broken, at=at, moment=Moment.AFTER, lasting=True)
            execute_expire(planned, Repository(faulty), NOW, SilentMonitor())
        left = Repository(broken)
        for backup in left.backups("main"):
            left.chain(backup)


@pytest.mark.parametrize("how", ["held", "read"])
def test_what_is_held_or_read_since_the_plan_keeps_its_chain(how: str) -> None:
    """An increment that has to stay stays with all that it is based on."""
    store, chain = chained()
    repository = Repository(store)
    planned = plan(repository)
    end = chain[-1].name
    in_use: dict[str, str] = {}
    if how == "held":
        repository.holds("main").place(Hold(backup=end, by="anna", reason="", placed_at=NOW))
    else:
        in_use = {end: "a restore reads it"}
    done = execute_expire(planned, repository, NOW, SilentMonitor(), in_use=lambda: in_use)
    assert set(done.kept_after_all) == {b.name for b in chain}
    assert repository.chain(repository.backup("main", end)) == chain[::-1]


def test_a_child_that_came_since_the_plan_keeps_its_parent() -> None:
    """An increment on a backup that was to go keeps it."""
    store, backups = filled()
    repository = Repository(store)
    planned = plan(repository)
    child = record(NOW, parent=backups[3].name, kind=BackupKind.INCREMENTAL)
    store.put(f"main/backups/{child.name}/backup.json", [write_record(child)])
    done = execute_expire(planned, repository, NOW, SilentMonitor())
    assert done.kept_after_all == {backups[3].name: f"parent of {child.name}"}


def test_an_ended_hold_goes_with_its_backup() -> None:
    """Nothing is left of it."""
    store, backups = filled()
    repository = Repository(store)
    repository.holds("main").place(
        Hold(backup=backups[4].name, by="anna", reason="", placed_at=NOW, until=NOW)
    )
    execute_expire(plan(repository), repository, NOW, SilentMonitor())
    assert repository.holds("main").all() == []


def test_unfinished_backups_go_a_day_after_their_last_byte() -> None:
    """One that may still be written stays, and with it the WAL of timelines that nothing leads into."""
    store, backups = filled()
    store.put("main/backups/20261101T000000Z/snapshot-00001.tar.zst", [b"x"])
    repository = Repository(store)
    assert plan(repository).abandoned == ()
    later = datetime.now(UTC) + timedelta(days=2)
    planned = plan_expire(repository, "main", TWO, later)
    assert planned.abandoned == ("20261101T000000Z",)
    execute_expire(planned, repository, later, SilentMonitor())
    assert repository.survey("main").incomplete == ()
    assert repository.backups("main") == backups[:2]


def test_a_damaged_record_or_hold_stops_everything() -> None:
    """What cannot be read may be a parent or a promise: nothing is planned."""
    store, backups = filled()
    store.put(f"main/holds/{backups[4].name}.json", [b"{}"])
    with pytest.raises(IntegrityError, match="hold"):
        plan(Repository(store))
    store.delete(f"main/holds/{backups[4].name}.json")
    store.put(f"main/backups/{backups[4].name}/backup.json", [b"{}"], replace=True)
    with pytest.raises(IntegrityError, match="record"):
        plan(Repository(store))


def interval(backup: str, first: int, last: int, timeline: int = 1) -> Interval:
    """From hour to hour."""
    made = record(NOW)
    return Interval(
        backup=backup,
        timeline=timeline,
        from_at=NOW + timedelta(hours=first),
        to_at=NOW + timedelta(hours=last),
        from_lsn=made.start_lsn,
        to_lsn=made.stop_lsn,
        stored_bytes=0,
        missing=None,
        ends_because="",
    )


def test_lost_are_the_times_that_no_kept_backup_leads_to() -> None:
    """Up to the first kept backup, behind a gap, and on another timeline."""
    intervals = [
        interval("a", 0, 10),
        interval("b", 4, 10),
        interval("c", 12, 12),
        interval("a", 0, 6, timeline=2),
    ]

    def hour(time: datetime) -> int:
        return round((time - NOW) / timedelta(hours=1))

    def lost(*kept: str) -> list[tuple[int, int, int]]:
        return [
            (one.timeline, hour(one.from_at), hour(one.to_at))
            for one in lost_intervals(intervals, set(kept))
        ]

    assert lost("a", "b", "c") == []
    assert lost("b", "c") == [(1, 0, 4), (2, 0, 6)]
    assert lost("b") == [(1, 0, 4), (1, 12, 12), (2, 0, 6)]
    assert lost("a", "c") == []
    assert lost() == [(1, 0, 10), (1, 12, 12), (2, 0, 6)]
    assert LostInterval(timeline=1, from_at=NOW, to_at=NOW) in lost_intervals(
        [interval("a", 0, 0)], set()
    )
