"""A cluster's backups brought back: planned, restored, opened as copies."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from opskit.cluster._backups import Backups
from opskit.errors import InputError
from opskit.model.operation import OperationKind
from opskit.model.target import RecoveryTarget, TargetArguments, parse_target, target_arguments
from opskit.operations.monitor import Monitor

if TYPE_CHECKING:
    from opskit.local_copy import LocalCopy
    from opskit.operations.process import OperationHandle
    from opskit.operations.recovery import RecoveryPlan
    from opskit.operations.restore import Layout, RestorePlan


class Restores(Backups):
    """Restores of a cluster's backups."""

    def plan_restore(
        self,
        directory: Path | str,
        *,
        backup: str = "latest",
        layout: "Layout | str" = "archive",
        tablespaces: Mapping[int, Path | str] | None = None,
        pause: bool = False,
        **target: Unpack[TargetArguments],
    ) -> "RestorePlan":
        """What `restore` would do.

        Errors as `opskit.operations.restore.plan_restore` and `opskit.operations.recovery.RecoveryPlanner.plan`.
        """
        from opskit.operations.restore import plan_restore

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

    def plan_recovery(self, target: RecoveryTarget, backup: str | None = None) -> "RecoveryPlan":
        """How a target would be reached; see `opskit.operations.recovery.RecoveryPlanner.plan`."""
        from opskit.operations.recovery import recovery_planner

        planner = recovery_planner(self.repository, self.name, self.settings.postgres)
        return planner.plan(target, backup)

    def restore(
        self,
        directory: Path | str,
        *,
        backup: str = "latest",
        layout: "Layout | str" = "archive",
        tablespaces: Mapping[int, Path | str] | None = None,
        pause: bool = False,
        monitor: Monitor | None = None,
        operation: str | None = None,
        **target: Unpack[TargetArguments],
    ) -> "LocalCopy":
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
        from opskit.operations.recover import fetching_command
        from opskit.operations.restore import execute_restore
        from opskit.postgres.account import server_account

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
                restore_command=fetching_command(self.name, self.settings.file),
            )
            recorder.result = {"directory": str(plan.directory)}
        return self.copy(plan.directory)

    def start_restore(
        self,
        directory: Path | str,
        *,
        backup: str = "latest",
        layout: "Layout | str" = "archive",
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

    def copy(self, directory: Path | str) -> "LocalCopy":
        """The restored copy in a directory; errors as `RestoredCopy.open`."""
        from opskit.local_copy import LocalCopy
        from opskit.operations.copy import RestoredCopy

        return LocalCopy(RestoredCopy.open(Path(directory), self.settings.postgres), self.settings)


def _layout(text: str) -> "Layout":
    from opskit.operations.restore import Layout

    try:
        return Layout(text)
    except ValueError:
        raise InputError(f"the layout {text!r} is not one of {', '.join(Layout)}") from None
