"""A cluster's backups: listed, taken, carried home."""

import logging
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opskit.cluster._opened import OpenedCluster
from opskit.errors import InputError, StoreError
from opskit.model.backup import BaseBackup, Trigger, check_note
from opskit.model.increment import BackupMode
from opskit.model.operation import Operation, OperationKind
from opskit.model.target import parse_time
from opskit.operations.monitor import Monitor
from opskit.reports.listed import backup_rows, running_parents

if TYPE_CHECKING:
    import pandas as pd

    from opskit.operations.download import ArchiveFormat
    from opskit.operations.process import OperationHandle

_log = logging.getLogger(__name__)


class Backups(OpenedCluster):
    """Base backups of a cluster."""

    def backups(self) -> "pd.DataFrame":
        """The backups, newest first, with those that are running or failed.

        Returns
        -------
        DataFrame
            See `opskit.reports.tables.backups_table`.
        """
        from opskit.reports.tables import backups_table

        operations = self._backup_operations()
        return backups_table(
            self.repository.backups(self.name),
            operations,
            running_parents(self.repository, operations),
        )

    def backup_rows(self) -> list[dict[str, Any]]:
        """The rows of `backups` as plain values, `None` where one is missing; it loads no pandas."""
        operations = self._backup_operations()
        parents = running_parents(self.repository, operations)
        return backup_rows(self.repository.backups(self.name), operations, parents)

    def backup(self, name: str = "latest") -> BaseBackup:
        """One complete backup; errors as `Repository.backup`."""
        return self.repository.backup(self.name, name)

    def create_backup(
        self,
        *,
        note: str = "",
        trigger: Trigger = Trigger.ON_DEMAND,
        scheduled_for: datetime | str | None = None,
        mode: BackupMode | str = BackupMode.AUTO,
        monitor: Monitor | None = None,
        operation: str | None = None,
    ) -> BaseBackup:
        """Take a backup now; errors and effects as `opskit.operations.backup.create_backup`.

        Parameters
        ----------
        scheduled_for
            The time of the schedule that it is for; each has one backup.
        mode
            ``auto``, or insist on ``full`` or ``incremental``.
        operation
            The id to record it under; a new one by default.
        """
        from opskit.operations.backup import create_backup  # loads psycopg

        check_note(note)
        period = None if scheduled_for is None else parse_time(scheduled_for)
        kind = _mode(mode)
        parameters = _parameters(note, trigger, period, kind)
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
                scheduled_for=period,
                mode=kind,
            )

    def start_backup(
        self,
        *,
        note: str = "",
        trigger: Trigger = Trigger.ON_DEMAND,
        scheduled_for: datetime | str | None = None,
        mode: BackupMode | str = BackupMode.AUTO,
        detached: bool = False,
    ) -> "OperationHandle":
        """Take a backup in a process of its own; see `create_backup`.

        Parameters
        ----------
        detached
            Whether it lives on when this process, or the notebook's kernel, ends.
        """
        check_note(note)
        period = None if scheduled_for is None else parse_time(scheduled_for)
        kind = _mode(mode)
        parameters = _parameters(note, trigger, period)
        options = [f"--{key.replace('_', '-')}={value}" for key, value in parameters.items()]
        options += [] if kind is BackupMode.AUTO else [f"--{kind}"]
        parameters = _parameters(note, trigger, period, kind)
        arguments = ["backup", self.name, *options]
        return self._started(OperationKind.BACKUP, arguments, parameters, detached)

    def download(
        self,
        backup: str,
        path: Path | str = ".",
        *,
        format: "ArchiveFormat | str" = "tar.zst",  # noqa: A002  tar's own word
        wal: bool = True,
        until: datetime | str | None = None,
        monitor: Monitor | None = None,
        operation: str | None = None,
    ) -> Path:
        """Write a backup's archive to a file; errors and effects as `opskit.operations.download.download`."""
        from opskit.operations.download import download

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
        format: "ArchiveFormat | str" = "tar.zst",  # noqa: A002
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

    def _backup_operations(self) -> list[Operation]:
        try:
            return self.catalog.operations(cluster=self.name, kind=OperationKind.BACKUP)
        except (
            StoreError
        ) as error:  # the repository is the truth: complete backups are listed without the catalog
            _log.warning("running and failed backups are not shown: %s", error)
            return []


def _parameters(
    note: str,
    trigger: Trigger,
    period: datetime | None,
    mode: BackupMode = BackupMode.AUTO,
) -> dict[str, str]:
    given = {"note": note, "trigger": str(trigger)}
    if period is not None:
        given["scheduled_for"] = period.isoformat()
    return given if mode is BackupMode.AUTO else {**given, "mode": str(mode)}


def _mode(text: str) -> BackupMode:
    try:
        return BackupMode(text)
    except ValueError:
        raise InputError(f"the mode {text!r} is not one of {', '.join(BackupMode)}") from None


def _format(text: str) -> "ArchiveFormat":
    from opskit.operations.download import ArchiveFormat

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
