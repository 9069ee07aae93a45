"""Which cluster each name belongs to in a store, and the WAL archive that it has there.

It is all of the repository that `opskit wal get` needs, and loads no more.
"""

import json
from contextlib import suppress
from datetime import UTC, datetime

from opskit.errors import ConflictError, ErrorKind, IntegrityError, NotFoundError
from opskit.repository.wal import WalArchive
from opskit.store import Store

FORMAT = 1


class Claims:
    """The clusters' names in a store. Reading makes nothing; the first write makes ``repository.json``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.url = store.url

    def claim_cluster(
        self, cluster: str, system_identifier: str, major: int, wal_segment_bytes: int
    ) -> None:
        """Make sure that `cluster` is this system identifier's name here; to be called before every write.

        Raises
        ------
        ConflictError
            The name belongs to another cluster, or to the same one at another major version.
        IntegrityError
            The repository is of a format that this opskit does not write.
        """
        import uuid  # who reads does not wait for it to be loaded

        mark = {"format": FORMAT, "id": str(uuid.uuid4()), "created_at": _now()}
        self._agree("repository.json", mark)
        self._agree(
            f"{cluster}/cluster.json",
            {
                "format": FORMAT,
                "system_identifier": system_identifier,
                "postgresql_major": major,
                "wal_segment_bytes": wal_segment_bytes,
            },
        )
        self.check_claim(cluster, system_identifier, major)

    def check_claim(self, cluster: str, system_identifier: str, major: int) -> None:
        """As `claim_cluster`, but nothing is written."""
        try:
            kept = self._agreement(f"{cluster}/cluster.json")
        except NotFoundError:
            return
        if (kept.get("system_identifier"), kept.get("postgresql_major")) != (
            system_identifier,
            major,
        ):
            raise ConflictError(
                f"the name {cluster!r} belongs to system identifier {kept.get('system_identifier')}"
                f" (PostgreSQL {kept.get('postgresql_major')}) in this repository, the server is"
                f" {system_identifier} (PostgreSQL {major})",
                ErrorKind.NAME_TAKEN,
                "Configure the server under another name, or another repository.",
            )

    def wal(self, cluster: str, segment_bytes: int) -> WalArchive:
        """The WAL archive of a cluster with segments of that size; nothing is read yet."""
        return WalArchive(self._store, cluster, segment_bytes)

    def known_wal(self, cluster: str) -> WalArchive:
        """The WAL archive of a cluster that has something here.

        Raises
        ------
        NotFoundError
            The repository does not know the cluster.
        """
        return self.wal(cluster, int(str(self._known(cluster)["wal_segment_bytes"])))

    def system_identifier(self, cluster: str) -> str:
        """Whose name `cluster` is here; errors as `known_wal`."""
        return str(self._known(cluster)["system_identifier"])

    def _content(self, name: str) -> bytes:
        return b"".join(self._store.get(name))

    def _known(self, cluster: str) -> dict[str, object]:
        try:
            return self._agreement(f"{cluster}/cluster.json")
        except NotFoundError:
            raise NotFoundError(
                f"{self.url} holds nothing of cluster {cluster!r}",
                ErrorKind.CLUSTER_NOT_FOUND,
                f"Begin with 'opskit backup {cluster}'.",
            ) from None

    def _agree(self, name: str, content: dict[str, object]) -> None:
        """Make the JSON object `name` from `content` if it is not there yet."""
        try:
            self._agreement(name)
        except NotFoundError:
            with suppress(ConflictError):
                self._store.put(name, [(json.dumps(content, indent=2) + "\n").encode()])

    def _agreement(self, name: str) -> dict[str, object]:
        try:
            kept: dict[str, object] = dict(json.loads(self._content(name)))
        except (ValueError, TypeError):
            raise IntegrityError(
                f"{name!r} in {self.url} is not what opskit wrote",
                hint="Put back what was there; docs/format.md says what it holds.",
            ) from None
        if kept.get("format") != FORMAT:
            raise IntegrityError(
                f"{name!r} in {self.url} is of format {kept.get('format')!r}, this opskit knows {FORMAT}",
                ErrorKind.UNKNOWN_FORMAT,
                "Use the opskit that wrote it, or a newer one.",
            )
        return kept


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
