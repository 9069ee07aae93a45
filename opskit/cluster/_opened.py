"""What is open of one configured cluster: its repository, its catalog, and how its operations are run.

Every command that names a cluster loads this package, so what only some need is imported by the methods that need it,
here and in the modules beside: psycopg and SQLAlchemy take a tenth of a second each to load, and what backs up,
restores, downloads and consolidates takes half as long together.
"""

import os
import pwd
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from opskit.config import Settings, jupyter_user
from opskit.model.backup import BaseBackup
from opskit.model.operation import OperationKind
from opskit.operations.monitor import Monitor
from opskit.repository import Repository
from opskit.store import open_store

if TYPE_CHECKING:
    import pandas as pd

    from opskit.catalog import Catalog
    from opskit.operations.check import Finding
    from opskit.operations.process import OperationHandle
    from opskit.operations.recorder import Recorder
    from opskit.postgres.facts import ClusterFacts


class OpenedCluster:
    """A configured cluster; nothing is asked or read before it is needed.

    Parameters
    ----------
    beside
        Another one of the same settings, with which it shares repository and catalog.
    """

    def __init__(
        self, name: str, settings: Settings, *, beside: "OpenedCluster | None" = None
    ) -> None:
        self.configuration = settings.cluster(name)
        self.name = name
        self.settings = settings
        self._beside = beside

    def __repr__(self) -> str:
        return f"<opskit cluster {self.name!r} in {self.repository.url}>"

    def _repr_html_(self) -> str:
        from opskit.reports.cards import cluster_card

        return cluster_card(self.configuration, self.repository)

    @cached_property
    def repository(self) -> Repository:
        """Where the backups are."""
        if self._beside is not None:
            return self._beside.repository
        return Repository(open_store(self.settings.repository_url))

    @cached_property
    def catalog(self) -> "Catalog":
        """Where operations are recorded, and entered in the audit log."""
        if self._beside is not None:
            return self._beside.catalog
        from opskit.evidence.log import open_catalog  # SQLAlchemy takes its time to load

        return open_catalog(self.settings)

    def facts(self) -> "ClusterFacts":
        """What the running server tells of itself.

        Raises
        ------
        ServerError
            It cannot be asked.
        """
        from opskit.postgres.connection import connect
        from opskit.postgres.facts import probe

        connection = connect(self.configuration.conninfo)
        try:
            return probe(connection)
        finally:
            connection.close()

    def check(self) -> "list[Finding]":
        """Would a backup succeed now; see `opskit.operations.check.check_cluster`."""
        from opskit.operations.check import check_cluster  # loads psycopg

        return check_cluster(self.configuration, self.repository)

    def operations(self) -> "pd.DataFrame":
        """Everything that was done with the cluster's backups, newest first.

        Returns
        -------
        DataFrame
            See `opskit.reports.tables.operations_table`.
        """
        from opskit.reports.tables import operations_table

        return operations_table(self.catalog.operations(cluster=self.name))

    def operation(self, id: str) -> "OperationHandle":  # noqa: A002  the model's own name
        """An operation by its id, to look at, wait for or cancel, whichever process runs it."""
        from opskit.operations.process import OperationHandle

        return OperationHandle(self.catalog, id)

    @contextmanager
    def _recorded(
        self,
        kind: OperationKind,
        parameters: Mapping[str, str],
        monitor: Monitor | None,
        operation: str | None,
        backup: BaseBackup | None = None,
    ) -> "Iterator[Recorder]":
        """Record what the ``with`` block does, in this process."""
        from opskit.operations.recorder import recorded

        with recorded(
            lambda: self.catalog,
            kind=kind,
            cluster=self.name,
            parameters=parameters,
            actor=actor_name(),
            jupyter_user=jupyter_user(),
            id=operation,
            monitor=monitor,
        ) as recorder:
            if backup is not None:
                recorder.backup = backup.name
            yield recorder

    def _started(
        self,
        kind: OperationKind,
        arguments: list[str],
        parameters: Mapping[str, str],
        detached: bool,
    ) -> "OperationHandle":
        from opskit.operations.process import start_process

        return start_process(
            self.settings,
            self.catalog,
            arguments,
            kind=kind,
            cluster=self.name,
            parameters=parameters,
            detached=detached,
        )


def actor_name() -> str:
    """The account that runs this process, as the system knows it; the environment could say anything."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
