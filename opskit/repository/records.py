"""Where a backup lies, and its record as bytes, for those who vouch for it."""

import hashlib

from opskit.errors import NotFoundError
from opskit.model.backup import BaseBackup
from opskit.store import Store

RECORD = "backup.json"


def stored_folder(cluster: str, name: str) -> str:
    """Where everything of a backup lies in the repository."""
    return f"{cluster}/backups/{name}"


def contents_folder(backup: BaseBackup) -> str:
    """Where the volumes, the index and the manifest of a backup lie."""
    folder = stored_folder(backup.cluster, backup.name)
    return f"{folder}/{backup.consolidated.folder}" if backup.consolidated else folder


def record_name(cluster: str, name: str) -> str:
    """Where the record of a backup lies in the repository."""
    return f"{stored_folder(cluster, name)}/{RECORD}"


def record_sha256(store: Store, cluster: str, name: str) -> str:
    """The SHA-256 of a backup's record, as it is stored.

    Raises
    ------
    NotFoundError
        There is no such backup.
    StoreError
        The storage fails.
    """
    return _sha256(store, record_name(cluster, name))


def object_sha256(store: Store, name: str) -> str | None:
    """The SHA-256 of an object; `None` when there is none of that name. Errors as `record_sha256`."""
    try:
        return _sha256(store, name)
    except NotFoundError:
        return None


def _sha256(store: Store, name: str) -> str:
    digest = hashlib.sha256()
    for piece in store.get(name):
        digest.update(piece)
    return digest.hexdigest()
