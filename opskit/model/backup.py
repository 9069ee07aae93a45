"""Base backups as their records describe them: the content of ``backup.json``, formats 1 to 3.

The names and meanings of the keys are specified in ``docs/format.md``.
"""

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from opskit.errors import ErrorKind, InputError, IntegrityError
from opskit.model.format import format_bytes
from opskit.model.lsn import Lsn
from opskit.model.shown import Shown

# Of a full backup, of an increment, and of a full one that was an increment: an opskit that knows no chains must not
# take one for a whole backup, nor look for what was consolidated where it is not any more.
_FORMATS = {1: "full", 2: "incremental", 3: "full"}
_CONSOLIDATED = 3
_NAME = re.compile(r"\d{8}T\d{6}Z")
_FOLDER = re.compile(r"full-\d{8}T\d{6}Z")
NOTE_LENGTH = 1000


class BackupKind(StrEnum):
    """What a base backup holds: everything, or what changed since its parent."""

    FULL = "full"
    INCREMENTAL = "incremental"


class Trigger(StrEnum):
    """What started a backup: the schedule, or a person."""

    SCHEDULED = "scheduled"
    ON_DEMAND = "on demand"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tablespace:
    """A tablespace other than ``pg_default`` and ``pg_global``, and where the server kept it."""

    oid: int
    name: str
    location: str
    tablespace_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Consolidation:
    """How an increment became a full backup: when, and with what of which backups that it was based on, parent first.

    `folder` is the one below the backup's own that has its volumes, index and manifest; `record_sha256` is the digest
    of the record that its present one replaced.
    """

    at: datetime
    chain: tuple[str, ...]
    folder: str
    record_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseBackup(Shown):
    """One complete base backup, as its record tells it.

    Sizes are in bytes, times are aware and in UTC. `cluster_bytes` is what the backup is when unpacked, `stored_bytes`
    what it takes in the repository. `superuser` is a role to connect to a restored copy with. `scheduled_for` is the
    time of the schedule that it was taken for, by the scheduler's clock. `reason` tells why it is full or incremental;
    `parent_start_lsn` where the parent of an increment starts; `consolidated` that it was an increment. `extra` keeps
    keys that a later opskit wrote.
    """

    name: str
    cluster: str
    system_identifier: str
    postgresql_version: str
    kind: BackupKind
    trigger: Trigger
    parent: str | None
    started_at: datetime
    stopped_at: datetime
    start_lsn: Lsn
    stop_lsn: Lsn
    timeline: int
    wal_segment_bytes: int
    data_checksums: bool
    superuser: str
    tablespaces: tuple[Tablespace, ...]
    cluster_bytes: int
    stored_bytes: int
    volumes: int
    index_sha256: str
    manifest_sha256: str
    note: str
    opskit_version: str
    scheduled_for: datetime | None = None
    reason: str = ""
    parent_start_lsn: Lsn | None = None
    consolidated: Consolidation | None = None
    extra: Mapping[str, object] = field(default_factory=dict)

    def __repr__(self) -> str:
        return (
            f"<opskit backup {self.name} of {self.cluster!r}: {self.kind}, {self.trigger},"
            f" {format_bytes(self.cluster_bytes)} stored as {format_bytes(self.stored_bytes)},"
            f" PostgreSQL {self.postgresql_version}>"
        )

    @property
    def major(self) -> int:
        """The PostgreSQL major version that can start this backup."""
        return int(self.postgresql_version.split(".")[0])


