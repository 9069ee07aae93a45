"""What a walsender tells, as values: the messages of a base backup and of a WAL stream."""

from dataclasses import dataclass
from datetime import datetime

from opskit.model.lsn import Lsn


@dataclass(frozen=True, slots=True)
class SystemIdentity:
    """The answer to ``IDENTIFY_SYSTEM``."""

    system_identifier: str
    timeline: int
    flushed_lsn: Lsn


@dataclass(frozen=True, slots=True)
class BackupStarted:
    """The backup's start, and its tablespaces: (oid, location, estimated bytes), the main one as (`None`, "", …)."""

    start_lsn: Lsn
    timeline: int
    archives: tuple[tuple[int | None, str, int], ...]


@dataclass(frozen=True, slots=True)
class ArchiveStarted:
    """A tar archive begins: ``<oid>.tar`` of a tablespace, or ``base.tar``."""

    name: str
    location: str


@dataclass(frozen=True, slots=True)
class ManifestStarted:
    """The backup manifest begins."""


@dataclass(frozen=True, slots=True)
class BackupEnded:
    """The backup is complete on the server's side."""

    stop_lsn: Lsn
    timeline: int


@dataclass(frozen=True, slots=True)
class WalData:
    """Bytes of WAL from `start` on, and the server's clock when it sent them (aware, UTC)."""

    start: Lsn
    sent_at: datetime
    data: memoryview


@dataclass(frozen=True, slots=True)
class Keepalive:
    """A sign of life: up to where the server has WAL, its clock, and whether it wants an answer at once."""

    end: Lsn
    sent_at: datetime
    answer_now: bool


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing came for a moment: a chance to do what is due."""


@dataclass(frozen=True, slots=True)
class TimelineEnded:
    """The timeline branched off at `switched_at`; the log goes on there on `next_timeline`."""

    next_timeline: int
    switched_at: Lsn


WalEvent = WalData | Keepalive | Silence | TimelineEnded

BackupEvent = BackupStarted | ArchiveStarted | memoryview | ManifestStarted | BackupEnded
