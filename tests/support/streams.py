"""Streams of WAL that tests start, cut and compare with what the server itself has."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from opskit.config import ClusterSettings
from opskit.errors import Cancelled
from opskit.model.operation import Progress
from opskit.model.wal import WalSegment
from opskit.operations.wal_stream import stream_wal
from opskit.postgres.server import LocalServer
from opskit.repository import Repository
from opskit.repository.wal import WalArchive
from tests.support.backups import wait_until

KEPT = {"wal_keep_size": "1GB", "max_wal_size": "1GB", "wal_level": "replica"}


class Stream:
    """A stream in a thread: its phases, and the error that it ended with."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.error: BaseException | None = None
        self._asked = threading.Event()

    def report(self, progress: Progress) -> None:
        """See `Monitor`."""
        if not self.phases or self.phases[-1] != progress.phase:
            self.phases.append(progress.phase)

    def check(self) -> None:
        """See `Monitor`."""
        if self._asked.is_set():
            raise Cancelled("cancelled")

    def ask(self) -> None:
        """Ask for the end."""
        self._asked.set()


@contextmanager
def streaming(
    server: LocalServer,
    repository: Repository,
    *,
    partial_seconds: float = 0.2,
    after_gap: bool = False,
) -> Iterator[Stream]:
    """Stream the cluster ``main`` as long as this lasts."""
    stream = Stream()
    cluster = ClusterSettings(name="main", conninfo=server.conninfo())

    def work() -> None:
        try:
            stream_wal(
                cluster, repository, stream, partial_seconds=partial_seconds, after_gap=after_gap
            )
        except BaseException as error:
            stream.error = error

    thread = threading.Thread(target=work, name="stream")
    thread.start()
    try:
        yield stream
    finally:
        stream.ask()
        thread.join(60)
    assert not thread.is_alive()


def flushed(server: LocalServer) -> int:
    """How far the server's log is on its disk."""
    lsn = "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_flush_lsn() END"
    return int(server.query(f"SELECT {lsn} - '0/0'::pg_lsn").rows[0][0])


def known(repository: Repository) -> Callable[[], WalArchive]:
    """The archive of the cluster ``main``, looked at anew each time."""
    return lambda: repository.known_wal("main")


def archived(archive: WalArchive, timeline: int = 1) -> int:
    """Up to where the archive has the timeline, the partial segment included."""
    parts = [int(p.end) for p in archive.partials(timeline)]  # first: one becomes whole at any time
    return max(parts + [int(r.end) for r in archive.ranges(timeline)], default=0)


def caught_up(
    server: LocalServer, archive: Callable[[], WalArchive], timeline: int = 1, seconds: float = 60
) -> None:
    """Wait until the archive has all that the server had when this was called."""
    wanted = flushed(server)

    def reached() -> bool:
        try:
            return archived(archive(), timeline) >= wanted
        except LookupError:  # not even claimed yet
            return False

    wait_until(reached, f"the archive does not come to {wanted:X}", seconds)


def assert_contiguous(archive: WalArchive, timeline: int = 1) -> None:
    """The archive has one range of the timeline, and at most the partial that follows it."""
    ranges, partials = archive.ranges(timeline), archive.partials(timeline)
    assert len(ranges) <= 1, [(r.first.name, r.last.name) for r in ranges]
    assert len(partials) <= 1
    if ranges and partials:
        assert partials[0].segment == ranges[0].last.next()


def assert_complete(archive: WalArchive, server: LocalServer, timeline: int = 1) -> int:
    """The archive is contiguous, and what the server itself has; of how many segments that was seen."""
    assert_contiguous(archive, timeline)
    return assert_same_as(archive, server.data_directory / "pg_wal", timeline)


def assert_same_as(archive: WalArchive, files: Path, timeline: int = 1) -> int:
    """Every stored segment that is in the folder too is the same there, and partial ones begin so; how many were."""
    compared = 0
    for stored in archive.segments(timeline):
        file = files / stored.segment.name
        if file.exists():
            assert archive.segment(stored.segment) == file.read_bytes(), stored.segment.name
            compared += 1
    for partial in archive.partials(timeline):
        found = _either(files, partial.segment)
        if found is not None:
            content = archive.partial(partial.segment)
            assert found.read_bytes().startswith(content), partial.segment.name
            compared += 1
    return compared


def _either(files: Path, segment: WalSegment) -> Path | None:
    for file in (files / segment.name, files / f"{segment.name}.partial"):
        if file.exists():
            return file
    return None
