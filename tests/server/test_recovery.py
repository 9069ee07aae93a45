"""A copy goes to exactly the point that was asked for, or the request is refused before anything is copied."""

import random
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from opskit.cluster import Cluster
from opskit.config import Settings
from opskit.errors import Cancelled, ConflictError, ErrorKind, InputError, RecoveryError
from opskit.model.increment import FIRST_MAJOR
from opskit.model.lsn import Lsn
from opskit.model.target import TargetArguments
from opskit.model.wal import WalSegment
from opskit.postgres.account import make_directory
from opskit.postgres.server import LocalServer
from opskit.store import open_store
from tests.servers import ServerFactory
from tests.support import streams
from tests.support.backups import wait_until
from tests.support.clusters import ClusterMaker
from tests.support.load import load
from tests.support.majors import newest_first
from tests.support.slots import restart_lsn


@dataclass(frozen=True)
class Event:
    """What the events' table itself says right after one of its transactions: how many rows it has, when, and where."""

    rows: int
    at: datetime
    xid: int
    lsn: str


@pytest.mark.parametrize(
    "count", [2, pytest.param(20, marks=[pytest.mark.sweep, pytest.mark.timeout(1800)])]
)
def test_random_targets_find_exactly_the_events_up_to_them(
    server: ServerFactory, cluster: ClusterMaker, scratch: Path, seed: random.Random, count: int
) -> None:
    """By time, LSN, transaction and restore point, under load: the events up to it, without the one where exclusive."""
    summarizing = {"summarize_wal": "on"} if server.programs.major >= FIRST_MAJOR else {}
    source = server({"max_wal_size": "64MB", **summarizing}, wal_segment_megabytes=1)
    main = cluster(source)
    with eventful(main, source), load(source):
        events = [happen(source, f"point {n}") for n in range(count * 3)]
        backup = main.create_backup()
        assert (backup.parent is not None) == bool(summarizing), backup.reason
        events += [happen(source, f"point {n}") for n in range(count * 3, count * 6)]
    source.stop()
    for number in range(count):
        event = seed.choice(events[:-1])
        name = f"point {event.rows - 1}"
        exclusive = {"inclusive": False}
        for kind, target, rows in (
            ("time", {"at": event.at}, event.rows),
            ("lsn", {"lsn": event.lsn}, event.rows),
            ("xid", {"xid": event.xid}, event.rows),
            ("before", {"xid": event.xid, **exclusive}, event.rows - 1),
            ("point", {"restore_point": name}, event.rows),
        ):
            copy = main.restore(scratch / f"{kind}{number}", **target)
            with copy.started() as running:
                assert count_events(running.server) == rows, (kind, event)
                assert not running.server.query("SELECT pg_is_in_recovery()").rows[0][0]
            late = event.at > backup.stopped_at
            if kind == "time":
                assert (copy.files.backup == backup.name) == late
    with main.restore(scratch / "latest", latest=True).started() as running:
        assert count_events(running.server) == events[-1].rows
    with main.restore(scratch / "immediate", immediate=True).started() as running:
        assert count_events(running.server) <= events[-1].rows


@pytest.mark.every_major
def test_a_dropped_table_comes_back(
    server: ServerFactory, cluster: ClusterMaker, scratch: Path
) -> None:
    """A restore to just before DROP TABLE has the table with every row."""
    source = server()
    main = cluster(source)
    with streaming(main, source):
        source.query("CREATE TABLE precious AS SELECT generate_series(1, 1000) AS i")
        main.create_backup()
        source.query("INSERT INTO precious VALUES (1001)")
        before = now(source)
        source.query("DROP TABLE precious")
        source.query("CREATE TABLE later (i int)")
    with main.restore(scratch / "copy", at=before).started() as copy:
        assert copy.query("SELECT count(*) AS n FROM precious")["n"][0] == 1001


def test_a_held_copy_moves_forward_only(
    server: ServerFactory, cluster: ClusterMaker, scratch: Path
) -> None:
    """A copy restored with pause is readable at each target, refuses to go back, and is at last promoted."""
    source = server()
    main = cluster(source)
    with eventful(main, source):
        events = [happen(source, f"point {n}") for n in range(8)]
    copy = main.restore(scratch / "copy", at=events[1].at, pause=True)
    try:
        assert held(copy.start().server) == (events[1].rows, True)
        assert held(copy.advance(at=events[3].at).server) == (events[3].rows, True)
        with pytest.raises(InputError, match="before what the copy has reached"):
            copy.advance(at=events[2].at)
        assert copy.files.is_running
        copy.stop()
        assert held(copy.advance(xid=events[5].xid).server) == (events[5].rows, True)
        promoted = copy.promote().server
        assert held(promoted) == (events[5].rows, False)
        promoted.query("INSERT INTO events DEFAULT VALUES")
        with pytest.raises(ConflictError, match="server of its own"):
            copy.advance(at=events[6].at)
    finally:
        copy.stop()


