"""The repository: which clusters and backups it holds, and how a new backup comes to exist.

What must stay true after every instruction: a record is put after everything that it refers to is durable, so a backup
that is listed is whole; whatever has no record is no backup.
"""

import hashlib
import logging
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from opskit.errors import ConflictError, ErrorKind, IntegrityError, NotFoundError, OpskitError
from opskit.model.backup import (
    BaseBackup,
    backup_name,
    is_backup_name,
    named_time,
    read_record,
)
from opskit.model.increment import broken
from opskit.repository.abreast import read_all
from opskit.repository.archive import Archive, stored
from opskit.repository.compression import decompress
from opskit.repository.consolidation import ABANDONED_AFTER, Consolidations
from opskit.repository.content import Content, broken_chain, read_content
from opskit.repository.holds import Holds
from opskit.repository.index import read_index
from opskit.repository.parts import Part
from opskit.repository.records import RECORD, contents_folder, record_name, stored_folder
from opskit.repository.tar import BLOCK_BYTES, Owner, owner_of, read_header
from opskit.repository.uncollected import uncollected
from opskit.repository.volumes import Volume
from opskit.repository.writer import CLAIM, BackupWriter
from opskit.store import ObjectStat

_log = logging.getLogger(__name__)

_LOOKED_AT = 50


@dataclass(frozen=True, slots=True)
class Survey:
    """What lies below a cluster: its backups, newest first; folders without a record; and records that are damaged."""

    backups: tuple[BaseBackup, ...]
    incomplete: tuple[str, ...]
    damaged: dict[str, OpskitError]


