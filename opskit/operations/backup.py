"""Take a base backup of a running cluster into the repository."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain

from opskit.config import Checkpoint, ClusterSettings
from opskit.errors import ConflictError, ErrorKind, ServerError
from opskit.model.backup import BackupKind, BaseBackup, Tablespace, Trigger, check_note
from opskit.model.increment import BackupMode
from opskit.model.manifest import check_received, read_manifest, restored_mark
from opskit.model.operation import Progress
from opskit.operations.increment import Asked, Basis, find_basis, still_there
from opskit.operations.monitor import Monitor
from opskit.postgres.connection import Connection, connect
from opskit.postgres.events import (
    ArchiveStarted,
    BackupEnded,
    BackupEvent,
    BackupStarted,
    ManifestStarted,
)
from opskit.postgres.facts import (
    LINGERING_SECONDS,
    ClusterFacts,
    backup_running,
    lock_for_backup,
    probe,
    server_time,
)
from opskit.postgres.replication import ReplicationConnection
from opskit.repository import BackupWriter, Repository
from opskit.repository.snapshot import SnapshotWriter
from opskit.repository.startup import Origin, startup_files
from opskit.version import __version__

SLOT = "opskit_backup"
_REPORT_EVERY_BYTES = 4 << 20
_MANIFEST_IN_MEMORY_BYTES = 16 << 20


def create_backup(
    cluster: ClusterSettings,
    repository: Repository,
    *,
    trigger: Trigger,
    note: str,
    monitor: Monitor,
    named: Callable[[str], None] = lambda name: None,
    scheduled_for: datetime | None = None,
    mode: BackupMode = BackupMode.AUTO,
) -> BaseBackup:
    """Take a base backup; when this returns, it is durable and listed.

    One backup of a cluster runs at a time, across hosts: an advisory lock and a temporary slot of a fixed name see to
    it, and both go with the connections. Backup times are the server's clock, since its commits are stamped by it.

    Parameters
    ----------
    named
        Called once with the backup's name, before any byte of it is stored.
    scheduled_for
        The time of the schedule that it is for.
    mode
        Whether it is full or an increment; by itself it is an increment where the server can send one, unless the
        cluster's rules or the server's refusal make it a full one. The record tells the reason.

    Raises
    ------
    InputError
        The note or the conninfo cannot be used.
    ConflictError
        Another backup of the cluster is running, or its name here belongs to another cluster, or there is one for that
        time of the schedule already, or an increment is insisted on without a backup to build on.
    ServerError, StoreError
        The server or the storage refused or failed.
    IntegrityError
        What arrived differs from the server's manifest.
    Cancelled
        The monitor asked for the end.

    Effects
    -------
    Nothing is listed unless this returns; what was stored before a failure is removed again.
    """
    check_note(note)
    because = ""
    while True:
        try:
            return _created(
                cluster, repository, trigger, note, monitor, named, scheduled_for, mode, because
            )
        except _RestoredSinceError as error:
            if mode is BackupMode.INCREMENTAL:
                raise
            because = error.message


def _created(
    cluster: ClusterSettings,
    repository: Repository,
    trigger: Trigger,
    note: str,
    monitor: Monitor,
    named: Callable[[str], None],
    scheduled_for: datetime | None,
    mode: BackupMode,
    because: str,
) -> BaseBackup:
    """As `create_backup`; a full one if there is a reason for it."""
    monitor.report(Progress(phase="connecting"))
    with ExitStack() as stack:
        connection = connect(cluster.conninfo)
        stack.callback(connection.close)
        facts = probe(connection)
        lock_for_backup(connection)
        repository.claim_cluster(
            cluster.name, facts.system_identifier, facts.major, facts.wal_segment_bytes
        )
        if scheduled_for is not None:  # asked while we have the lock: two schedulers make one
            _refuse_second(repository, cluster.name, scheduled_for)
        stack.enter_context(_slot(connection, facts, monitor))
        stream = stack.enter_context(ReplicationConnection(connection.parameters, monitor.check))
        now = server_time(connection)
        asked = Asked(
            cluster=cluster,
            repository=repository,
            connection=connection,
            stream=stream,
            facts=facts,
            now=now,
        )
        basis = Basis(parent=None, reason=because) if because else find_basis(asked, mode)
        parent = basis.parent.name if basis.parent is not None else None
        writer = repository.new_backup(cluster.name, now, parent)
        try:
            basis = still_there(asked, basis, mode)
            named(writer.name)
            monitor.report(Progress(phase="waiting for the checkpoint"))
            label = f"opskit {cluster.name} {writer.name}"
            fast = cluster.checkpoint is Checkpoint.FAST
            started_at = server_time(connection)
            basis, events = _begun(stream, label, fast, basis, mode)
            taking = _Taking(cluster, connection, facts, writer, monitor, basis, started_at)
            taking.receive(events)
            taking.check_history()
            backup = replace(taking.finish(trigger, note), scheduled_for=scheduled_for)
            monitor.check()
            writer.commit(backup)
            repository.check_chain(backup)  # or it is none: somebody forced a part of it away
        except BaseException:
            stream.close()
            writer.discard()
            raise
    return backup


def _begun(
    stream: ReplicationConnection, label: str, fast: bool, basis: Basis, mode: BackupMode
) -> tuple[Basis, Iterator[BackupEvent]]:
    """Let the server begin, with a full backup if it refuses an increment that nobody insists on."""
    if basis.parent is not None:
        try:
            stream.upload_manifest(basis.manifest)
            events = stream.base_backup(label, fast_checkpoint=fast, incremental=True)
            return basis, chain([next(events)], events)
        except ServerError as error:
            if error.kind is not ErrorKind.NOT_INCREMENTAL or mode is BackupMode.INCREMENTAL:
                raise
            basis = Basis(parent=None, reason=error.message)
    return basis, stream.base_backup(label, fast_checkpoint=fast)


def _refuse_second(repository: Repository, cluster: str, scheduled_for: datetime) -> None:
    for backup in repository.backups(cluster):
        if backup.scheduled_for == scheduled_for:
            raise ConflictError(
                f"backup {backup.name!r} was taken for {scheduled_for:%Y-%m-%d %H:%M:%S} UTC already",
                ErrorKind.BACKED_UP_ALREADY,
                "Nothing needs to be done; a backup beside the schedule is 'opskit backup'.",
            )


def _slot(connection: Connection, facts: ClusterFacts, monitor: Monitor) -> ReplicationConnection:
    """A connection that holds a temporary slot, so that the server keeps the WAL that the backup needs."""
    holder = ReplicationConnection(connection.parameters, monitor.check)
    try:
        if holder.identify_system().system_identifier != facts.system_identifier:
            raise ServerError(
                "the replication connection reached another cluster than the SQL connection",
                ErrorKind.SERVER_REFUSED,
                "Name a single host in conninfo.",
            )
        _take_slot(holder, connection, monitor)
    except BaseException:
        holder.close()
        raise
    return holder


def _take_slot(holder: ReplicationConnection, connection: Connection, monitor: Monitor) -> None:
    deadline = time.monotonic() + LINGERING_SECONDS
    while True:
        try:
            return holder.create_temporary_slot(SLOT)
        except ServerError as error:
            if error.kind is not ErrorKind.BACKUP_RUNNING:
                raise
            if time.monotonic() > deadline:
                raise backup_running(connection) from None
        monitor.check()
        time.sleep(0.1)


class _RestoredSinceError(ServerError):
    """The server may have another history than the backup that an increment is based on."""


class _Taking:
    """One backup while its stream is received."""

    def __init__(
        self,
        cluster: ClusterSettings,
        connection: Connection,
        facts: ClusterFacts,
        writer: BackupWriter,
        monitor: Monitor,
        basis: Basis,
        started_at: datetime,
    ) -> None:
        self._basis = basis
        self._cluster = cluster
        self._connection = connection
        self._facts = facts
        self._writer = writer
        self._monitor = monitor
        self._started_at = self._stopped_at = started_at
        self._start: BackupStarted | None = None
        self._end: BackupEnded | None = None
        self._snapshot: SnapshotWriter | None = None
        self._manifest = b""

    def receive(self, events: Iterator[BackupEvent]) -> None:
        """Bring the stream into volumes."""
        manifest = tempfile.SpooledTemporaryFile(_MANIFEST_IN_MEMORY_BYTES)  # noqa: SIM115
        with manifest:
            in_manifest = False
            done, reported = 0, 0
            expected: int | None = None
            for event in events:
                if isinstance(event, memoryview):
                    if in_manifest:
                        manifest.write(event)
                        continue
                    self._archives.feed(event)
                    done += len(event)
                    if done - reported >= _REPORT_EVERY_BYTES:
                        reported = done
                        self._monitor.check()
                        self._monitor.report(
                            Progress(phase="copying", bytes_done=done, bytes_expected=expected)
                        )
                elif isinstance(event, BackupStarted):
                    # Of an increment the server estimates what a full backup would be.
                    if self._basis.parent is None:
                        expected = sum(size for _, _, size in event.archives)
                    self._begin(event)
                elif isinstance(event, ArchiveStarted):
                    oid = event.name.removesuffix(".tar")
                    self._archives.start_archive(int(oid) if oid.isdigit() else None)
                elif isinstance(event, ManifestStarted):
                    in_manifest = True
                else:
                    self._end = event
                    # Rounded up: never before the stop LSN, so that a target at this time is a later state.
                    self._stopped_at = server_time(self._connection) + timedelta(milliseconds=1)
            manifest.seek(0)
            self._manifest = manifest.read()
            self._monitor.report(Progress(phase="storing", bytes_done=done, bytes_expected=done))

    def check_history(self) -> None:
        """See to it that an increment's server has all that its parent has.

        A server that was restored from an earlier backup without a target goes on on the timeline that it was on. It
        comes to the parent's addresses, too, and cannot tell; the label of its restore can.

        Raises
        ------
        _RestoredSinceError
            It was restored since, or another server was.
        """
        parent, end = self._basis.parent, self._end
        assert end is not None
        if parent is None or parent.timeline != end.timeline or self._facts.in_recovery:
            return
        if restored_mark(self._basis.manifest) != restored_mark(self._manifest):
            raise _RestoredSinceError(
                f"the server was restored from a backup, and is not known to have all of {parent.name!r}",
                ErrorKind.NOT_INCREMENTAL,
                "Take a full backup with --full to build on.",
            )

    def finish(self, trigger: Trigger, note: str) -> BaseBackup:
        """Hold what came against the manifest, wait until all is stored, and describe it."""
        assert self._start is not None and self._end is not None
        check_received(read_manifest(self._manifest), self._archives.files)
        self._archives.finish(self._manifest)
        volumes = self._writer.volumes.finish()
        manifest_sha256 = self._writer.put_manifest(self._manifest)
        index_sha256 = self._writer.put_index(volumes)
        content = self._archives.content_bytes
        names = self._facts.tablespace_names
        parent = self._basis.parent
        return BaseBackup(
            name=self._writer.name,
            cluster=self._cluster.name,
            system_identifier=self._facts.system_identifier,
            postgresql_version=self._facts.postgresql_version,
            kind=BackupKind.FULL if parent is None else BackupKind.INCREMENTAL,
            trigger=trigger,
            parent=None if parent is None else parent.name,
            started_at=self._started_at,
            stopped_at=self._stopped_at,
            start_lsn=self._start.start_lsn,
            stop_lsn=self._end.stop_lsn,
            timeline=self._end.timeline,  # a standby may have followed its primary onto a new one
            wal_segment_bytes=self._facts.wal_segment_bytes,
            data_checksums=self._facts.data_checksums,
            superuser=self._facts.superuser,
            tablespaces=tuple(
                Tablespace(
                    oid=oid,
                    name=names.get(oid, str(oid)),
                    location=location,
                    tablespace_bytes=content.get(oid, 0),
                )
                for oid, location, _ in self._start.archives
                if oid is not None
            ),
            cluster_bytes=sum(content.values()),
            stored_bytes=sum(volume.stored_bytes for volume in volumes),
            volumes=len(volumes),
            index_sha256=index_sha256,
            manifest_sha256=manifest_sha256,
            note=note,
            opskit_version=__version__,
            reason=self._basis.reason,
            parent_start_lsn=None if parent is None else parent.start_lsn,
        )

    @property
    def _archives(self) -> SnapshotWriter:
        assert self._snapshot is not None
        return self._snapshot

    def _begin(self, start: BackupStarted) -> None:
        facts = self._facts
        self._start = start
        origin = Origin(
            backup=self._writer.name,
            cluster=self._cluster.name,
            system_identifier=facts.system_identifier,
            postgresql_version=facts.postgresql_version,
            build=facts.build,
            superuser=facts.superuser,
            started_at=self._started_at,
            start_lsn=start.start_lsn,
            timeline=start.timeline,
            wal_segment_bytes=facts.wal_segment_bytes,
            recovery_settings=facts.recovery_settings,
            noted_settings=facts.noted_settings,
        )
        self._snapshot = SnapshotWriter(
            self._writer.volumes,
            self._writer.name,
            own_files=startup_files(origin),
            tablespaces=tuple(oid for oid, _, _ in start.archives if oid is not None),
            made_at=self._started_at,
            block_bytes=facts.block_bytes if self._basis.parent is not None else None,
        )
