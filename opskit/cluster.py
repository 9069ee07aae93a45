"""The Python API: a cluster by its configured name, and what can be done with its backups.

Everything here is a few lines over the floors below: it opens what the configuration names, records operations in the
catalog, and gives tables as DataFrames.
"""

import logging
import os
import pwd
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from opskit.config import Settings, load_settings
from opskit.errors import InputError, StoreError
from opskit.model.backup import BaseBackup, Trigger, check_note
from opskit.model.operation import Operation, OperationKind
from opskit.operations.backup import create_backup
from opskit.operations.check import Finding, check_cluster
from opskit.operations.copy import RestoredCopy
from opskit.operations.download import ArchiveFormat, download
from opskit.operations.monitor import Monitor
from opskit.operations.restore import Layout, RestorePlan, execute_restore, plan_restore
from opskit.postgres.account import server_account
from opskit.postgres.connection import connect
from opskit.postgres.facts import ClusterFacts, probe
from opskit.postgres.programs import CompletedRun
from opskit.postgres.server import LocalServer
from opskit.repository import Repository
from opskit.store import open_store

if TYPE_CHECKING:
    import pandas as pd

    from opskit.catalog import Catalog
    from opskit.operations.process import OperationHandle
    from opskit.operations.recorder import Recorder

_log = logging.getLogger(__name__)


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