class Repository(Consolidations):
    """The backups in a store. Reading makes nothing; the first write makes ``repository.json``."""

    def clusters(self) -> list[str]:
        """The names of the clusters that have something here, sorted."""
        return [name for name in self._store.list().folders if not name.startswith(".")]

    def survey(self, cluster: str, newest: int | None = None) -> Survey:
        """Everything that lies below `cluster`; a cluster without backups gives an empty survey.

        Parameters
        ----------
        newest
            Look at so many of the newest names only.

        Raises
        ------
        StoreError
            The storage failed.
        """
        names = self.names(cluster)[-newest if newest else 0 :]
        with uncollected():
            records_or_errors = read_all(partial(self._record_or_error, cluster), names)
            found = dict(zip(names, records_or_errors, strict=True))
        records = [record for record in found.values() if isinstance(record, BaseBackup)]
        return Survey(
            tuple(sorted(records, key=lambda backup: backup.name, reverse=True)),
            tuple(name for name in names if found[name] is None),
            {name: error for name, error in found.items() if isinstance(error, OpskitError)},
        )

    def backups(self, cluster: str, newest: int | None = None) -> list[BaseBackup]:
        """The complete backups of `cluster`, newest first; parameters and errors as `survey`."""
        return list(self.survey(cluster, newest).backups)

    def backup(self, cluster: str, name: str = "latest") -> BaseBackup:
        """One complete backup by its name, or the newest one.

        Raises
        ------
        NotFoundError
            There is none of that name, or none at all.
        IntegrityError
            Its record is damaged.
        """
        if name != "latest":
            with suppress(NotFoundError):
                if is_backup_name(name):
                    return self._record(cluster, name)
            raise NotFoundError(
                f"cluster {cluster!r} has no backup {name!r}",
                ErrorKind.BACKUP_NOT_FOUND,
                f"List them with 'opskit backups {cluster}'.",
            )
        survey = self.survey(cluster)
        backups = survey.backups
        for damaged, error in survey.damaged.items():
            if not backups or damaged > backups[0].name:
                _log.warning(
                    "backup %s would be newer, but is passed over: %s", damaged, error.message
                )
        if not backups:
            raise NotFoundError(
                f"cluster {cluster!r} has no backup in {self.url}",
                ErrorKind.BACKUP_NOT_FOUND,
                f"Make one with 'opskit backup {cluster}'.",
            )
        return backups[0]

    def volumes(self, backup: BaseBackup) -> list[Volume]:
        """The volumes of a backup, in order, after their index agreed with the record.

        Raises
        ------
        IntegrityError
            The index is missing, damaged, or not the one that the record names.
        """
        content = self._promised(backup, "index.json.zst", backup.index_sha256)
        return read_index(content)

    def manifest(self, backup: BaseBackup) -> bytes:
        """PostgreSQL's manifest of a backup, as the server sent it; errors as `volumes`."""
        return decompress(self._promised(backup, "backup_manifest.zst", backup.manifest_sha256))

    def chain(self, backup: BaseBackup) -> list[BaseBackup]:
        """The backup and those that it is based on, newest first; it alone if it is a full one.

        Raises
        ------
        IntegrityError
            One of them is missing, damaged, or not the one that the next is based on.
        """
        chain = [backup]
        while (parent := chain[-1].parent) is not None:
            if any(parent == known.name for known in chain):
                raise broken_chain(backup, f"backup {parent!r} is based on itself")
            try:
                chain.append(self._record(backup.cluster, parent))
            except NotFoundError:
                break
            except IntegrityError as error:
                raise broken_chain(backup, error.message) from None
        if (wrong := broken(chain)) is not None:
            raise broken_chain(backup, wrong)
        return chain

    def check_stored(self, backup: BaseBackup) -> None:
        """Look whether everything is there that the backup's record counts; nothing is read.

        Raises
        ------
        IntegrityError
            Something is missing, or has another size.
        """
        sizes = {
            stat.name.rpartition("/")[2]: stat.object_bytes
            for stat in self._store.list(contents_folder(backup)).objects
        }
        others = {"index.json.zst", "backup_manifest.zst"}
        stored = [size for name, size in sizes.items() if name.endswith(".tar.zst")]
        if not others <= sizes.keys() or (len(stored), sum(stored)) != (
            backup.volumes,
            backup.stored_bytes,
        ):
            raise IntegrityError(
                f"backup {backup.name!r} is damaged: it has {sum(stored):,} bytes in {len(stored)} volumes,"
                f" expected {backup.stored_bytes:,} in {backup.volumes}",
                ErrorKind.INCOMPLETE,
                "Look at the storage under the repository.",
            )

    def check_chain(self, backup: BaseBackup) -> None:
        """Look whether a backup and all that it is based on is there; errors as `chain` and `check_stored`."""
        for member in self.chain(backup):
            self.check_stored(member)

    def content(self, backup: BaseBackup) -> Content:
        """All that a backup restores to, whatever it is based on; errors as `chain` and `volumes`."""
        return read_content(self, backup)

    def archive(self, backup: BaseBackup, wal: Sequence[Part] = ()) -> Archive:
        """The archive of a backup, with members of the WAL archive behind it; errors as `volumes`."""
        return Archive(self._store, contents_folder(backup), self.volumes(backup), wal)

    def owner(self, backup: BaseBackup) -> Owner:
        """Who the members of a backup belong to, as its first one says; errors as `volumes`."""
        volume = self.volumes(backup)[0]
        name = f"{contents_folder(backup)}/{volume.name}"
        frame = b"".join(stored(self._store, name, 0, volume.frames[0]))
        try:
            header = read_header(decompress(frame)[:BLOCK_BYTES])
        except ValueError as error:
            raise IntegrityError(
                f"{name!r} is damaged: {error}", hint="Restore from another backup."
            ) from None
        return owner_of(header) if header is not None else Owner(0, 0)

    def volume_pieces(
        self, backup: BaseBackup, volume: Volume, begin: int = 0, end: int | None = None
    ) -> Iterator[memoryview]:
        """The stored bytes of a volume, or from `begin` up to `end` of them; errors as `volumes`.

        They are not compared with a checksum.
        """
        name = f"{contents_folder(backup)}/{volume.name}"
        return stored(self._store, name, begin, volume.stored_bytes if end is None else end)

    def objects(self, cluster: str) -> Iterator[ObjectStat]:
        """Everything that is stored below `cluster`, in no particular order."""
        yield from self._below(cluster)

    def names(self, cluster: str) -> list[str]:
        """The names of all backups of `cluster`, of those that are not complete, too; nothing is read."""
        return [
            name
            for folder in self._store.list(f"{cluster}/backups").folders
            if is_backup_name(name := folder.rpartition("/")[2])
        ]

    def based_on(self, cluster: str, name: str) -> str | None:
        """What a backup is based on, be it complete or being written.

        Raises
        ------
        NotFoundError
            There is no such backup, or it has neither a claim nor a record in this moment.
        """
        with suppress(NotFoundError):
            return self._record(cluster, name).parent
        with suppress(NotFoundError):
            claim = self._content(f"{stored_folder(cluster, name)}/{CLAIM}").decode().split()
            return claim[1] if len(claim) > 1 else None
        return self._record(cluster, name).parent  # it has become complete between the two

    def new_backup(
        self, cluster: str, started_at: datetime, parent: str | None = None
    ) -> BackupWriter:
        """Begin a backup that started then; it is named by the first second from then on that is free.

        Should a clock have gone back, that is the second behind the newest name: the last backup is the latest one.
        What killed backups left more than a day ago is removed first, as far as it is among the newest 50.
        """
        folders = self._store.list(f"{cluster}/backups").folders
        self._remove_abandoned(folders[-_LOOKED_AT:], started_at)
        started_at = _behind(folders, started_at)
        while True:
            name = backup_name(started_at)
            if stored_folder(cluster, name) not in folders:
                with suppress(ConflictError):  # somebody else's, in this very second
                    return BackupWriter(self._store, cluster, name, parent)
            started_at += timedelta(seconds=1)

    def holds(self, cluster: str) -> Holds:
        """The holds on the backups of a cluster; nothing is read yet."""
        return Holds(self._store, cluster)

    def is_abandoned(self, cluster: str, name: str, now: datetime) -> bool:
        """Whether a backup has no record, and nothing was added to it for a day: nobody writes it any more."""
        return bool(self._abandoned_objects(stored_folder(cluster, name), now))

    def remove_backup(self, cluster: str, name: str) -> None:
        """Remove a backup: its record first, so that what is left of a removal that was cut off is no backup.

        A backup that is gone already is no error; a hold that has ended goes with its backup.
        """
        self._store.delete(record_name(cluster, name))
        # Until nothing is there: a consolidation puts another record at its end (docs/adr/0072).
        while objects := list(self._below(stored_folder(cluster, name))):
            for stat in sorted(objects, key=lambda stat: not stat.name.endswith(f"/{RECORD}")):
                self._store.delete(stat.name)
        self.holds(cluster).forget(name)

    def writable(self) -> None:
        """Put something and remove it again.

        Raises
        ------
        StoreError
            The repository cannot be written.
        """
        name = f"probe-{uuid.uuid4().hex}"
        self._store.put(name, [b"opskit"])
        self._store.delete(name)

    def _remove_abandoned(self, folders: tuple[str, ...], now: datetime) -> None:
        for folder in folders:
            for stat in self._abandoned_objects(folder, now):
                self._store.delete(stat.name)

    def _abandoned_objects(self, folder: str, now: datetime) -> tuple[ObjectStat, ...]:
        listing = self._store.list(folder)
        names = {stat.name.rpartition("/")[2] for stat in listing.objects}
        objects = tuple(self._below(folder)) if listing.folders else listing.objects
        if RECORD in names or any(s.modified_at >= now - ABANDONED_AFTER for s in objects):
            return ()
        return objects

    def _below(self, folder: str) -> Iterator[ObjectStat]:
        """All objects in a folder and in those below it."""
        folders = [folder]
        while folders:
            listing = self._store.list(folders.pop())
            yield from listing.objects
            folders += listing.folders

    def _record_or_error(self, cluster: str, name: str) -> BaseBackup | OpskitError | None:
        try:
            return self._record(cluster, name)
        except NotFoundError:
            return None
        except IntegrityError as error:
            return error

    def _record(self, cluster: str, name: str) -> BaseBackup:
        backup = read_record(self._content(f"{stored_folder(cluster, name)}/{RECORD}"))
        if (backup.cluster, backup.name) != (cluster, name):
            raise IntegrityError(
                f"the record of {cluster!r} {name!r} says it is {backup.cluster!r} {backup.name!r}",
                hint="A folder was moved or copied by hand; put it back where its record says.",
            )
        return backup

    def _promised(self, backup: BaseBackup, name: str, sha256: str) -> bytes:
        path = f"{contents_folder(backup)}/{name}"
        try:
            content = self._content(path)
        except NotFoundError:
            raise IntegrityError(
                f"the backup's {name} is missing",
                ErrorKind.INCOMPLETE,
                "Restore from another backup.",
            ) from None
        if hashlib.sha256(content).hexdigest() != sha256:
            raise IntegrityError(
                f"{path!r} differs from the SHA-256 in the backup's record",
                hint="Restore from another backup, and look at the storage under the repository.",
            )
        return content


def _behind(folders: Sequence[str], started_at: datetime) -> datetime:
    """A time whose name comes behind those of the folders, rising, that are named by a time."""
    for folder in reversed(folders):
        with suppress(ValueError, OverflowError):  # made by hand
            return max(started_at, named_time(folder.rpartition("/")[2]) + timedelta(seconds=1))
    return started_at
