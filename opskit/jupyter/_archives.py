"""What can be downloaded: names from a URL turned into an archive. Blocks; to be called from threads."""

import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from opskit.config import Settings, load_settings
from opskit.model.backup import BaseBackup
from opskit.operations.download import merged_archive
from opskit.operations.download_version import (
    Version,
    VersionedArchive,
    newest_version,
    same_version,
)
from opskit.operations.download_wal import choose_wal, wal_parts
from opskit.repository.merged import MergedArchive

if TYPE_CHECKING:
    from opskit.cluster import Cluster

_KEPT = 4


class Archives:
    """The configured clusters' backups as archives. Safe to use from several threads at once.

    The configuration is read anew for every request, since a server lives for weeks.

    Parameters
    ----------
    configuration
        Its file; by default found as the command finds it.
    """

    def __init__(self, configuration: Path | None) -> None:
        self._configuration = configuration
        self._lock = threading.Lock()
        self._settings: Settings | None = None
        self._clusters: dict[str, Cluster] = {}
        # An archive of much WAL takes a while to look up, and many ranges of it are asked for one after the other.
        self._found: OrderedDict[tuple[str, str, str], VersionedArchive] = OrderedDict()

    def backup(self, cluster: str, name: str) -> "tuple[Cluster, BaseBackup]":
        """A complete backup, by names that need not be any.

        Raises
        ------
        NotFoundError
            There is no configuration, no such cluster in it, or no such backup.
        InputError
            The configuration is wrong.
        StoreError, IntegrityError
            The repository cannot be read.
        """
        source = self._cluster(cluster)
        return source, source.backup(name)

    def newest(self, source: "Cluster", backup: BaseBackup, *, wal: bool) -> VersionedArchive:
        """The archive as it is now; errors as `newest_version`."""
        return self._keep(backup, newest_version(source.repository, backup, wal=wal))

    def same(self, source: "Cluster", backup: BaseBackup, version: Version) -> VersionedArchive:
        """The archive as it was; errors as `same_version`."""
        with self._lock:
            found = self._found.get((backup.cluster, backup.name, str(version)))
        if found is not None:
            return found
        return self._keep(backup, same_version(source.repository, backup, version))

    def made(self, source: "Cluster", backup: BaseBackup, *, wal: bool) -> MergedArchive:
        """An increment's archive, to be put together while it is read.

        Raises
        ------
        IntegrityError
            Something that it is based on is damaged or missing, or there is a gap in the WAL.
        """
        repository = source.repository
        parts = wal_parts(repository, backup, choose_wal(repository, backup, None)) if wal else []
        return merged_archive(repository, backup, parts)

    def check_made(self, source: "Cluster", backup: BaseBackup, *, wal: bool) -> None:
        """Look for what an increment's archive needs, without reading it; errors as `made`."""
        source.repository.chain(backup)
        if wal:
            choose_wal(source.repository, backup, None)

    def _keep(self, backup: BaseBackup, made: VersionedArchive) -> VersionedArchive:
        key = (backup.cluster, backup.name, str(made.version))
        with self._lock:
            self._found[key] = made
            self._found.move_to_end(key)
            while len(self._found) > _KEPT:
                self._found.popitem(last=False)
        return made

    def _cluster(self, name: str) -> "Cluster":
        from opskit.cluster import Cluster  # loaded when somebody downloads: it takes its time

        settings = load_settings(self._configuration)
        with self._lock:
            if settings != self._settings:
                self._settings, self._clusters = settings, {}
                self._found.clear()
            if name not in self._clusters:
                self._clusters[name] = Cluster(name, settings)
            return self._clusters[name]
