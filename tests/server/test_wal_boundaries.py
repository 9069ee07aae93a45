"""Where segments begin and end: a backup that stops exactly there, and segments that are small or large."""

from pathlib import Path

import pytest

from opskit.cluster import Cluster
from opskit.model.backup import BaseBackup
from opskit.model.operation import Progress
from opskit.model.wal import WalSegment
from opskit.operations.wal_status import wal_status
from opskit.postgres.server import LocalServer
from opskit.repository.wal import WalArchive
from tests.servers import ServerFactory
from tests.support.clusters import ClusterMaker
from tests.support.events import HAPPEN, count_events, eventful
from tests.support.majors import newest_first
from tests.support.standby import promote, replayed, standby_of
from tests.support.streams import caught_up, streaming

SEGMENT = 1 << 20
BACKUP_END = 40  # the record that ends a backup, as it lies in the log
PAGE = 8192


class Filler:
    """A monitor that, in the middle of a backup, fills the log so that the backup's end fills its segment."""

    def __init__(self, server: LocalServer) -> None:
        self._server = server
        self._filled = False

    def report(self, progress: Progress) -> None:
        """See `Monitor`."""
        if progress.phase == "copying" and not self._filled:
            self._filled = True
            fill_segment(self._server, BACKUP_END)

    def check(self) -> None:
        """See `Monitor`."""


def written(server: LocalServer) -> int:
    """Where the next record of the server's log goes."""
    return int(server.query("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").rows[0][0])


def emit(server: LocalServer, size: int) -> int:
    """Write a message of that size; by how much the log has grown."""
    before = written(server)
    server.query(f"SELECT pg_logical_emit_message(false, 'test', repeat('x', {size}))")
    return written(server) - before


def fill_segment(server: LocalServer, left: int) -> None:
    """Write until just `left` bytes of the log's segment are free."""
    while (room := SEGMENT - written(server) % SEGMENT) > PAGE:
        emit(server, max(room - PAGE - 4000, 300))
    overhead = emit(server, 400) - 400
    emit(server, SEGMENT - written(server) % SEGMENT - left - overhead)
    assert SEGMENT - written(server) % SEGMENT == left


def assert_goes_on(main: Cluster, backup: BaseBackup, scratch: Path, rows: int) -> None:
    """The backup restores by itself, with half of the events, and by the archive with all of them."""
    assert backup.stop_lsn % SEGMENT == 0
    size, stop = backup.wal_segment_bytes, backup.stop_lsn
    last = WalSegment.ending_at(stop, backup.timeline, size)
    assert last.end == stop
    copy = main.restore(scratch / "alone", backup=backup.name)
    assert (copy.directory / "snapshot/data/pg_wal" / last.name).stat().st_size == size
    assert copy.verify().exit_code == 0
    with copy.started() as running:
        assert count_events(running.server) == rows // 2
    with main.restore(scratch / "latest", backup=backup.name, latest=True).started() as running:
        assert count_events(running.server) == rows
    [interval, *_] = main.recoverable().to_dict("records")
    assert (interval["backup"], interval["ends_because"]) == (backup.name, "the archive ends here")
    status = wal_status(main.configuration, main.repository)
    assert status.passed, status.findings


def test_a_backup_may_end_where_its_segment_does(
    server: ServerFactory, cluster: ClusterMaker, scratch: Path
) -> None:
    """Its end belongs to the segment before, which it brings; the archive goes on in the next one."""
    source = eventful(server)
    main = cluster(source)
    with streaming(source, main.repository):
        source.query(HAPPEN)
        for _ in range(3):  # the server may write something of its own in between
            backup = main.create_backup(monitor=Filler(source))
            if backup.stop_lsn % SEGMENT == 0:
                break
        source.query(HAPPEN)
        caught_up(source, lambda: main.repository.known_wal("main"))
        assert_goes_on(main, backup, scratch, 2)


@newest_first
def test_a_standby_s_backup_may_end_where_its_segment_does(
    server: ServerFactory, cluster: ClusterMaker, scratch: Path
) -> None:
    """The primary switched to a new segment and wrote nothing since: the standby's log ends at the switch."""
    primary = eventful(server)
    standby = standby_of(server, primary)
    source, replica = cluster(primary), cluster(standby)
    with streaming(primary, source.repository):
        primary.query("CHECKPOINT")
        primary.query(HAPPEN)
        primary.query("SELECT pg_switch_wal()")
        replayed(standby, primary)
        backup = replica.create_backup()
        primary.query(HAPPEN)
        caught_up(primary, lambda: source.repository.known_wal("main"))
        assert_goes_on(source, backup, scratch, 2)


