"""A backup taken from a standby is one like any other; a standby that is promoted meanwhile ends it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from opskit.errors import Cancelled, ErrorKind, ServerError
from opskit.model.operation import Progress
from opskit.operations.wal_status import wal_status
from opskit.postgres.server import LocalServer
from tests.servers import ServerFactory
from tests.support.backups import assert_free, wait_until
from tests.support.clusters import ClusterMaker
from tests.support.events import HAPPEN, eventful
from tests.support.failing import assert_fails
from tests.support.majors import newest_first, only_18
from tests.support.standby import promote, replayed, standby_of
from tests.support.streams import KEPT, caught_up, streaming

SMALL = 1


class Act:
    """A monitor that does something once, in the middle of a backup."""

    def __init__(self, act: Callable[[], None], phase: str = "copying") -> None:
        self.acted = False
        self._act, self._phase = act, phase

    def report(self, progress: Progress) -> None:
        """See `Monitor`."""
        if progress.phase == self._phase and not self.acted:
            self.acted = True
            self._act()

    def check(self) -> None:
        """See `Monitor`."""


@contextmanager
def happening(primary: LocalServer) -> Iterator[dict[int, int]]:
    """Events happen as long as this lasts: their numbers, and the address behind each one's commit."""
    events: dict[int, int] = {}
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.005):
            [[number]] = primary.query("INSERT INTO events DEFAULT VALUES RETURNING n").rows
            [[lsn]] = primary.query("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn").rows
            events[number] = int(lsn)

    thread = threading.Thread(target=work, name="events")
    thread.start()
    try:
        yield events
    finally:
        ended.set()
        thread.join()


def follows(standby: LocalServer, timeline: int) -> bool:
    """Whether the standby receives that timeline."""
    return standby.query("SELECT received_tli FROM pg_stat_wal_receiver").rows == [(timeline,)]


def set_full_page_writes(primary: LocalServer, value: str) -> None:
    """As an operator changes them: by a reload, and a checkpoint behind it."""
    primary.query(f"ALTER SYSTEM SET full_page_writes = {value}")
    primary.query("SELECT pg_reload_conf()")
    wait_until(lambda: primary.query("SHOW full_page_writes").rows == [(value,)])
    primary.query("CHECKPOINT")


def count(server: LocalServer) -> int:
    """How many events the server has; they are the first ones, without a hole."""
    [[found, last]] = server.query("SELECT count(*), coalesce(max(n), 0) FROM events").rows
    assert found == last
    return int(found)


@pytest.mark.every_major
def test_a_backup_of_a_standby_goes_on_by_the_primary_s_wal(
    server: ServerFactory, cluster: ClusterMaker, scratch: Path
) -> None:
    """It has all rows up to its stop by itself, and every later one by the WAL that the primary archives."""
    primary = eventful(server)
    standby = standby_of(server, primary)
    source, replica = cluster(primary), cluster(standby)
    with streaming(primary, source.repository):
        with happening(primary) as events:
            wait_until(lambda: len(events) >= 5)
            backup = replica.create_backup()
            meanwhile = len(events)
            wait_until(lambda: len(events) >= meanwhile + 5)
        [[now]] = primary.query("SELECT clock_timestamp()").rows
        middle = max(events)
        primary.query("INSERT INTO events SELECT FROM generate_series(1, 100)")
        caught_up(primary, lambda: source.repository.known_wal("main"))
    assert_free(standby)
    primary.query("SELECT pg_switch_wal()")
    standby.stop()
    primary.stop()
    copy = replica.restore(scratch / "alone")
    assert copy.verify().exit_code == 0
    with copy.started() as running:
        assert count(running.server) >= max(
            n for n, lsn in events.items() if lsn <= backup.stop_lsn
        )
        assert not running.server.query("SELECT pg_is_in_recovery()").rows[0][0]
    with replica.restore(scratch / "at", at=now).started() as running:
        assert count(running.server) == middle
    with replica.restore(scratch / "latest", latest=True).started() as running:
        assert count(running.server) == middle + 100