class Cluster:
    """One configured cluster and its backups.

    `create_backup`, `download` and `restore` work in this process and return when they are done; `start_backup`,
    `start_download` and `start_restore` do the same in a process of their own and return at once. Both are recorded
    in the catalog.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        self.configuration = settings.cluster(name)
        self.name = name
        self.settings = settings

    def __repr__(self) -> str:
        return f"<opskit cluster {self.name!r} in {self.repository.url}>"

    @cached_property
    def repository(self) -> Repository:
        """Where the backups are."""
        return Repository(open_store(self.settings.repository_url))

    @cached_property
    def catalog(self) -> "Catalog":
        """Where operations are recorded."""
        from opskit.catalog import Catalog  # SQLAlchemy takes its time to load

        return Catalog.open(self.settings.catalog_url)

    def facts(self) -> ClusterFacts:
        """What the running server tells of itself.

        Raises
        ------
        ServerError
            It cannot be asked.
        """
        connection = connect(self.configuration.conninfo)
        try:
            return probe(connection)
        finally:
            connection.close()

    def check(self) -> list[Finding]:
        """Would a backup succeed now; see `opskit.operations.check.check_cluster`."""
        return check_cluster(self.configuration, self.repository)

    def backups(self) -> "pd.DataFrame":
        """The backups, newest first, with those that are running or failed.

        Returns
        -------
        DataFrame
            See `opskit.reports.tables.backups_table`.
        """
        from opskit.reports.tables import backups_table

        return backups_table(self.repository.backups(self.name), self._backup_operations())

    def operations(self) -> "pd.DataFrame":
        """Everything that was done with the cluster's backups, newest first.

        Returns
        -------
        DataFrame
            See `opskit.reports.tables.operations_table`.
        """
        from opskit.reports.tables import operations_table

        return operations_table(self.catalog.operations(cluster=self.name))

    def backup(self, name: str = "latest") -> BaseBackup:
        """One complete backup; errors as `Repository.backup`."""
        return self.repository.backup(self.name, name)

    def operation(self, id: str) -> "OperationHandle":  # noqa: A002  the model's own name
        """An operation by its id, to look at, wait for or cancel, whichever process runs it."""
        from opskit.operations.process import OperationHandle

        return OperationHandle(self.catalog, id)

    def create_backup(
        self,
        *,
        note: str = "",
        trigger: Trigger = Trigger.ON_DEMAND,
        monitor: Monitor | None = None,
        operation: str | None = None,
    ) -> BaseBackup:
        """Take a backup now; errors and effects as `opskit.operations.backup.create_backup`.

        Parameters
        ----------
        operation
            The id to record it under; a new one by default.
        """
        check_note(note)
        parameters = {"note": note, "trigger": str(trigger)}
        with self._recorded(OperationKind.BACKUP, parameters, monitor, operation) as recorder:

            def named(name: str) -> None:
                recorder.backup = name

            return create_backup(
                self.configuration,
                self.repository,
                trigger=trigger,
                note=note,
                monitor=recorder,
                named=named,
            )

    def start_backup(
        self, *, note: str = "", trigger: Trigger = Trigger.ON_DEMAND, detached: bool = False
    ) -> "OperationHandle":
        """Take a backup in a process of its own.

        Parameters
        ----------
        detached
            Whether it lives on when this process, or the notebook's kernel, ends.
        """
        check_note(note)
        arguments = ["backup", self.name, f"--note={note}", f"--trigger={trigger}"]
        parameters = {"note": note, "trigger": str(trigger)}
        return self._started(OperationKind.BACKUP, arguments, parameters, detached)

    def download(
        self,
        backup: str,
        path: Path | str = ".",
        *,
        format: ArchiveFormat | str = ArchiveFormat.TAR_ZST,  # noqa: A002  tar's own word
        monitor: Monitor | None = None,
        operation: str | None = None,
    ) -> Path:
        """Write a backup's archive to a file; errors and effects as `opskit.operations.download.download`."""
        archive_format = _format(format)
        chosen = self.backup(backup)
        parameters = {"path": str(path), "format": str(archive_format)}
        with self._recorded(
            OperationKind.DOWNLOAD, parameters, monitor, operation, chosen
        ) as recorder:
            written = download(
                self.repository,
                chosen,
                Path(path).absolute(),
                archive_format=archive_format,
                monitor=recorder,
            )
            recorder.result = {"path": str(written)}
            return written

    def start_download(
        self,
        backup: str,
        path: Path | str = ".",
        *,
        format: ArchiveFormat | str = ArchiveFormat.TAR_ZST,  # noqa: A002
        detached: bool = False,
    ) -> "OperationHandle":
        """Download in a process of its own; see `download` and `start_backup`."""
        target = str(Path(path).absolute())
        arguments = [
            "download",
            self.name,
            backup,
            f"--output={target}",
            f"--format={_format(format)}",
        ]
        return self._started(
            OperationKind.DOWNLOAD, arguments, {"path": target, "format": str(format)}, detached
        )

    def plan_restore(
        self,
        directory: Path | str,
        *,
        backup: str = "latest",
        layout: Layout | str = Layout.ARCHIVE,
        tablespaces: Mapping[int, Path | str] | None = None,
    ) -> RestorePlan:
        """What `restore` would do; errors as `opskit.operations.restore.plan_restore`."""
        places = {oid: Path(place) for oid, place in (tablespaces or {}).items()}
        return plan_restore(
            self.backup(backup), Path(directory), layout=_layout(layout), tablespaces=places
        )

    def restore(
        self,
        directory: Path | str,
        *,
        backup: str = "latest",
        layout: Layout | str = Layout.ARCHIVE,
        tablespaces: Mapping[int, Path | str] | None = None,
        monitor: Monitor | None = None,
        operation: str | None = None,
    ) -> "LocalCopy":
        """Restore a backup into a directory that is empty or does not exist, ready to be started.

        When root restores, the files belong to the account that runs servers. Errors and effects as
        `opskit.operations.restore.execute_restore`.
        """
        plan = self.plan_restore(directory, backup=backup, layout=layout, tablespaces=tablespaces)
        account = server_account(self.settings.postgres.run_as)
        owner = (account.uid, account.gid) if account else None
        parameters = {"directory": str(plan.directory), "layout": str(plan.layout)}
        with self._recorded(
            OperationKind.RESTORE, parameters, monitor, operation, plan.backup
        ) as recorder:
            execute_restore(plan, self.repository, recorder, owner=owner)
            recorder.result = {"directory": str(plan.directory)}
        return self.copy(plan.directory)

    def start_restore(
        self,
        directory: Path | str,
        *,
        backup: str = "latest",
        layout: Layout | str = Layout.ARCHIVE,
        tablespaces: Mapping[int, Path | str] | None = None,
        detached: bool = False,
    ) -> "OperationHandle":
        """Restore in a process of its own; see `restore` and `start_backup`. `copy` then opens the result."""
        target = str(Path(directory).absolute())
        arguments = [
            "restore",
            self.name,
            target,
            f"--backup={backup}",
            f"--layout={_layout(layout)}",
        ]
        arguments += [f"--tablespace={oid}={place}" for oid, place in (tablespaces or {}).items()]
        parameters = {"directory": target, "layout": str(layout)}
        return self._started(OperationKind.RESTORE, arguments, parameters, detached)

    def copy(self, directory: Path | str) -> "LocalCopy":
        """The restored copy in a directory; errors as `RestoredCopy.open`."""
        return LocalCopy(RestoredCopy.open(Path(directory), self.settings.postgres))

    def _backup_operations(self) -> list[Operation]:
        try:
            return self.catalog.operations(cluster=self.name, kind=OperationKind.BACKUP)
        except (
            StoreError
        ) as error:  # the repository is the truth: complete backups are listed without the catalog
            _log.warning("running and failed backups are not shown: %s", error)
            return []

    def _recorded(
        self,
        kind: OperationKind,
        parameters: Mapping[str, str],
        monitor: Monitor | None,
        operation: str | None,
        backup: BaseBackup | None = None,
    ) -> "AbstractContextManager[Recorder]":
        from opskit.operations.recorder import recorded

        @contextmanager
        def recording() -> "Iterator[Recorder]":
            with recorded(
                lambda: self.catalog,
                kind=kind,
                cluster=self.name,
                parameters=parameters,
                actor=_actor(),
                id=operation,
                monitor=monitor,
            ) as recorder:
                if backup is not None:
                    recorder.backup = backup.name
                yield recorder

        return recording()

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