def backup_name(started_at: datetime) -> str:
    """The name of the backup that started then: ``20261122T140305Z``."""
    return started_at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def named_time(name: str) -> datetime:
    """The second that a backup's name tells; `ValueError` when it has none of the calendar."""
    if not is_backup_name(name):
        raise ValueError(f"{name!r} is no backup's name")
    return datetime.strptime(name, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def is_backup_name(text: str) -> bool:
    """Whether `text` has the form of a backup's name."""
    return _NAME.fullmatch(text) is not None


def consolidated_folder(begun_at: datetime) -> str:
    """Where below the backup's folder a consolidation that began then puts its contents: ``full-20261123T020000Z``."""
    return f"full-{backup_name(begun_at)}"


def is_consolidated_folder(text: str) -> bool:
    """Whether `text` has the form of such a folder's name."""
    return _FOLDER.fullmatch(text) is not None


def check_note(note: str) -> str:
    """The note, if it may be kept.

    Raises
    ------
    InputError
        It holds control characters or lone surrogates, or more than 1,000 characters.
    """
    if len(note) > NOTE_LENGTH:
        raise InputError(
            f"the note has {len(note)} characters, at most {NOTE_LENGTH:,} are kept",
            hint="Shorten it, and keep the long story where your other documents are.",
        )
    for character in note:
        if unicodedata.category(character) in ("Cc", "Cs") and character != "\n":
            raise InputError(
                f"the note holds the character {character!a}, which cannot be kept",
                hint="Use printable characters and line breaks.",
            )
    return note


def write_record(backup: BaseBackup) -> bytes:
    """The content of ``backup.json``: indented, sorted by meaning, ended by a line feed."""
    formats = {kind: number for number, kind in _FORMATS.items() if number != _CONSOLIDATED}
    consolidated = backup.consolidated
    data: dict[str, Any] = {"format": _CONSOLIDATED if consolidated else formats[backup.kind]}
    for key in _KEYS:
        value = getattr(backup, key)
        if isinstance(value, datetime):
            value = _text(value)
        elif isinstance(value, Lsn):
            value = str(value)
        data[key] = value
    data["tablespaces"] = [
        {
            "oid": t.oid,
            "name": t.name,
            "location": t.location,
            "tablespace_bytes": t.tablespace_bytes,
        }
        for t in backup.tablespaces
    ]
    if backup.scheduled_for is not None:
        data["scheduled_for"] = _text(backup.scheduled_for)
    if backup.reason:
        data["reason"] = backup.reason
    if backup.parent_start_lsn is not None:
        data["parent_start_lsn"] = str(backup.parent_start_lsn)
    if consolidated is not None:
        data["consolidated"] = {
            "at": _text(consolidated.at),
            "chain": list(consolidated.chain),
            "folder": consolidated.folder,
            "record_sha256": consolidated.record_sha256,
        }
    data.update({key: value for key, value in backup.extra.items() if key not in data})
    # A tablespace's location that is no UTF-8 is carried as lone surrogates: they come as JSON's own escapes.
    return (json.dumps(data, ensure_ascii=False, indent=2) + "\n").encode(errors="backslashreplace")


def read_record(content: bytes) -> BaseBackup:
    """The backup that a ``backup.json`` describes.

    Raises
    ------
    IntegrityError
        It is not a record of a format that this opskit reads; `kind` tells a damaged one from a newer one.
    """
    try:
        data = json.loads(content)
        if data["format"] not in _FORMATS:
            raise IntegrityError(
                f"the backup's record is of format {data['format']!r}, this opskit reads 1 to 3",
                ErrorKind.UNKNOWN_FORMAT,
                "Use the opskit that wrote it, or a newer one.",
            )
        values: dict[str, Any] = {key: data[key] for key in _KEYS}
        values["kind"] = BackupKind(values["kind"])
        values["trigger"] = Trigger(values["trigger"])
        for key in ("started_at", "stopped_at"):
            values[key] = _time(values[key])
        for key in ("start_lsn", "stop_lsn"):
            values[key] = Lsn.parse(values[key])
        values["tablespaces"] = tuple(Tablespace(**t) for t in data["tablespaces"])
        if "scheduled_for" in data:
            values["scheduled_for"] = _time(data["scheduled_for"])
        if "reason" in data:
            values["reason"] = str(data["reason"])
        if "parent_start_lsn" in data:
            values["parent_start_lsn"] = Lsn.parse(data["parent_start_lsn"])
        if data["format"] == _CONSOLIDATED:
            values["consolidated"] = _consolidation(data["consolidated"])
        if _FORMATS[data["format"]] != values["kind"]:
            raise ValueError(f"a {values['kind']} backup with the parent {values['parent']!r}")
        extra = {key: value for key, value in data.items() if key not in values and key != "format"}
        return BaseBackup(**values, extra=extra)
    except IntegrityError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"the backup's record cannot be read: {type(error).__name__}: {error}",
            hint="The record is damaged; restore from another backup, and look at the storage under the repository.",
        ) from error


def _consolidation(data: Mapping[str, Any]) -> Consolidation:
    if _FOLDER.fullmatch(data["folder"]) is None:
        raise ValueError(f"its contents are said to lie in {data['folder']!r}")
    return Consolidation(
        at=_time(data["at"]),
        chain=tuple(map(str, data["chain"])),
        folder=data["folder"],
        record_sha256=str(data["record_sha256"]),
    )


def _text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


_KEYS = (
    "name",
    "cluster",
    "system_identifier",
    "postgresql_version",
    "kind",
    "trigger",
    "parent",
    "started_at",
    "stopped_at",
    "start_lsn",
    "stop_lsn",
    "timeline",
    "wal_segment_bytes",
    "data_checksums",
    "superuser",
    "cluster_bytes",
    "stored_bytes",
    "volumes",
    "index_sha256",
    "manifest_sha256",
    "note",
    "opskit_version",
)
