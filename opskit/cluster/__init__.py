"""The Python API: a cluster by its configured name, and what can be done with its backups.

Everything here is a few lines over the floors below: it opens what the configuration names, records operations in the
catalog, and gives tables as DataFrames.
"""

import sys
from pathlib import Path
from types import ModuleType

from opskit.cluster._audit import Audit, verify_audit
from opskit.cluster._consolidation import Consolidated
from opskit.cluster._copies import Copies
from opskit.cluster._freshness import Fresh, Sources
from opskit.cluster._reports import Reports
from opskit.cluster._retention import Retained
from opskit.cluster._wal import Wal
from opskit.config import load_settings


def cluster(name: str, config: Path | str | None = None) -> "Cluster":
    """The cluster that ``opskit.toml`` calls `name`; the server is not asked anything yet.

    Parameters
    ----------
    config
        The configuration file; by default ``$OPSKIT_CONFIG``, ``./opskit.toml``, then the user's.

    Raises
    ------
    NotFoundError
        There is no configuration, or no such cluster in it.
    InputError
        The configuration is wrong.
    """
    return Cluster(name, load_settings(Path(config) if config else None))


def clusters(config: Path | str | None = None) -> list[str]:
    """The names of the configured clusters, sorted; errors as `cluster`."""
    return sorted(load_settings(Path(config) if config else None).clusters)


class Cluster(Copies, Wal, Retained, Consolidated, Fresh, Reports, Audit):
    """One configured cluster, its backups, its WAL archive, what of them is kept, and the reports and audit log on it.

    `create_backup`, `download` and `restore` work in this process and return when they are done; `start_backup`,
    `start_download` and `start_restore` do the same in a process of their own and return at once. Both are recorded
    in the catalog.
    """


class _CallableModule(ModuleType):
    """This module, which the import system puts at ``opskit.cluster`` where the function is meant to be."""

    def __call__(self, name: str, config: Path | str | None = None) -> Cluster:
        return cluster(name, config)


__all__ = ["Cluster", "Sources", "cluster", "clusters", "verify_audit"]

sys.modules[__name__].__class__ = _CallableModule