@newest_first
def test_a_backup_of_a_standby_goes_on_by_the_standby_s_own_wal(
    server: ServerFactory, cluster: ClusterMaker, scratch: Path
) -> None:
    """Streamed from the standby, through its promotion behind the backup, its WAL leads onto the new timeline."""
    primary = eventful(server)
    standby = standby_of(server, primary)
    replica = cluster(standby)
    with streaming(standby, replica.repository):
        primary.query("INSERT INTO events SELECT FROM generate_series(1, 10)")
        replayed(standby, primary)
        backup = replica.create_backup()
        primary.query("INSERT INTO events SELECT FROM generate_series(1, 10)")
        replayed(standby, primary)
        caught_up(standby, lambda: replica.repository.known_wal("main"))
        with replica.restore(scratch / "before", latest=True).started() as running:
            assert count(running.server) == 20
        primary.stop()
        promote(standby)
        standby.query("INSERT INTO events SELECT FROM generate_series(1, 10)")
        caught_up(standby, lambda: replica.repository.known_wal("main"), timeline=2)
        status = wal_status(replica.configuration, replica.repository)
        assert status.passed, status.findings
    assert backup.timeline == 1
    copy = replica.restore(scratch / "behind", latest=True)
    assert copy.files.backup == backup.name
    with copy.started() as running:
        assert running.server.query("SELECT count(*) FROM events").rows == [(30,)]
    with replica.restore(scratch / "own", latest=True, timeline="current").started() as running:
        assert count(running.server) == 20


def test_a_promotion_ends_the_backup(
    server: ServerFactory, cluster: ClusterMaker, scratch: Path
) -> None:
    """A standby that becomes a primary meanwhile: one clear error; nothing is listed, nothing is left on the server."""
    primary = server(KEPT, wal_segment_megabytes=SMALL)
    standby = standby_of(server, primary)
    replica = cluster(standby)

    def backup() -> None:
        replica.create_backup(monitor=Act(lambda: promote(standby)))

    failure = assert_fails(backup, ServerError, ErrorKind.STANDBY_PROMOTED, "was promoted")
    assert failure.exit_code == 5
    assert replica.catalog.operations(cluster="main")[0].error == failure.as_dict()
    assert replica.repository.backups("main") == []
    assert replica.repository.survey("main").damaged == {}
    assert list((scratch / "opskit/repository").rglob("snapshot-*")) == []
    assert_free(standby)
    again = replica.create_backup()
    assert again.timeline == 2


@newest_first
def test_a_backup_follows_its_standby_onto_a_new_timeline(
    server: ServerFactory, cluster: ClusterMaker, scratch: Path
) -> None:
    """The standby's own primary was promoted meanwhile: the backup ends on the new timeline, and goes on along it."""
    primary = eventful(server)
    heir = standby_of(server, primary)
    cascaded = standby_of(server, heir)
    source, replica = cluster(heir), cluster(cascaded)

    def take_over() -> None:
        primary.stop()
        promote(heir)
        heir.query("INSERT INTO events SELECT FROM generate_series(1, 10)")
        heir.query("CHECKPOINT")
        wait_until(lambda: follows(cascaded, 2))
        replayed(cascaded, heir)
        cascaded.query("CHECKPOINT")

    with streaming(heir, source.repository):
        backup = replica.create_backup(monitor=Act(take_over))
        heir.query("INSERT INTO events SELECT FROM generate_series(1, 10)")
        caught_up(heir, lambda: source.repository.known_wal("main"), timeline=2)
    assert backup.timeline == 2
    copy = replica.restore(scratch / "alone")
    assert copy.verify().exit_code == 0
    with copy.started() as running:
        assert running.server.query("SELECT count(*) FROM events").rows == [(10,)]
    with replica.restore(scratch / "latest", latest=True).started() as running:
        assert running.server.query("SELECT count(*) FROM events").rows == [(20,)]
    [interval] = replica.recoverable().to_dict("records")
    assert (interval["timeline"], interval["ends_because"]) == (2, "the archive ends here")
    status = wal_status(source.configuration, source.repository)
    assert status.passed, status.findings