@dataclass(frozen=True, slots=True)
class LocalCopy:
    """A restored copy on this machine, and its server. `files` tells where it is and what it is of."""

    files: RestoredCopy

    def __repr__(self) -> str:
        return f"<opskit copy of {self.files.cluster!r} {self.files.backup} in {str(self.files.directory)!r}>"

    @property
    def directory(self) -> Path:
        """Where it was restored into."""
        return self.files.directory

    def verify(self) -> CompletedRun:
        """See `RestoredCopy.verify`."""
        return self.files.verify()

    def start(self, port: int | None = None) -> "CopyServer":
        """Start its server and leave it running; see `RestoredCopy.start`."""
        return CopyServer(self.files.start(port))

    def stop(self) -> bool:
        """Stop its server; whether one ran."""
        return self.files.stop()

    @contextmanager
    def started(self, port: int | None = None) -> "Iterator[CopyServer]":
        """Its server for the length of a ``with`` block."""
        with self.files.running(port) as server:
            yield CopyServer(server)


@dataclass(frozen=True, slots=True)
class CopyServer:
    """The running server of a restored copy. Only its owner on this machine can reach it."""

    server: LocalServer

    def query(self, sql: str, database: str = "postgres") -> "pd.DataFrame":
        """Run `sql` and return its rows, with PostgreSQL's column names; errors as `LocalServer.query`."""
        import pandas as pd

        rows = self.server.query(sql, database)
        return pd.DataFrame(rows.rows, columns=list(rows.columns))

    def run(self, program: str, *arguments: str) -> CompletedRun:
        """Run one of PostgreSQL's programs against it, ``pg_amcheck`` for example; see `LocalServer.run`."""
        return self.server.run(program, *arguments)

    def psql_line(self, database: str = "postgres") -> str:
        """A shell command that connects."""
        return self.server.psql_line(database)

    def stop(self) -> None:
        """Stop it."""
        self.server.stop()


def _actor() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _format(text: str) -> ArchiveFormat:
    try:
        return ArchiveFormat(text)
    except ValueError:
        raise InputError(f"the format {text!r} is not one of {', '.join(ArchiveFormat)}") from None


def _layout(text: str) -> Layout:
    try:
        return Layout(text)
    except ValueError:
        raise InputError(f"the layout {text!r} is not one of {', '.join(Layout)}") from None


class _CallableModule(ModuleType):
    """This module, which the import system puts at ``opskit.cluster`` where the function is meant to be."""

    def __call__(self, name: str, config: Path | str | None = None) -> Cluster:
        return cluster(name, config)


sys.modules[__name__].__class__ = _CallableModule
