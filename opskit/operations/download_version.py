"""Downloads that are gone on with, or fetched in parts at once: an archive that is the same to the byte, later too.

The WAL behind a backup grows while it is downloaded. So what an archive holds is fixed by a *version*, a short text
that tells where its WAL ends, from which the same archive can be made again by any process, and a digest to see that
it is.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from opskit.errors import ErrorKind, InputError, NotFoundError
from opskit.model.backup import BackupKind, BaseBackup
from opskit.model.lsn import Lsn
from opskit.operations.download_wal import ChosenWal, WalEnd, choose_wal, wal_parts, wal_up_to
from opskit.repository import Archive, Repository

_VERSION = re.compile(r"([0-9a-f]{1,8})-([0-9a-f]{1,16})-([0-9a-f]{1,8})-([0-9a-f]{32})")
_DIGITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """Where the WAL of an archive ends, `None` for one without, and the beginning of `Archive.digest`.

    As text it is of letters, digits and hyphens: safe in a URL and in an HTTP ``ETag``.
    """

    end: WalEnd | None
    digest: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of a version.

        Raises
        ------
        InputError
            It is none.
        """
        match = _VERSION.fullmatch(text)
        if match is None:
            raise InputError(
                f"{text[:80]!r} is not the version of a download",
                hint="Begin the download again, without a version.",
            )
        timeline, lsn, stored_at = (int(group, 16) for group in match.groups()[:3])
        end = WalEnd(
            timeline=timeline,
            lsn=Lsn(lsn),
            partial_at=datetime.fromtimestamp(stored_at, UTC) if stored_at else None,
        )
        return cls(end=end if lsn else None, digest=match[4])

    def __str__(self) -> str:
        if self.end is None:
            return f"0-0-0-{self.digest}"
        at = self.end.partial_at
        stored_at = 0 if at is None else int(at.timestamp())
        return f"{self.end.timeline:x}-{int(self.end.lsn):x}-{stored_at:x}-{self.digest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionedArchive:
    """An archive, and the version that it is."""

    archive: Archive
    version: Version


def newest_version(
    repository: Repository, backup: BaseBackup, *, wal: bool = True
) -> VersionedArchive:
    """The archive as `opskit.operations.download.download` would write it now; errors as there.

    Raises
    ------
    NotFoundError
        The backup is incremental: its archive is not stored, but put together.
    """
    return _versioned(repository, backup, choose_wal(repository, backup, None) if wal else None)


def same_version(repository: Repository, backup: BaseBackup, version: Version) -> VersionedArchive:
    """The archive of a version.

    Raises
    ------
    NotFoundError
        Something that it holds has been removed from the repository, or put there anew.
    """
    end = version.end
    try:
        wal = None if end is None else wal_up_to(repository, backup, end)
        made = _versioned(repository, backup, wal)
    except NotFoundError:
        made = None
    if made is None or made.version != version:
        raise NotFoundError(
            f"backup {backup.name!r} cannot be had any more as it was when the download began",
            ErrorKind.OBJECT_NOT_FOUND,
            "Begin the download again: its WAL archive, or the files of the repository, have changed since.",
        )
    return made


def _versioned(
    repository: Repository, backup: BaseBackup, wal: ChosenWal | None
) -> VersionedArchive:
    if backup.kind is not BackupKind.FULL:
        raise NotFoundError(
            f"backup {backup.name!r} is incremental, and only what is stored as it is has versions",
            ErrorKind.OBJECT_NOT_FOUND,
            "Download it without a version: it is put together anew, from its beginning.",
        )
    parts = wal_parts(repository, backup, wal) if wal is not None else []
    archive = repository.archive(backup, parts)
    end = wal.end if wal is not None and parts else None
    return VersionedArchive(
        archive=archive, version=Version(end=end, digest=archive.digest[:_DIGITS])
    )