@only_18
def test_full_page_writes_are_asked_for(server: ServerFactory, cluster: ClusterMaker) -> None:
    """What a standby replayed without them cannot be backed up: the error says what to do, and doing it helps."""
    primary = server(KEPT, wal_segment_megabytes=SMALL)
    standby = standby_of(server, primary)
    replica = cluster(standby)
    set_full_page_writes(primary, "off")
    replayed(standby, primary)
    failure = assert_fails(
        replica.create_backup, ServerError, ErrorKind.SERVER_REFUSED, "full_page_writes=off"
    )
    assert "on the primary" in failure.hint.lower()
    assert_free(standby)
    set_full_page_writes(primary, "on")
    replayed(standby, primary)
    assert replica.create_backup().timeline == 1


@only_18
def test_a_standby_that_lags_is_not_ahead_of_its_backup(
    server: ServerFactory, cluster: ClusterMaker, scratch: Path
) -> None:
    """What the primary committed before the backup ended, and the standby replayed after it, is recovered.

    Nor is a plain data directory held up by the delay that the standby had, and it clears no archive away.
    """
    primary = eventful(server)
    standby = standby_of(server, primary)
    source, replica = cluster(primary), cluster(standby)
    with streaming(primary, source.repository):
        primary.query(HAPPEN)
        replayed(standby, primary)
        standby.query("SELECT pg_wal_replay_pause()")
        standby.query("ALTER SYSTEM SET archive_cleanup_command = 'false'")
        standby.query("ALTER SYSTEM SET recovery_min_apply_delay = '1h'")
        primary.query(HAPPEN)
        backup = replica.create_backup()
        caught_up(primary, lambda: source.repository.known_wal("main"))
    with replica.restore(scratch / "at", at=backup.stopped_at).started() as running:
        assert count(running.server) == 2
    with replica.restore(scratch / "immediate", immediate=True).started() as running:
        assert count(running.server) == 1
    plain = replica.restore(scratch / "plain", layout="data-directory", latest=True)
    lines = (plain.directory / "postgresql.auto.conf").read_text().splitlines()
    settings = dict(line.split(" = ", 1) for line in lines if " = " in line)
    assert "primary_conninfo" in settings
    assert settings["archive_cleanup_command"] == "''"
    assert settings["recovery_min_apply_delay"] == "'0'"
    assert not (plain.directory / "standby.signal").exists()


@only_18
def test_backups_of_a_primary_and_its_standby_may_begin_in_one_second(
    server: ServerFactory,
    cluster: ClusterMaker,
    scratch: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They do not see each other's lock: each gets a name of its own, and one that fails leaves the other whole."""
    primary = eventful(server)
    primary.query("INSERT INTO events SELECT FROM generate_series(1, 10)")
    standby = standby_of(server, primary)
    replayed(standby, primary)
    source, replica = cluster(primary), cluster(standby)
    names: list[str] = []
    second = datetime.now(UTC).replace(microsecond=0)
    monkeypatch.setattr("opskit.operations.backup.server_time", lambda connection: second)

    def fail() -> None:
        raise Cancelled("in the middle of the other one")

    def other() -> None:
        names.append(replica.create_backup().name)
        with pytest.raises(Cancelled):
            replica.create_backup(monitor=Act(fail))

    backup = source.create_backup(monitor=Act(other))
    assert {b.name for b in source.repository.backups("main")} == {backup.name, *names}
    assert len({backup.name, *names}) == 2
    assert list((scratch / "opskit/repository").rglob("begun")) == []
    for name in (backup.name, *names):
        copy = source.restore(scratch / name, backup=name)
        assert copy.verify().exit_code == 0
        with copy.started() as running:
            assert count(running.server) == 10
