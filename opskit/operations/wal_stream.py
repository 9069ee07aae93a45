"""Bring a cluster's WAL into the archive as it is written, for as long as one lets it.

What must stay true: the slot moves only past what is durable in the archive; a start goes on where the archive ends;
nothing is skipped unless somebody asked for it in so many words.
"""

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack

from opskit.config import ClusterSettings
from opskit.errors import ConflictError, ErrorKind, ServerError, StoreError
from opskit.model.lsn import Lsn
from opskit.model.operation import Progress
from opskit.model.timeline import TimelineHistory, first_timeline, read_history
from opskit.model.wal import WalSegment
from opskit.operations.monitor import Monitor
from opskit.operations.wal_filling import Filling
from opskit.operations.wal_place import Place, archive_place, place_of
from opskit.postgres.connection import Connection, connect
from opskit.postgres.events import Keepalive, TimelineEnded, WalData
from opskit.postgres.replication import ReplicationConnection
from opskit.postgres.wal_facts import LogFacts, drop_slot, log_facts
from opskit.repository import Repository
from opskit.repository.wal import WalArchive

_log = logging.getLogger(__name__)

_STATUS_SECONDS = 10.0
_SHORTEST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_TAKEN_SECONDS = 15.0


def slot_name(cluster: str) -> str:
    """The permanent slot of a cluster: lower-case letters, digits and '_', at most 63 characters."""
    return f"opskit_{cluster.replace('-', '_')}"[:63]


def stream_wal(
    cluster: ClusterSettings,
    repository: Repository,
    monitor: Monitor,
    *,
    partial_seconds: float,
    after_gap: bool = False,
) -> None:
    """Stream until the monitor raises `Cancelled`; reconnect with growing pauses whenever server or storage fail.

    Parameters
    ----------
    partial_seconds
        How often the beginning of the segment that is filling is stored.
    after_gap
        Begin where the server still has WAL, if it does not have all that the archive lacks, and leave a gap; once.

    Raises
    ------
    Cancelled
        The end; what had been received is stored.
    ConflictError
        Another process streams this cluster's WAL, or the archive belongs to another cluster, or is ahead of the
        server.
    ServerError
        The server does not have the WAL any more that the archive lacks, or is of an unsupported version.
    IntegrityError
        The server sent what is not the cluster's WAL.
    """
    pause = _SHORTEST_PAUSE
    skip, may_skip = False, after_gap
    taken_since: float | None = None
    while True:
        monitor.check()
        began = time.monotonic()
        session = _Session(cluster, repository, monitor, partial_seconds, skip=skip)
        try:
            session.run()
        except (ServerError, StoreError, _SlotTakenError) as error:
            if error.kind is ErrorKind.WAL_REMOVED and may_skip:
                _log.warning("%s: going on after a gap", error.message)
                skip, may_skip = True, False
                continue
            if error.kind is ErrorKind.WAL_REMOVED:
                raise ServerError(
                    error.message,
                    error.kind,
                    f"Go on with 'opskit wal stream {cluster.name} --after-gap', and take a new backup.",
                ) from error
            skip = skip and not session.has_streamed
            if isinstance(error, _SlotTakenError):
                taken_since = taken_since or began
                if time.monotonic() - taken_since > _TAKEN_SECONDS:
                    raise
            elif error.kind is ErrorKind.UNSUPPORTED_VERSION:
                raise
            else:
                taken_since = None
            if session.has_streamed:
                pause = _SHORTEST_PAUSE
            _log.warning("%s; trying again in %.0f s", error.message, pause)
            monitor.report(Progress(phase=f"waiting: {error.message}"))
        _sleep(pause, monitor)
        pause = min(2 * pause, _LONGEST_PAUSE)


class _SlotTakenError(ConflictError):
    """Somebody streams from the slot: another process, or the server has not noticed yet that we went away."""


