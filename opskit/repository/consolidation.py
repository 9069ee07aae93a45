"""How an increment becomes a full backup where it lies, and what is removed behind that.

The new contents are written beside the old ones, into a folder of their own. Then the record is replaced, in one step:
before it, the old contents are the backup's, after it the new ones. What the record does not name is removed later.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from opskit.errors import ConflictError, ErrorKind, NotFoundError, OpskitError
from opskit.model.backup import (
    BackupKind,
    BaseBackup,
    consolidated_folder,
    is_consolidated_folder,
    read_record,
    write_record,
)
from opskit.repository.claims import Claims
from opskit.repository.records import RECORD, record_name, record_sha256, stored_folder
from opskit.repository.volumes import volume_name
from opskit.repository.writer import CLAIM, ContentsWriter
from opskit.store import Listing, ObjectStat, Store

ABANDONED_AFTER = timedelta(days=1)


class ConsolidationWriter(ContentsWriter):
    """The contents of a full backup that takes an increment's place. Ends with `commit` or `discard`.

    Raises
    ------
    NotFoundError
        There is no such backup (any more).
    """

    def __init__(self, store: Store, backup: BaseBackup, begun_at: datetime) -> None:
        self._record = record_name(backup.cluster, backup.name)
        self._former = _content(store, self._record)
        while True:
            self.folder = consolidated_folder(begun_at)
            with suppress(ConflictError):  # of a consolidation that was killed in this second
                super().__init__(
                    store,
                    f"{stored_folder(backup.cluster, backup.name)}/{self.folder}",
                    f"{self.folder}\n",
                )
                return
            begun_at += timedelta(seconds=1)

    @property
    def former_sha256(self) -> str:
        """The digest of the record that is going to be replaced."""
        return hashlib.sha256(self._former).hexdigest()

    def commit(self, backup: BaseBackup, replacing: Callable[[str, str], None]) -> None:
        """Replace the record: from here on the backup is a full one.

        Parameters
        ----------
        replacing
            Told the digests of the record that goes and of the one that comes, before it is done.

        Raises
        ------
        ConflictError
            The backup was removed, or consolidated, since this began; it is as others left it.
        """
        content = write_record(backup)
        self._store.delete(f"{self._folder}/{CLAIM}")
        if self._found() != self._former:
            raise _meanwhile(backup)
        replacing(self.former_sha256, hashlib.sha256(content).hexdigest())
        try:
            self._store.put(self._record, [content], replace=True)
        except BaseException:
            # It may have been carried out nevertheless: then what it refers to must stay.
            if self._found() != content:
                raise
        present = {stat.name for stat in self._store.list(self._folder).objects}
        needed = [*map(volume_name, range(1, backup.volumes + 1)), *self._begun]
        if not present >= {f"{self._folder}/{name}" for name in needed}:
            # Who removes a backup begins with its record; this one came behind that.
            self._store.delete(self._record)
            raise _meanwhile(backup)

    def discard(self) -> None:
        """As `ContentsWriter.discard`, unless the record refers to what has been stored, or cannot be asked."""
        try:
            found = self._found()
        except OpskitError:
            self.volumes.abort()
            return
        if found is not None and found != self._former:
            with suppress(OpskitError):
                consolidated = read_record(found).consolidated
                if consolidated is not None and consolidated.folder == self.folder:
                    self.volumes.abort()
                    return
        super().discard()

    def _found(self) -> bytes | None:
        try:
            return _content(self._store, self._record)
        except NotFoundError:
            return None


class Consolidations(Claims):
    """Backups that are consolidated, and what that leaves behind."""

    def begin_consolidation(self, backup: BaseBackup, begun_at: datetime) -> ConsolidationWriter:
        """Begin to write the contents of a full backup that takes the increment's place; errors as there."""
        return ConsolidationWriter(self._store, backup, begun_at)

    def record_sha256(self, backup: BaseBackup) -> str:
        """The digest of a backup's record, as it is stored."""
        return record_sha256(self._store, backup.cluster, backup.name)

    def remove_former(self, backup: BaseBackup) -> None:
        """Remove what a consolidated backup was before, at once: nobody may be reading it."""
        for stat in _former(backup, self._store.list(stored_folder(backup.cluster, backup.name))):
            self._store.delete(stat.name)

    def strays(self, backup: BaseBackup, now: datetime) -> list[ObjectStat]:
        """What lies in a backup's folder, was put there more than a day ago, and is not what its record refers to.

        What it was before it was consolidated counts from then on. A consolidation that was killed leaves a folder of
        its own; as long as something is added there, somebody writes it.
        """
        if backup.kind is BackupKind.FULL and backup.consolidated is None:
            return []
        listing = self._store.list(stored_folder(backup.cluster, backup.name))
        own = backup.consolidated
        old = now - ABANDONED_AFTER
        strays = _former(backup, listing) if own is None or own.at < old else []
        for folder in listing.folders:
            name = folder.rpartition("/")[2]
            if is_consolidated_folder(name) and (own is None or name != own.folder):
                objects = self._store.list(folder).objects
                if all(stat.modified_at < old for stat in objects):
                    strays += objects
        return strays

    def remove_strays(self, backup: BaseBackup, now: datetime) -> None:
        """Remove what `strays` gives."""
        for stat in self.strays(backup, now):
            self._store.delete(stat.name)


def _former(backup: BaseBackup, listing: Listing) -> list[ObjectStat]:
    if backup.consolidated is None:
        return []
    return [stat for stat in listing.objects if stat.name.rpartition("/")[2] != RECORD]


def _content(store: Store, name: str) -> bytes:
    return b"".join(store.get(name))


def _meanwhile(backup: BaseBackup) -> ConflictError:
    return ConflictError(
        f"backup {backup.name!r} was removed or consolidated by somebody else meanwhile",
        ErrorKind.BACKUP_RUNNING,
        f"Look at it with 'opskit show {backup.cluster} {backup.name}'.",
    )