def test_timelines_are_followed_to_either_side_of_a_fork(
    server: ServerFactory, cluster: ClusterMaker, scratch: Path, settings: Callable[..., Settings]
) -> None:
    """After a recovered copy took over, points before the fork, on the old and on the new timeline are reached."""
    source = server()
    main = cluster(source)
    with eventful(main, source):
        shared = [happen(source, f"point {n}") for n in range(3)]
        old = [happen(source, f"old {n}") for n in range(3)]
    source.stop()
    copy = main.restore(scratch / "successor", at=shared[-1].at)
    with copy.started() as successor:
        assert count_events(successor.server) == 3
        heir = Cluster("main", settings(successor.server))
        with streaming(heir, successor.server):
            new = [happen(successor.server, f"new {n}") for n in range(4)]
        heir.catalog.close()
    archive = main.repository.known_wal("main")
    assert archive.timelines() == [1, 2]
    cases: list[tuple[str, TargetArguments, int]] = [
        ("before", {"at": shared[0].at}, 1),
        ("old", {"at": old[0].at, "timeline": 1}, 4),
        ("new", {"at": new[1].at}, 5),
        ("newest", {"latest": True}, 7),
        ("current", {"latest": True, "timeline": "current"}, 6),
    ]
    for name, target, rows in cases:
        with main.restore(scratch / name, **target).started() as running:
            assert count_events(running.server) == rows, name
    with pytest.raises(RecoveryError, match="does not know timeline 7"):
        main.restore(scratch / "none", latest=True, timeline=7)


def test_a_target_out_of_reach_is_refused_with_what_is_in_reach(
    server: ServerFactory, cluster: ClusterMaker, scratch: Path
) -> None:
    """Too early, too late, unknown, and behind a segment that somebody removed: refused, and nothing is copied."""
    source = server(wal_segment_megabytes=1)
    main = cluster(source)
    with eventful(main, source):
        first = main.backup()
        early = happen(source, "early")
        happen(source, "last before the gap")
        source.query("SELECT pg_switch_wal()")
        removed = WalSegment.holding(Lsn.parse(current_lsn(source)), 1, 1 << 20)
        happen(source, "in the gap")
        source.query("SELECT pg_switch_wal()")
        late = happen(source, "late")
        second = main.create_backup()
        later = happen(source, "later")
        latest = happen(source, "latest")
    place = scratch / "nowhere"
    refused(
        main,
        place,
        {"at": first.stopped_at - timedelta(days=1)},
        "before the first backup",
        first.name,
    )
    refused(
        main,
        place,
        {"at": latest.at + timedelta(days=1)},
        "behind the last transaction",
        "--latest",
    )
    refused(
        main, place, {"lsn": "FF/0"}, "behind the last transaction", "latest that can be reached"
    )
    refused(main, place, {"xid": 4_000_000}, "holds no", "pg_waldump")
    refused(main, place, {"restore_point": "none"}, "holds no", "pg_waldump")

    name = removed.name
    open_store(main.settings.repository_url).delete(f"main/wal/{name[:8]}/{name[8:16]}/{name}.zst")
    hint = refused(main, place, {"at": late.at}, name, second.name)
    assert "latest before the gap" in hint and "next one behind it" in hint
    with main.restore(scratch / "before", at=early.at).started() as running:
        assert count_events(running.server) == early.rows
    [latest_before] = re.findall(r"can be reached is (\S+ \S+) UTC", hint)
    with main.restore(scratch / "last", at=f"{latest_before}Z").started() as running:
        assert count_events(running.server) == early.rows + 1
    with main.restore(scratch / "behind", at=later.at).started() as running:
        assert count_events(running.server) == later.rows


def test_a_recovery_that_ends_short_fails_loudly(
    server: ServerFactory, cluster: ClusterMaker, scratch: Path
) -> None:
    """WAL that vanishes between the restore and the start is an error at every start, whatever the target."""
    source = server(wal_segment_megabytes=1)
    main = cluster(source)
    with eventful(main, source):
        for n in range(4):
            happen(source, f"point {n}")
            source.query("SELECT pg_switch_wal()")
        event = happen(source, "last")
        happen(source, "behind")
    for number, target in enumerate[TargetArguments]([{"at": event.at}, {"latest": True}]):
        copy = main.restore(scratch / f"copy{number}", **target)
        segments = sorted((copy.directory / "wal").iterdir())
        segments[-2].unlink()
        for _ in range(2):  # PostgreSQL itself has forgotten it by the second start
            with pytest.raises(RecoveryError, match="recovery ended"):
                copy.start()
            assert not copy.files.is_running