class _Session:
    """One connection's worth of streaming."""

    def __init__(
        self,
        cluster: ClusterSettings,
        repository: Repository,
        monitor: Monitor,
        partial_seconds: float,
        *,
        skip: bool,
    ) -> None:
        self.has_streamed = False
        self._cluster = cluster
        self._repository = repository
        self._monitor = monitor
        self._partial_seconds = partial_seconds
        self._skip = skip
        self._slot = slot_name(cluster.name)
        self._streamed_bytes = 0

    def run(self) -> None:
        """Connect, find the place, stream."""
        with ExitStack() as stack:
            self._monitor.report(Progress(phase="connecting"))
            connection = connect(self._cluster.conninfo)
            stack.callback(connection.close)
            facts = log_facts(connection, self._slot)
            replication = stack.enter_context(
                ReplicationConnection(connection.parameters, self._monitor.check)
            )
            identity = replication.identify_system()
            self._repository.claim_cluster(
                self._cluster.name,
                identity.system_identifier,
                facts.postgresql_major,
                facts.wal_segment_bytes,
            )
            archive = self._repository.known_wal(self._cluster.name)
            if archive.segment_bytes != facts.wal_segment_bytes:  # by pg_resetwal --wal-segsize
                raise ConflictError(
                    f"the archive of {self._cluster.name!r} has segments of {archive.segment_bytes} bytes,"
                    f" the server's have {facts.wal_segment_bytes}",
                    ErrorKind.NAME_TAKEN,
                    "Configure the server under another name, or another repository.",
                )
            history = _keep_histories(archive, replication, identity.timeline)
            facts = self._with_slot(connection, replication, facts)
            place = self._place(archive, history, facts, identity.flushed_lsn)
            connection.close()
            _log.info(
                "streaming from %s on timeline %d", place.segment.start, place.segment.timeline
            )
            self._follow(archive, replication, identity.system_identifier, place)

    def _with_slot(
        self,
        connection: Connection,
        replication: ReplicationConnection,
        facts: LogFacts,
    ) -> LogFacts:
        """See to it that there is a slot of ours that nobody else uses."""
        slot = facts.slot
        if slot is not None and slot.is_active:
            raise _SlotTakenError(
                f"another process streams from the slot {self._slot!r}",
                ErrorKind.SLOT_IN_USE,
                f"Let one 'opskit wal stream {self._cluster.name}' run; pg_stat_replication tells where the other is.",
            )
        if slot is not None and slot.is_lost:
            # It keeps nothing any more. Whether the server still has what the archive lacks shows when it is asked.
            drop_slot(connection, self._slot)
            slot = None
        if slot is None:
            replication.create_slot(self._slot)
            return log_facts(connection, self._slot)
        return facts

    def _place(
        self, archive: WalArchive, history: TimelineHistory, facts: LogFacts, flushed: Lsn
    ) -> Place:
        """Where to go on: behind what the archive has on the server's path, else where the slot begins."""
        restart = facts.slot.restart_lsn if facts.slot is not None else None
        place = archive_place(archive, history, restart)
        if place is None or self._skip:
            start = restart if restart is not None else flushed
            return place_of(
                WalSegment.holding(start, history.at(start).timeline, archive.segment_bytes)
            )
        if place.durable > flushed:
            ahead = (
                f"the archive of {self._cluster.name!r} ends at {place.durable},"
                f" ahead of the server at {flushed}"
            )
            if facts.in_recovery:
                raise ServerError(f"{ahead}, a standby", ErrorKind.SERVER_REFUSED)
            raise ConflictError(
                ahead,
                ErrorKind.WAL_GAP,
                "The server went back in time: give the restored cluster a name of its own.",
            )
        return place

    def _follow(
        self,
        archive: WalArchive,
        replication: ReplicationConnection,
        system_identifier: str,
        place: Place,
    ) -> None:
        """Stream one timeline after the other."""
        while True:
            filling = Filling(archive, place, system_identifier, self._monitor.check)
            confirm: Callable[[Lsn], None] | None = replication.confirm
            try:
                ended = self._stream(replication, filling, place.segment)
                confirm = None  # a COPY that has ended takes no answer
            finally:
                filling.finish(confirm)
            timeline = ended.next_timeline
            _log.info("timeline %d branched off at %s", timeline, ended.switched_at)
            archive.put_history(timeline, replication.timeline_history(timeline))
            place = place_of(WalSegment.holding(ended.switched_at, timeline, archive.segment_bytes))

    def _stream(
        self, replication: ReplicationConnection, filling: Filling, segment: WalSegment
    ) -> TimelineEnded:
        partial_at = status_at = time.monotonic()
        for event in replication.wal(self._slot, segment.start, segment.timeline):
            now = time.monotonic()
            due = now - status_at >= _STATUS_SECONDS
            if isinstance(event, WalData):
                filling.add(event.data)
                self._streamed_bytes += len(event.data)
                self.has_streamed = True
            elif isinstance(event, TimelineEnded):
                return event
            elif isinstance(event, Keepalive):
                due = due or event.answer_now
            if now - partial_at >= self._partial_seconds:
                filling.store_partial()
                partial_at, due = now, True
            if filling.take_note() or due:
                replication.confirm(filling.durable)
                status_at = now
                self._monitor.report(
                    Progress(
                        phase=f"streaming, durable to {filling.durable} on timeline {segment.timeline}",
                        bytes_done=self._streamed_bytes,
                    )
                )
        raise ServerError("the stream ended without a reason", ErrorKind.SERVER_GONE)


def _keep_histories(
    archive: WalArchive, replication: ReplicationConnection, timeline: int
) -> TimelineHistory:
    """How the server came to `timeline`; the history files of the path are kept."""
    if timeline == 1:
        return first_timeline()
    content = replication.timeline_history(timeline)
    history = read_history(timeline, content)
    for stretch in history.stretches[1:-1]:
        archive.put_history(stretch.timeline, replication.timeline_history(stretch.timeline))
    archive.put_history(timeline, content)
    return history


def _sleep(seconds: float, monitor: Monitor) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        monitor.check()
        time.sleep(min(left, 0.25))
