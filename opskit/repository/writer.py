"""How a backup comes to exist: everything that its record refers to is durable before the record is put."""

import hashlib
from contextlib import suppress

from opskit.errors import ConflictError, OpskitError
from opskit.model.backup import BaseBackup, write_record
from opskit.repository.compression import compress
from opskit.repository.index import write_index
from opskit.repository.records import RECORD, stored_folder
from opskit.repository.volumes import Volume, VolumeWriter
from opskit.store import Store

CLAIM = "begun"


class ContentsWriter:
    """What a record is to refer to, while it is written into a folder that nobody else has.

    Parameters
    ----------
    claim
        The object that takes the folder is put with these lines.

    Raises
    ------
    ConflictError
        Somebody else has begun there.
    """

    def __init__(self, store: Store, folder: str, claim: str) -> None:
        self._store = store
        self._folder = folder
        try:
            store.put(f"{folder}/{CLAIM}", [claim.encode()])
        except ConflictError:
            raise
        except OpskitError:
            self._withdraw()  # it may have been put nevertheless
            raise
        self.volumes = VolumeWriter(
            lambda volume, chunks: store.put(f"{self._folder}/{volume}", chunks)
        )
        self._begun: list[str] = []

    def put_manifest(self, manifest: bytes) -> str:
        """Keep the server's manifest; the SHA-256 of what is stored."""
        return self._keep("backup_manifest.zst", compress(manifest))

    def put_index(self, volumes: list[Volume]) -> str:
        """Keep the index; the SHA-256 of what is stored."""
        return self._keep("index.json.zst", write_index(volumes))

    def discard(self) -> None:
        """Stop all work and remove what has been stored, as far as the store allows.

        A put that failed may have been carried out nevertheless. So everything that was begun is removed, the record
        first; and what a record refers to stays, if that cannot be removed.
        """
        begun = [*self.volumes.abort(), *self._begun]
        for name in reversed(begun):
            try:
                self._store.delete(f"{self._folder}/{name}")
            except OpskitError:
                if name == RECORD:
                    return
        self._withdraw()

    def _withdraw(self) -> None:
        with suppress(OpskitError):
            self._store.delete(f"{self._folder}/{CLAIM}")

    def _keep(self, name: str, content: bytes) -> str:
        self._begun.append(name)
        try:
            self._store.put(f"{self._folder}/{name}", [content])
        except ConflictError:  # it is somebody else's
            self._begun.remove(name)
            raise
        return hashlib.sha256(content).hexdigest()


class BackupWriter(ContentsWriter):
    """A backup that is being written: volumes first, the record last. Ends with `commit` or `discard`.

    A primary and its standbys do not see each other's backups, which may begin in the same second: so the name is
    claimed by an object, which goes before the record comes. Of an increment it names the parent, so that nobody
    removes that one meanwhile.

    Raises
    ------
    ConflictError
        Somebody else has begun a backup of that name.
    """

    def __init__(self, store: Store, cluster: str, name: str, parent: str | None = None) -> None:
        self.name = name
        claim = f"{name}\n" if parent is None else f"{name}\n{parent}\n"
        super().__init__(store, stored_folder(cluster, name), claim)

    def commit(self, backup: BaseBackup) -> None:
        """Put the record: from here on the backup exists."""
        self._store.delete(f"{self._folder}/{CLAIM}")
        self._keep(RECORD, write_record(backup))
