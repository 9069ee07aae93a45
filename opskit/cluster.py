"""The Python API: a cluster by its configured name, and what can be done with its backups.

Everything here is a few lines over the floors below: it opens what the configuration names, records operations in the
catalog, and gives tables as DataFrames.
"""

import logging
import os
import pwd
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Unpack

from opskit.config import Settings, load_settings
from opskit.errors import Cancelled, InputError, StoreError
from opskit.local_copy import LocalCopy
from opskit.model.backup import BaseBackup, Trigger, check_note
from opskit.model.operation import Operation, OperationKind
from opskit.model.target import (
    RecoveryTarget,
    TargetArguments,
    parse_target,
    parse_time,
    target_arguments,
)
from opskit.operations.backup import create_backup
from opskit.operations.check import Finding, check_cluster
from opskit.operations.copy import RestoredCopy
from opskit.operations.download import ArchiveFormat, download
from opskit.operations.monitor import Monitor
from opskit.operations.recoverable import recoverable_intervals
from opskit.operations.recovery import RecoveryPlan, recovery_planner
from opskit.operations.restore import Layout, RestorePlan, execute_restore, plan_restore
from opskit.operations.wal_gaps import survey_timelines
from opskit.operations.wal_status import WalStatus, wal_status
from opskit.operations.wal_stream import stream_wal
from opskit.postgres.account import server_account
from opskit.postgres.connection import connect
from opskit.postgres.facts import ClusterFacts, probe
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

    def wal(self) -> "pd.DataFrame":
        """What the WAL archive holds.

        Returns
        -------
        DataFrame
            See `opskit.reports.tables.wal_table`.
        """
        from opskit.reports.tables import wal_table

        return wal_table(survey_timelines(self.repository.known_wal(self.name)))

    def wal_status(self) -> WalStatus:
        """How the WAL archive stands; see `opskit.operations.wal_status.wal_status`."""
        return wal_status(self.configuration, self.repository)

    def stream_wal(
        self,
        *,
        partial_seconds: float | None = None,
        after_gap: bool = False,
        monitor: Monitor | None = None,
        operation: str | None = None,
    ) -> None:
        """Stream WAL into the archive until the monitor, or somebody by the catalog, asks for the end.

        Errors and effects as `opskit.operations.wal_stream.stream_wal`; an end that was asked for is none.
        """
        seconds = partial_seconds or self.configuration.wal_partial_seconds
        parameters = {"partial_seconds": f"{seconds:g}", "after_gap": str(after_gap).lower()}
        with (
            self._recorded(OperationKind.WAL_STREAM, parameters, monitor, operation) as recorder,
            suppress(Cancelled),
        ):
            stream_wal(
                self.configuration,
                self.repository,
                recorder,
                partial_seconds=seconds,
                after_gap=after_gap,
            )

    def recoverable(self) -> "pd.DataFrame":
        """What can be restored: from each backup on, along each timeline that it leads to, without a gap.

        Returns
        -------
        DataFrame
            See `opskit.reports.recoverable.recoverable_table`; the newest backup first, then the newest timeline.

        Raises
        ------
        NotFoundError
            This machine has no PostgreSQL programs of the cluster's major version, which read the archive's ends.
        """
        from opskit.reports.recoverable import recoverable_table

        return recoverable_table(
            recoverable_intervals(self.repository, self.name, self.settings.postgres)
        )

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
        wal: bool = True,
        until: datetime | str | None = None,
        monitor: Monitor | None = None,
        operation: str | None = None,
    ) -> Path:
        """Write a backup's archive to a file; errors and effects as `opskit.operations.download.download`."""
        archive_format = _format(format)
        end = _until(wal, until)
        chosen = self.backup(backup)
        parameters = {"path": str(path), "format": str(archive_format), **_wal_parameters(wal, end)}
        with self._recorded(
            OperationKind.DOWNLOAD, parameters, monitor, operation, chosen
        ) as recorder:
            written = download(
                self.repository,
                chosen,
                Path(path).absolute(),
                archive_format=archive_format,
                monitor=recorder,
                wal=wal,
                until=end,
            )
            recorder.result = {"path": str(written)}
            return written

    def start_download(
        self,
        backup: str,
        path: Path | str = ".",
        *,
        format: ArchiveFormat | str = ArchiveFormat.TAR_ZST,  # noqa: A002
        wal: bool = True,
        until: datetime | str | None = None,
        detached: bool = False,
    ) -> "OperationHandle":
        """Download in a process of its own; see `download` and `start_backup`."""
        target = str(Path(path).absolute())
        end = _until(wal, until)
        arguments = [
            "download",
            self.name,
            backup,
            f"--output={target}",
            f"--format={_format(format)}",
            *([] if wal else ["--no-wal"]),
            *([f"--until={end.isoformat()}"] if end is not None else []),
        ]
        parameters = {"path": target, "format": str(format), **_wal_parameters(wal, end)}
        return self._started(OperationKind.DOWNLOAD, arguments, parameters, detached)

    def plan_restore(
        self,
        directory: Path | str,
        *,
        backup: str = "latest",
        layout: Layout | str = Layout.ARCHIVE,
        tablespaces: Mapping[int, Path | str] | None = None,
        pause: bool = False,
        **target: Unpack[TargetArguments],
    ) -> RestorePlan:
        """What `restore` would do.

        Errors as `opskit.operations.restore.plan_restore` and `opskit.operations.recovery.RecoveryPlanner.plan`.
        """
        places = {oid: Path(place) for oid, place in (tablespaces or {}).items()}
        wanted = parse_target(**target)
        if wanted is None and (pause or target):
            raise InputError(
                "there is no target to pause at or to reach",
                hint="Name one, such as at='2026-11-22 14:05Z', or latest=True.",
            )
        recovery = (
            self.plan_recovery(wanted, None if backup == "latest" else backup) if wanted else None
        )
        return plan_restore(
            recovery.backup if recovery else self.backup(backup),
            Path(directory),
            layout=_layout(layout),
            tablespaces=places,
            recovery=recovery,
            paused=pause,
        )

    def plan_recovery(self, target: RecoveryTarget, backup: str | None = None) -> RecoveryPlan:
        """How a target would be reached; see `opskit.operations.recovery.RecoveryPlanner.plan`."""
        planner = recovery_planner(self.repository, self.name, self.settings.postgres)
        return planner.plan(target, backup)

    def restore(
        self,
        directory: Path | str,
        *,
        backup: str = "latest",
        layout: Layout | str = Layout.ARCHIVE,
        tablespaces: Mapping[int, Path | str] | None = None,
        pause: bool = False,
        monitor: Monitor | None = None,
        operation: str | None = None,
        **target: Unpack[TargetArguments],
    ) -> LocalCopy:
        """Restore a backup into a directory that is empty or does not exist, ready to be started.

        Without a target the copy is as it was when the backup ended. With one (``at="2026-11-22 14:05Z"``, ``lsn``,
        ``xid``, ``restore_point``, ``immediate`` or ``latest``; `inclusive` and `timeline` refine it) the newest backup
        that leads there is chosen unless `backup` names one, the WAL that is needed is brought beside it, and the first
        start recovers it. When root restores, the files belong to the account that runs servers. Errors and effects as
        `plan_restore` and `opskit.operations.restore.execute_restore`.

        Parameters
        ----------
        pause
            Whether the copy is held at the target, readable, to be moved on by `LocalCopy.advance`.
        """
        plan = self.plan_restore(
            directory,
            backup=backup,
            layout=layout,
            tablespaces=tablespaces,
            pause=pause,
            **target,
        )
        account = server_account(self.settings.postgres.run_as)
        owner = (account.uid, account.gid) if account else None
        parameters = {"directory": str(plan.directory), "layout": str(plan.layout)}
        with self._recorded(
            OperationKind.RESTORE, parameters, monitor, operation, plan.backup
        ) as recorder:
            execute_restore(
                plan,
                self.repository,
                recorder,
                owner=owner,
                restore_command=self._restore_command(),
            )
            recorder.result = {"directory": str(plan.directory)}
        return self.copy(plan.directory)

    def start_restore(
        self,
        directory: Path | str,
        *,
        backup: str = "latest",
        layout: Layout | str = Layout.ARCHIVE,
        tablespaces: Mapping[int, Path | str] | None = None,
        pause: bool = False,
        detached: bool = False,
        **target: Unpack[TargetArguments],
    ) -> "OperationHandle":
        """Restore in a process of its own; see `restore` and `start_backup`. `copy` then opens the result."""
        into = str(Path(directory).absolute())
        arguments = [
            "restore",
            self.name,
            into,
            f"--backup={backup}",
            f"--layout={_layout(layout)}",
        ]
        arguments += [f"--tablespace={oid}={place}" for oid, place in (tablespaces or {}).items()]
        arguments += target_arguments(parse_target(**target), pause=pause)
        parameters = {"directory": into, "layout": str(layout)}
        return self._started(OperationKind.RESTORE, arguments, parameters, detached)

    def copy(self, directory: Path | str) -> LocalCopy:
        """The restored copy in a directory; errors as `RestoredCopy.open`."""
        return LocalCopy(RestoredCopy.open(Path(directory), self.settings.postgres), self.settings)

    def _restore_command(self) -> str:
        """What a plain data directory fetches its WAL by."""
        configuration = (
            f" --config {shlex.quote(str(self.settings.file))}" if self.settings.file else ""
        )
        program = f"{shlex.quote(sys.executable)} -m opskit{configuration}"
        # A per cent sign stands for itself when doubled.
        return f'{program.replace("%", "%%")} wal get %f "%p" --cluster {self.name}'

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


def _until(wal: bool, until: datetime | str | None) -> datetime | None:
    if until is not None and not wal:
        raise InputError("an end of the WAL archive was given, and none is wanted")
    return None if until is None else parse_time(until)


def _wal_parameters(wal: bool, until: datetime | None) -> dict[str, str]:
    if not wal:
        return {"wal": "false"}
    return {} if until is None else {"until": until.isoformat()}


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