@newest_first
def test_a_copy_keeps_out_of_the_original_s_tablespaces(
    server: ServerFactory, cluster: ClusterMaker, scratch: Path
) -> None:
    """PostgreSQL makes a tablespace where its original was made: a copy does not start while that is in use."""
    source = server(wal_segment_megabytes=1)
    main = cluster(source)
    place = scratch / "spa\nce"
    make_directory(place, source.account)
    with eventful(main, source):
        event = happen(source, "before")
        source.query(f"CREATE TABLESPACE later LOCATION '{place}'")
        source.query("CREATE TABLE moved TABLESPACE later AS SELECT generate_series(1, 100) AS i")
    copy = main.restore(scratch / "copy", latest=True)
    with pytest.raises(ConflictError, match="would make tablespace"):
        copy.start()
    assert not copy.files.is_running
    with main.restore(scratch / "before", restore_point="before").started() as running:
        assert count_events(running.server) == event.rows
    assert source.query("SELECT count(*) FROM moved").rows == [(100,)]
    source.stop()
    shutil.rmtree(place)
    make_directory(place, source.account)
    with copy.started() as running:
        assert running.server.query("SELECT count(*) FROM moved").rows == [(100,)]


def test_a_plain_data_directory_recovers_through_wal_get(
    server: ServerFactory, cluster: ClusterMaker, scratch: Path
) -> None:
    """A data directory for production is given its target, and the command that fetches its WAL."""
    source = server()
    main = cluster(source)
    with eventful(main, source):
        events = [happen(source, f"point {n}") for n in range(3)]
    plain = main.restore(scratch / "plain", layout="data-directory", at=events[1].at)
    auto = (plain.directory / "postgresql.auto.conf").read_text()
    assert "wal get %f" in auto and "recovery_target_time" in auto
    assert (plain.directory / "recovery.signal").exists()
    assert not (plain.directory / "wal").exists()


@contextmanager
def streaming(main: Cluster, source: LocalServer) -> Iterator[None]:
    """The cluster's WAL is streamed meanwhile, from before the block begins, until the archive has all of it."""
    with streams.streaming(source, main.repository) as stream:
        wait_until(
            lambda: any(p.startswith("streaming") for p in stream.phases) or bool(stream.error)
        )
        yield
        wanted = Lsn.parse(source.query("SELECT pg_current_wal_flush_lsn()::text").rows[0][0])
        wait_until(lambda: restart_lsn(source) >= wanted, f"the archive is not at {wanted}")
    assert isinstance(stream.error, Cancelled), stream.error


@contextmanager
def eventful(main: Cluster, source: LocalServer) -> Iterator[None]:
    """As `streaming`, with a table of events and a backup before the block."""
    with streaming(main, source):
        source.query("CREATE TABLE events (n serial, at timestamptz DEFAULT clock_timestamp())")
        main.create_backup()
        yield


def happen(source: LocalServer, point: str) -> Event:
    """One more event, and a restore point behind it."""
    [[xid]] = source.query("INSERT INTO events DEFAULT VALUES RETURNING txid_current()").rows
    [[rows, at, lsn]] = source.query(
        "SELECT (SELECT count(*) FROM events), clock_timestamp(), pg_current_wal_insert_lsn()::text"
    ).rows
    source.query(f"SELECT pg_create_restore_point('{point}')")
    return Event(rows, at, xid, lsn)


def refused(main: Cluster, place: Path, target: TargetArguments, message: str, hint: str) -> str:
    """The restore is refused in these words, and leaves nothing; the hint."""
    with pytest.raises(RecoveryError, match=message) as caught:
        main.restore(place, **target)
    assert hint in caught.value.hint
    assert caught.value.kind in (ErrorKind.NO_PATH, ErrorKind.WAL_GAP)
    assert not place.exists()
    return caught.value.hint


def held(server: LocalServer) -> tuple[int, bool]:
    """How many events a copy has, and whether it still recovers."""
    return count_events(server), server.query("SELECT pg_is_in_recovery()").rows[0][0]


def count_events(server: LocalServer) -> int:
    """How many events the server has."""
    count: int = server.query("SELECT count(*) FROM events").rows[0][0]
    return count


def current_lsn(server: LocalServer) -> str:
    """Where the server writes."""
    lsn: str = server.query("SELECT pg_current_wal_insert_lsn()::text").rows[0][0]
    return lsn


def now(server: LocalServer) -> datetime:
    """The server's clock."""
    at: datetime = server.query("SELECT clock_timestamp()").rows[0][0]
    return at
