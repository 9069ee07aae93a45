"""Bring a cluster's WAL into the archive as it is written, for as long as one lets it.

What must stay true: the slot moves only past what is durable in the archive; a start goes on exactly where the archive
ends; nothing is skipped unless somebody asked for it in so many words.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from opskit.config import ClusterSettings
from opskit.errors import ConflictError, ErrorKind, NotFoundError, ServerError, StoreError
from opskit.model.lsn import Lsn
from opskit.model.operation import Progress
from opskit.model.timeline import TimelineHistory, first_timeline, read_history
from opskit.model.wal import WalSegment, check_segment
from opskit.operations.monitor import Monitor
from opskit.postgres.connection import connect
from opskit.postgres.events import Keepalive, TimelineEnded, WalData
from opskit.postgres.facts import ClusterFacts, SlotFacts, probe, slot_facts
from opskit.postgres.replication import ReplicationConnection
from opskit.repository import Repository
from opskit.repository.wal import WalArchive

_log = logging.getLogger(__name__)

PARTIAL_SECONDS = 10.0
_STATUS_SECONDS = 10.0
_SHORTEST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_STORING_AT_ONCE = 2
_FATAL = {
    ErrorKind.WAL_REMOVED,
    ErrorKind.WAL_GAP,
    ErrorKind.NAME_TAKEN,
    ErrorKind.UNSUPPORTED_VERSION,
    ErrorKind.OBJECT_EXISTS,
    ErrorKind.CHECKSUM_MISMATCH,
    ErrorKind.UNKNOWN_FORMAT,
    ErrorKind.SECRET_IN_SETTINGS,
    ErrorKind.WRONG_SETTING,
}


@dataclass(frozen=True, slots=True)
class Position:
    """Where streaming begins: the start of a segment."""

    segment: WalSegment
    partial_end: Lsn | None = None


def slot_name(cluster: str) -> str:
    """The permanent slot of a cluster: lower-case letters, digits and '_', at most 63 characters."""
    return f"opskit_{cluster.replace('-', '_')}"[:63]


def stream_wal(
    cluster: ClusterSettings,
    repository: Repository,
    monitor: Monitor,
    *,
    partial_seconds: float = PARTIAL_SECONDS,
    after_gap: bool = False,
) -> None:
    """Stream until the monitor raises `Cancelled`; reconnect with growing pauses whenever server or storage fail.

    Parameters
    ----------
    partial_seconds
        How often the beginning of the segment that is filling is stored.
    after_gap
        Begin where the server still has WAL, if it does not have all that the archive lacks, and leave a gap.

    Raises
    ------
    Cancelled
        The end; what had been received is stored.
    ConflictError
        The archive belongs to another cluster, or is ahead of the server.
    ServerError
        The server does not have the WAL any more that the archive lacks, or is of an unsupported version.
    IntegrityError
        The server sent what is not the cluster's WAL.
    """
    pause = _SHORTEST_PAUSE
    while True:
        monitor.check()
        began = time.monotonic()
        try:
            _Session(cluster, repository, monitor, partial_seconds, after_gap).run()
        except (ServerError, StoreError, NotFoundError) as error:
            if error.kind in _FATAL:
                raise
            if time.monotonic() - began > _LONGEST_PAUSE:
                pause = _SHORTEST_PAUSE
            _log.warning("%s; trying again in %.0f s", error.message, pause)
            monitor.report(Progress(phase=f"waiting: {error.message}"))
        _sleep(pause, monitor)
        pause = min(2 * pause, _LONGEST_PAUSE)


class _Session:
    """One connection's worth of streaming."""

    def __init__(
        self,
        cluster: ClusterSettings,
        repository: Repository,
        monitor: Monitor,
        partial_seconds: float,
        after_gap: bool,
    ) -> None:
        self._cluster = cluster
        self._repository = repository
        self._monitor = monitor
        self._partial_seconds = partial_seconds
        self._after_gap = after_gap
        self._slot = slot_name(cluster.name)
        self._streamed_bytes = 0

    def run(self) -> None:
        """Connect, find the place, stream."""
        with ExitStack() as stack:
            self._monitor.report(Progress(phase="connecting"))
            connection = connect(self._cluster.conninfo)
            stack.callback(connection.close)
            facts = probe(connection)
            self._repository.claim_cluster(
                self._cluster.name, facts.system_identifier, facts.major, facts.wal_segment_bytes
            )
            archive = self._repository.wal(self._cluster.name, facts.wal_segment_bytes)
            replication = stack.enter_context(
                ReplicationConnection(connection.parameters, self._monitor.check)
            )
            if slot_facts(connection, self._slot) is None:
                replication.create_slot(self._slot)
            slot = slot_facts(connection, self._slot)
            assert slot is not None
            identity = replication.identify_system()
            history = self._history(archive, replication, identity.timeline)
            position = self._position(archive, history, slot, identity.flushed_lsn)
            connection.close()
            self._follow(archive, replication, facts, position)

    def _history(
        self, archive: WalArchive, replication: ReplicationConnection, timeline: int
    ) -> TimelineHistory:
        """How the server came to `timeline`; its history files are kept."""
        if timeline == 1:
            return first_timeline()
        content = replication.timeline_history(timeline)
        archive.put_history(timeline, content)
        history = read_history(timeline, content)
        known = set(archive.timelines())
        for stretch in history.stretches[1:-1]:
            if stretch.timeline not in known:
                archive.put_history(
                    stretch.timeline, replication.timeline_history(stretch.timeline)
                )
        return history

    def _position(
        self, archive: WalArchive, history: TimelineHistory, slot: SlotFacts, flushed: Lsn
    ) -> Position:
        """Where to go on: behind the archive's last segment on the server's path, else where the slot begins."""
        position = archive_end(archive, history)
        if position is not None and position.segment.start > flushed:
            raise ConflictError(
                f"the archive of {self._cluster.name!r} ends at {position.segment.start},"
                f" ahead of the server at {flushed}",
                ErrorKind.WAL_GAP,
                "The server went back in time: give the restored cluster a name of its own.",
            )
        restart = slot.restart_lsn
        if position is None or (
            self._after_gap and restart is not None and restart > position.segment.end
        ):
            start = restart if restart is not None else flushed
            stretch = history.at(start)
            return Position(WalSegment.holding(start, stretch.timeline, archive.segment_bytes))
        if slot.is_lost and not self._after_gap:
            raise ServerError(
                f"the slot {self._slot!r} is lost: the server removed WAL that the archive lacks",
                ErrorKind.WAL_REMOVED,
                f"Drop it (SELECT pg_drop_replication_slot('{self._slot}')), go on with --after-gap,"
                " and take a new backup.",
            )
        return position

    def _follow(
        self,
        archive: WalArchive,
        replication: ReplicationConnection,
        facts: ClusterFacts,
        position: Position,
    ) -> None:
        """Stream one timeline after the other."""
        while True:
            segment = position.segment
            filling = _Filling(archive, position, facts.system_identifier, replication.confirm)
            ended: TimelineEnded | None = None
            try:
                ended = self._stream(replication, filling, segment)
            finally:
                filling.finish(tell=ended is None)
            if ended is None:
                return
            timeline = ended.next_timeline
            _log.info("timeline %d branched off at %s", timeline, ended.switched_at)
            archive.put_history(timeline, replication.timeline_history(timeline))
            position = Position(WalSegment.holding(ended.switched_at, timeline, segment.size))

    def _stream(
        self, replication: ReplicationConnection, filling: "_Filling", segment: WalSegment
    ) -> TimelineEnded | None:
        partial_at = status_at = time.monotonic()
        for event in replication.wal(self._slot, segment.start, segment.timeline):
            now = time.monotonic()
            if isinstance(event, WalData):
                filling.add(event.data)
                self._streamed_bytes += len(event.data)
            elif isinstance(event, TimelineEnded):
                return event
            if now - partial_at >= self._partial_seconds:
                filling.store_partial()
                partial_at = now
            asked = isinstance(event, Keepalive) and event.answer_now
            if asked or filling.confirm_stored() or now - status_at >= _STATUS_SECONDS:
                replication.confirm(filling.durable)
                status_at = now
                self._monitor.report(
                    Progress(
                        phase=f"streaming, durable to {filling.durable} on timeline {segment.timeline}",
                        bytes_done=self._streamed_bytes,
                    )
                )
        return None


