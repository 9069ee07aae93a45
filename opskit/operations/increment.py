"""Whether the next backup is an increment, and to what: asked of the server and of the repository."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from opskit.config import ClusterSettings
from opskit.errors import (
    ConflictError,
    ErrorKind,
    IntegrityError,
    OpskitError,
    ServerError,
)
from opskit.model.backup import BaseBackup
from opskit.model.increment import (
    FIRST_MAJOR,
    BackupMode,
    Choice,
    Obstacle,
    Summarizing,
    choose_parent,
    enough,
)
from opskit.model.timeline import TimelineHistory, first_timeline, read_history
from opskit.postgres.connection import Connection
from opskit.postgres.facts import ClusterFacts
from opskit.postgres.replication import ReplicationConnection
from opskit.postgres.summaries import changed_bytes, summarizes, wal_summaries
from opskit.repository import Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What a backup is based on: `None` for a full one; the parent's manifest; and the reason."""

    parent: BaseBackup | None
    manifest: bytes = b""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked when a basis is looked for."""

    cluster: ClusterSettings
    repository: Repository
    connection: Connection
    stream: ReplicationConnection
    facts: ClusterFacts
    now: datetime


def find_basis(asked: Asked, mode: BackupMode) -> Basis:
    """What the next backup is based on.

    Raises
    ------
    ServerError, ConflictError
        An increment is insisted on, and impossible: because of the server, or of the backups.
    IntegrityError
        An increment is insisted on, and its parent is damaged.
    """
    if mode is BackupMode.FULL:
        return Basis(parent=None, reason="asked for")
    is_on = summarizes(asked.connection, asked.facts)
    backups = asked.repository.backups(asked.cluster.name) if is_on else []
    choice = choose_parent(backups, _server(asked, is_on))
    if mode is BackupMode.INCREMENTAL:
        _insist(choice)
    elif choice.parent is not None:
        reason = enough(
            choice.parent,
            backups,
            asked.cluster.incremental,
            asked.now,
            _changed_bytes(asked, choice.parent),
        )
        if reason is not None:
            return Basis(parent=None, reason=reason)
    if choice.parent is None:
        return Basis(parent=None, reason=choice.reason)
    try:
        asked.repository.check_chain(choice.parent)
        manifest = asked.repository.manifest(choice.parent)
    except IntegrityError as error:
        if mode is BackupMode.INCREMENTAL:
            raise
        return Basis(parent=None, reason=error.message)
    return Basis(parent=choice.parent, manifest=manifest, reason=choice.reason)


def still_there(asked: Asked, basis: Basis, mode: BackupMode) -> Basis:
    """The basis, looked at once more now that the claim on the backup's name tells whom it needs.

    Who removes backups looks at claims: from here on the parent stays. Errors as `find_basis`.
    """
    try:
        if basis.parent is not None:
            asked.repository.check_chain(basis.parent)
        return basis
    except IntegrityError as error:
        if mode is BackupMode.INCREMENTAL:
            raise
        return Basis(parent=None, reason=error.message)


def _server(asked: Asked, is_on: bool) -> Summarizing:
    return Summarizing(
        system_identifier=asked.facts.system_identifier,
        major=asked.facts.major,
        is_on=is_on,
        data_checksums=asked.facts.data_checksums,
        history=_history(asked.stream) if is_on else first_timeline(),
        summaries=wal_summaries(asked.connection) if is_on else (),
    )


def _history(stream: ReplicationConnection) -> TimelineHistory:
    timeline = stream.identify_system().timeline
    if timeline == 1:
        return first_timeline()
    return read_history(timeline, stream.timeline_history(timeline))


def _changed_bytes(asked: Asked, parent: BaseBackup) -> int | None:
    most = asked.cluster.incremental.percent * parent.cluster_bytes // 100
    with suppress(ServerError):  # a summary may be removed while it is read
        return changed_bytes(asked.connection, parent.start_lsn, most)
    return None


def _insist(choice: Choice) -> None:
    if choice.parent is not None:
        return
    message = f"no incremental backup can be taken: {choice.reason}"
    error: OpskitError
    if choice.obstacle is Obstacle.VERSION:
        error = ServerError(
            message,
            ErrorKind.UNSUPPORTED_VERSION,
            f"Take a full backup; increments need PostgreSQL {FIRST_MAJOR} or later.",
        )
    elif choice.obstacle is Obstacle.NOT_SUMMARIZED:
        error = ServerError(
            message,
            ErrorKind.NOT_INCREMENTAL,
            "Set summarize_wal = on on the server, reload it, and take a full backup to build on.",
        )
    else:
        error = ConflictError(
            message, ErrorKind.NOT_INCREMENTAL, "Take a full backup with --full to build on."
        )
    raise error