@newest_first
@pytest.mark.parametrize("streamed", ["meanwhile", "later"])
def test_a_timeline_may_branch_off_where_a_segment_ends(
    server: ServerFactory,
    cluster: ClusterMaker,
    scratch: Path,
    streamed: str,
) -> None:
    """A standby is promoted right behind a switch of segments, while it is streamed from or before it is again."""
    primary = eventful(server)
    standby = standby_of(server, primary)
    main = cluster(standby)

    def archive() -> WalArchive:
        return main.repository.known_wal("main")

    with streaming(standby, main.repository):
        backup = main.create_backup()
        primary.query(HAPPEN)
        primary.query("SELECT pg_switch_wal()")
        replayed(standby, primary)
        caught_up(standby, archive)
        primary.stop("immediate")  # without a checkpoint
        if streamed == "meanwhile":
            promote(standby)
            standby.query(HAPPEN)
            caught_up(standby, archive, timeline=2)
    if streamed == "later":
        promote(standby)
        standby.query(HAPPEN)
    with streaming(standby, main.repository):
        standby.query(HAPPEN)
        caught_up(standby, archive, timeline=2)
        status = wal_status(main.configuration, main.repository)
        assert status.passed, status.findings
    assert archive().history(2).stretches[-1].start % SEGMENT == 0
    copy = main.restore(scratch / "latest", latest=True)
    assert copy.files.backup == backup.name
    with copy.started() as running:
        assert count_events(running.server) == 3


@pytest.mark.parametrize("programs", [18], indirect=True)
def test_segments_of_64_megabytes_lead_to_a_point_in_time(
    server: ServerFactory, cluster: ClusterMaker, scratch: Path
) -> None:
    """The beginning of one is in the archive within a moment, and a restore ends in it."""
    source = eventful(server, segment_megabytes=64)
    main = cluster(source)
    with streaming(source, main.repository):
        main.create_backup()
        source.query(HAPPEN)
        [[first]] = source.query("SELECT clock_timestamp()").rows
        source.query("SELECT pg_switch_wal()")
        source.query(HAPPEN)
        [[second]] = source.query("SELECT clock_timestamp()").rows
        source.query(HAPPEN)
        caught_up(source, lambda: main.repository.known_wal("main"))
    archive = main.repository.known_wal("main")
    assert len(archive.segments(1)) >= 2
    assert len(archive.partials(1)) == 1
    for at, rows in ((first, 1), (second, 2)):
        with main.restore(scratch / f"at{rows}", at=at).started() as running:
            assert count_events(running.server) == rows


@pytest.mark.parametrize("programs", [18], indirect=True)
def test_what_happened_before_a_backup_s_end_is_reached_from_an_earlier_one(
    server: ServerFactory, cluster: ClusterMaker, scratch: Path
) -> None:
    """Although it lies in the segment in which the newest backup ends; of two restore points the first counts."""
    source = eventful(server, segment_megabytes=16)
    main = cluster(source)
    with streaming(source, main.repository):
        first = main.create_backup()
        [[_, xid]] = source.query(f"{HAPPEN} RETURNING n, txid_current()").rows
        source.query("SELECT pg_create_restore_point('once')")
        second = main.create_backup()
        for _ in range(2):
            source.query(HAPPEN)
            source.query("SELECT pg_create_restore_point('twice')")
        source.query("SELECT pg_switch_wal()")
        source.query(HAPPEN)
        source.query("SELECT pg_create_restore_point('twice')")
        source.query(HAPPEN)
        caught_up(source, lambda: main.repository.known_wal("main"))
    by_xid = main.restore(scratch / "xid", xid=xid)
    by_point = main.restore(scratch / "point", restore_point="once")
    twice = main.restore(scratch / "twice", restore_point="twice")
    assert [copy.files.backup for copy in (by_xid, by_point)] == [first.name] * 2
    assert twice.files.backup == second.name
    for copy, rows in ((by_xid, 1), (by_point, 1), (twice, 2)):
        with copy.started() as running:
            assert count_events(running.server) == rows