class _Filling:
    """The segment that is being filled, and those that a thread is storing."""

    def __init__(
        self,
        archive: WalArchive,
        position: Position,
        system_identifier: str,
        confirm: Callable[[Lsn], None],
    ) -> None:
        self.durable = position.partial_end or position.segment.start
        self._archive = archive
        self._segment = position.segment
        self._system_identifier = system_identifier
        self._confirm = confirm
        size = position.segment.size
        self._free = deque(bytearray(size) for _ in range(_STORING_AT_ONCE + 1))
        self._buffer = self._free.popleft()
        self._filled = 0
        self._stored_filled = 0
        self._storing = ThreadPoolExecutor(1, thread_name_prefix="wal")
        self._pending: deque[tuple[Future[None], WalSegment, bytearray]] = deque()

    def add(self, data: memoryview) -> None:
        """Append what the server sent; a segment that becomes full is handed over to be stored."""
        while data:
            part = data[: self._segment.size - self._filled]
            self._buffer[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            data = data[len(part) :]
            if self._filled == self._segment.size:
                self._hand_over()

    def store_partial(self) -> None:
        """Make the beginning of the segment durable, if it has grown."""
        self._await_all()
        if self._filled > self._stored_filled:
            content = memoryview(self._buffer)[: self._filled]
            if self._stored_filled == 0:
                check_segment(self._segment, content, self._system_identifier)
            end = Lsn(self._segment.start + self._filled)
            if end > self.durable:
                self._archive.put_partial(self._segment, content)
                self.durable = end
            self._stored_filled = self._filled

    def confirm_stored(self) -> bool:
        """Take note of segments that have become durable; whether there were any.

        Raises
        ------
        OpskitError
            What storing one of them raised.
        """
        before = self.durable
        while self._pending and self._pending[0][0].done():
            self._take_oldest()
        return self.durable != before

    def finish(self, *, tell: bool) -> None:
        """Store what there is, and `tell` the server, as far as both are there."""
        try:
            self.store_partial()
            if tell:
                self._confirm(self.durable)
        except (ServerError, StoreError) as error:
            _log.warning("the last partial segment: %s", error.message)
        finally:
            self._storing.shutdown()

    def _hand_over(self) -> None:
        self._pending.append(
            (
                self._storing.submit(self._store, self._segment, self._buffer),
                self._segment,
                self._buffer,
            )
        )
        if not self._free:
            self._take_oldest()
        self._buffer = self._free.popleft()
        self._segment = self._segment.next()
        self._filled = self._stored_filled = 0

    def _store(self, segment: WalSegment, content: bytearray) -> None:
        check_segment(segment, content, self._system_identifier)
        self._archive.put_segment(segment, content)

    def _await_all(self) -> None:
        while self._pending:
            self._take_oldest()

    def _take_oldest(self) -> None:
        future, segment, buffer = self._pending.popleft()
        self._free.append(buffer)
        future.result()
        self.durable = max(self.durable, segment.end)


def archive_end(archive: WalArchive, history: TimelineHistory) -> Position | None:
    """Where the archive ends on the path of `history`: at the segment that it lacks next; `None` if it has nothing."""
    for stretch in reversed(history.stretches):
        ranges = archive.ranges(stretch.timeline)
        partials = archive.partials(stretch.timeline)
        if not ranges and not partials:
            continue
        segment = ranges[-1].last.next() if ranges else partials[0].segment
        if stretch.end is not None and segment.start > stretch.end:
            later = next(s for s in history.stretches if s.start == stretch.end)
            return Position(WalSegment.holding(stretch.end, later.timeline, archive.segment_bytes))
        ends = [partial.end for partial in partials if partial.segment == segment]
        return Position(segment, ends[0] if ends else None)
    return None


def _sleep(seconds: float, monitor: Monitor) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        monitor.check()
        time.sleep(min(left, 0.25))
