"""Operations: pieces of work that take long, run in a process of their own, and are watched by others."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from opskit.model.format import format_bytes
from opskit.model.shown import Shown


class OperationKind(StrEnum):
    """What an operation does."""

    BACKUP = "backup"
    RESTORE = "restore"
    DOWNLOAD = "download"
    WAL_STREAM = "wal stream"
    EXPIRE = "expire"
    HOLD = "hold"
    RELEASE = "release"
    DELETE = "delete"
    START = "start"
    ADVANCE = "advance"
    CONSOLIDATE = "consolidate"


class OperationStatus(StrEnum):
    """How an operation stands. `DIED` is never written: it is how a dead heartbeat reads."""

    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DIED = "died"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an operation has come.

    `bytes_expected` is an estimate, and `None` while nothing is known; `bytes_done` may end a little beside it.
    """

    phase: str
    bytes_done: int = 0
    bytes_expected: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Shown):
    """One row of the catalog's operations, as read at one moment. Times are aware and in UTC."""

    id: str
    kind: OperationKind
    cluster: str
    status: OperationStatus
    host: str
    pid: int
    actor: str
    jupyter_user: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    backup: str | None = None
    started_at: datetime
    heartbeat_at: datetime
    ended_at: datetime | None = None
    progress: Progress
    cancel_requested_at: datetime | None = None
    result: Mapping[str, object] | None = None
    error: Mapping[str, str] | None = None

    def __repr__(self) -> str:
        what = f"{self.kind} of {self.cluster!r}" + (f" {self.backup}" if self.backup else "")
        return f"<opskit operation {self.id[:8]}: {what}, {self.words}>"

    @property
    def words(self) -> str:
        """How it stands: ``running: copying, 500 MB of 2.0 GB``, ``failed: the server is gone``, ``complete``."""
        if self.status is not OperationStatus.RUNNING:
            message = (self.error or {}).get("message", "")
            return f"{self.status}: {message}" if message else str(self.status)
        done, expected = self.progress.bytes_done, self.progress.bytes_expected
        so_far = f", {format_bytes(done)} of {format_bytes(expected)}" if expected else ""
        return f"running: {self.progress.phase}{so_far}"


def shown_status(operation: Operation) -> str:
    """How a list of backups names an operation's status: ``complete``, ``running`` or ``failed``."""
    if operation.status in (OperationStatus.CANCELLED, OperationStatus.DIED):
        return str(OperationStatus.FAILED)
    return str(operation.status)
