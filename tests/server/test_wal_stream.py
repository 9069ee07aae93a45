"""``wal stream`` on real servers: the archive is contiguous and the server's own WAL, whatever happens meanwhile."""

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from opskit.cluster import Cluster
from opskit.config import ClusterSettings, Settings
from opskit.errors import ConflictError, ErrorKind, ServerError
from opskit.operations.wal_status import wal_status
from opskit.postgres.programs import program_environment
from opskit.postgres.server import LocalServer
from opskit.repository import Repository
from tests.servers import ServerFactory
from tests.support.backups import take, wait_until
from tests.support.command import command, run_command, started
from tests.support.load import load
from tests.support.majors import only_18
from tests.support.slots import restart_lsn, walsender
from tests.support.standby import promote, standby_of
from tests.support.streams import (
    KEPT,
    archived,
    assert_complete,
    assert_contiguous,
    assert_same_as,
    caught_up,
    flushed,
    known,
    streaming,
)

SMALL = 1


@contextmanager
def receiving(server: LocalServer, directory: Path) -> Iterator[None]:
    """``pg_receivewal`` receives the same stream, by a slot of its own.

    The slot keeps WAL from the last checkpoint on, as ours does when it is made later: theirs begins no later.
    """
    directory.mkdir()
    if server.account is not None:
        os.chown(directory, server.account.uid, server.account.gid)
    arguments = ["--slot", "theirs", "-D", str(directory), "-d", server.conninfo(), "-s", "1"]
    server.query("SELECT pg_create_physical_replication_slot('theirs', true)")
    with subprocess.Popen(
        [str(server.programs.path("pg_receivewal")), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=program_environment(None),
        user=server.account.uid if server.account else None,
        group=server.account.gid if server.account else None,
    ) as receiver:
        try:
            yield
        finally:
            receiver.send_signal(signal.SIGINT)


def received(server: LocalServer, upto: int) -> None:
    """Wait until ``pg_receivewal`` has written everything before `upto`."""
    writes = (
        "SELECT 1 FROM pg_stat_replication r JOIN pg_replication_slots s ON s.active_pid = r.pid"
        f" WHERE slot_name = 'theirs' AND write_lsn - '0/0'::pg_lsn >= {upto}"
    )
    wait_until(lambda: bool(server.query(writes).rows))


def write(server: LocalServer, rows: int = 5000) -> None:
    """Write some hundred kilobytes of WAL."""
    server.query("CREATE TABLE IF NOT EXISTS written (text text)")
    server.query(
        f"INSERT INTO written SELECT repeat(i::text, 20) FROM generate_series(1, {rows}) i"
    )


@pytest.mark.every_major
def test_the_archive_is_what_pg_receivewal_receives(
    server: ServerFactory, settings: Callable[..., Settings], repository: Repository, scratch: Path
) -> None:
    """The command stores every segment as pg_receivewal has it, the partial one at SIGTERM too, and exits with 0."""
    source = server(KEPT, wal_segment_megabytes=SMALL)
    configured = settings(source)
    arguments = ["wal", "stream", "main", "--partial-seconds", "0.3"]
    with receiving(source, scratch / "theirs"):
        with started(configured, *arguments) as process:
            wait_until(lambda: restart_lsn(source) > 0, seconds=60)
            for _ in range(8):
                write(source)
            caught_up(source, known(repository))
            write(source, 10)
            last = flushed(source)
            time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            _, told = process.communicate(timeout=60)
        assert process.returncode == 0, told
        assert "streaming from 0/" in told
        received(source, last)
    archive = known(repository)()
    assert_contiguous(archive)
    assert len(archive.segments(1)) >= 3
    assert archived(archive) >= last
    assert assert_same_as(archive, scratch / "theirs") >= len(archive.segments(1))
    assert restart_lsn(source) <= archived(archive)
    [row] = Cluster("main", configured).operations().to_dict("records")
    assert (row["kind"], row["status"]) == ("wal stream", "complete")
    status = run_command(configured, "wal", "status", "main")
    assert status.returncode == 0, status.stdout + status.stderr


@pytest.mark.parametrize(
    "kills", [3, pytest.param(30, marks=[pytest.mark.sweep, pytest.mark.timeout(900)])]
)
def test_kills_leave_no_gap(
    server: ServerFactory,
    settings: Callable[..., Settings],
    repository: Repository,
    scratch: Path,
    seed: random.Random,
    kills: int,
) -> None:
    """``kill -9`` at random under pgbench: the archive goes on where it was, and is what pg_receivewal received."""
    source = server(KEPT, wal_segment_megabytes=SMALL)
    configured = settings(source)
    line = command(configured, "wal", "stream", "main", "--partial-seconds", "0.2")
    with receiving(source, scratch / "theirs"):
        with load(source):
            for _ in range(kills):
                with started(configured, *line[5:]) as process:
                    wait_until(lambda: walsender(source) is not None, seconds=60)
                    time.sleep(seed.uniform(0, 1.0))
                    process.kill()
                assert restart_lsn(source) <= archived(known(repository)()) or not archived(
                    known(repository)()
                )
                wait_until(lambda: walsender(source) is None)
        with streaming(source, repository):
            caught_up(source, known(repository))
        received(source, archived(known(repository)()))
    archive = known(repository)()
    assert assert_complete(archive, source) >= 2
    assert assert_same_as(archive, scratch / "theirs") >= len(archive.segments(1)) >= 2
    print(f"{kills} kills, {len(archive.segments(1))} segments")


def test_cuts_and_restarts_leave_no_gap(
    server: ServerFactory, repository: Repository, seed: random.Random
) -> None:
    """Connections ended in the middle of a message, and a server that is restarted: the stream goes on by itself."""
    source = server(KEPT, wal_segment_megabytes=SMALL)
    with streaming(source, repository) as stream:
        caught_up(source, known(repository))
        writer = threading.Thread(target=write, args=(source, 100_000))
        writer.start()
        for _ in range(4):
            time.sleep(seed.uniform(0, 0.5))
            source.query(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active"
            )
        writer.join()
        [(walwriter,)] = source.query(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"
        ).rows
        os.kill(walwriter, signal.SIGKILL)  # the server ends all its processes, and recovers
        wait_until(lambda: _has_recovered(source, walwriter))
        write(source)
        caught_up(source, known(repository))
    assert stream.error is None or getattr(stream.error, "kind", None) is ErrorKind.CANCELLED
    assert any("waiting" in phase for phase in stream.phases)
    assert assert_complete(known(repository)(), source) >= 5


def test_a_promoted_standby_is_followed(server: ServerFactory, repository: Repository) -> None:
    """A standby is promoted while its WAL is streamed: all of both timelines is there, and the history file."""
    primary = server(KEPT, wal_segment_megabytes=SMALL)
    standby = standby_of(server, primary)
    with streaming(standby, repository):
        write(primary)
        wait_until(lambda: flushed(standby) >= flushed(primary))
        caught_up(standby, known(repository))
        primary.stop()
        promote(standby)
        write(standby)
        caught_up(standby, known(repository), timeline=2)
    archive = known(repository)()
    switched = archive.history(2).stretches[0].end
    assert switched is not None
    assert archived(archive, 1) >= switched
    assert (
        archive.history_file(2) == (standby.data_directory / "pg_wal/00000002.history").read_bytes()
    )
    for timeline in (1, 2):
        assert assert_complete(archive, standby, timeline) >= 1
    assert archive.segments(2)[0].segment.start <= switched
    status = wal_status(_cluster(standby), repository)
    assert status.passed, status.findings
    assert status.gaps == ()
    with streaming(standby, repository):  # and a start finds its place on the new timeline
        write(standby)
        caught_up(standby, known(repository), timeline=2)
    assert_contiguous(known(repository)(), 2)


@only_18
def test_segments_of_64_megabytes(server: ServerFactory, repository: Repository) -> None:
    """A large segment is in the archive in part within a moment, and whole when it is."""
    source = server(KEPT, wal_segment_megabytes=64)
    with streaming(source, repository):
        write(source)
        caught_up(source, known(repository))
        assert known(repository)().partials(1) != []
        source.query("SELECT pg_switch_wal()")
        write(source)
        caught_up(source, known(repository))
    assert known(repository)().segments(1) != []
    assert assert_complete(known(repository)(), source) >= 2


@only_18
def test_two_streams_of_a_cluster_are_one_too_many(
    server: ServerFactory, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one says who is there, and ends when that stays so."""
    monkeypatch.setattr("opskit.operations.wal_stream._TAKEN_SECONDS", 1)
    source = server(KEPT, wal_segment_megabytes=SMALL)
    with streaming(source, repository):
        caught_up(source, known(repository))
        with streaming(source, repository) as second:
            wait_until(lambda: second.error is not None)
    assert isinstance(second.error, ConflictError)
    assert second.error.kind is ErrorKind.SLOT_IN_USE
    assert "another process streams from the slot 'opskit_main'" in second.error.message


@only_18
def test_a_server_that_went_back_in_time_is_refused(
    server: ServerFactory, repository: Repository, scratch: Path
) -> None:
    """A data directory that was put back as it was is behind the archive, or writes other WAL: both are conflicts."""
    source = server(KEPT, wal_segment_megabytes=SMALL)
    source.query("CREATE TABLE before_all (i int)")
    with streaming(source, repository):
        caught_up(source, known(repository))
    source.stop()
    subprocess.run(["cp", "-a", str(source.data_directory), str(scratch / "kept")], check=True)
    source.start()
    with streaming(source, repository):
        source.query("CREATE TABLE new (i int)")
        caught_up(source, known(repository))
    source.stop()
    subprocess.run(["rm", "-r", str(source.data_directory)], check=True)
    subprocess.run(["cp", "-a", str(scratch / "kept"), str(source.data_directory)], check=True)
    source.start()
    with streaming(source, repository) as stream:
        wait_until(lambda: stream.error is not None)
    assert isinstance(stream.error, ConflictError)
    assert "ahead of the server" in stream.error.message
    source.query("CREATE TABLE other_things (i int, j int)")
    write(source)
    with streaming(source, repository) as stream:
        wait_until(lambda: stream.error is not None)
    assert isinstance(stream.error, ConflictError)
    assert "sends other WAL" in stream.error.message
    assert restart_lsn(source) <= archived(known(repository)())


@only_18
def test_a_lost_slot_ends_the_stream_until_a_gap_is_allowed(
    server: ServerFactory, repository: Repository
) -> None:
    """WAL that the server removed is an error that says so; with --after-gap it is a gap that the status names."""
    options = {"max_slot_wal_keep_size": "1MB", "max_wal_size": "4MB", "min_wal_size": "2MB"}
    source = server(options, wal_segment_megabytes=SMALL)
    with streaming(source, repository):
        write(source)
        caught_up(source, known(repository))
    backup = take(source, repository)
    with streaming(source, repository):
        caught_up(source, known(repository))
    assert wal_status(_cluster(source), repository).passed
    for _ in range(6):
        write(source, 20_000)
        source.query("CHECKPOINT")
    lost = wal_status(_cluster(source), repository, patience_seconds=0)
    assert [f.name for f in lost.findings if not f.passed][:1] == ["slot"]
    with streaming(source, repository) as stream:
        wait_until(lambda: stream.error is not None)
    assert isinstance(stream.error, ServerError)
    assert stream.error.kind is ErrorKind.WAL_REMOVED
    assert "--after-gap" in stream.error.hint
    with streaming(source, repository, after_gap=True) as stream:
        write(source)
        caught_up(source, known(repository))
    with streaming(source, repository) as stream:  # once is enough
        write(source)
        caught_up(source, known(repository))
    status = wal_status(_cluster(source), repository)
    assert [gap.backups for gap in status.gaps] == [(backup.name,)]
    [named] = [f for f in status.findings if f.name == "gap"]
    assert not named.passed
    assert status.gaps[0].first.name in named.message


def _has_recovered(server: LocalServer, walwriter: int) -> bool:
    try:
        rows = server.query(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"
        ).rows
    except ServerError:
        return False
    return rows not in ([], [(walwriter,)])


def _cluster(server: LocalServer) -> ClusterSettings:
    return ClusterSettings(name="main", conninfo=server.conninfo())
