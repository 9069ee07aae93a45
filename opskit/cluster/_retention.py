"""A cluster's retention: what would go and why, what goes, and what is held."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from opskit.cluster._opened import OpenedCluster, actor_name
from opskit.config import read_retention
from opskit.errors import ErrorKind, InputError, NotFoundError
from opskit.model.backup import check_note
from opskit.model.increment import chain_of
from opskit.model.operation import OperationKind, OperationStatus
from opskit.model.retention import Hold, Retention
from opskit.model.target import parse_time
from opskit.operations.monitor import Monitor

if TYPE_CHECKING:
    import pandas as pd

    from opskit.operations.expire import Expired, ExpirePlan, LostInterval
    from opskit.operations.process import OperationHandle
    from opskit.reports.retention import WhatIf


class Retained(OpenedCluster):
    """What of a cluster is kept."""

    def what_if(self, retention: Retention | Mapping[str, Any] | None = None) -> "WhatIf":
        """What an expire would keep and let go, with the reasons, and what that costs in points in time.

        Parameters
        ----------
        retention
            A policy to try, as ``opskit.toml`` would say it: ``{"daily": 7, "max_age": "90d"}``; by default the
            cluster's own.

        Raises
        ------
        InputError
            No policy is given or configured, or it is none.
        IntegrityError
            As `opskit.operations.expire.plan_expire`.
        """
        from opskit.reports.retention import WhatIf

        plan = self.plan_expire(retention)
        return WhatIf(plan=plan, intervals_lost=self.intervals_lost(plan))

    def plan_expire(self, retention: Retention | Mapping[str, Any] | None = None) -> "ExpirePlan":
        """The plan alone; parameters and errors as `what_if`."""
        from opskit.operations.expire import plan_expire

        return plan_expire(
            self.repository,
            self.name,
            self._policy(retention),
            datetime.now(UTC),
            in_use=self._read_by(),
        )

    def intervals_lost(self, plan: "ExpirePlan") -> "list[LostInterval] | None":
        """Which points in time a plan makes unreachable; `None` where this machine has no programs to tell it."""
        from opskit.operations.expire import lost_intervals
        from opskit.operations.recoverable import recoverable_intervals

        if not plan.expired:
            return []
        try:
            intervals = recoverable_intervals(self.repository, self.name, self.settings.postgres)
        except NotFoundError:
            return None
        return lost_intervals(intervals, {backup.name for backup in plan.kept})

    def expire(
        self,
        plan: "ExpirePlan | None" = None,
        *,
        monitor: Monitor | None = None,
        operation: str | None = None,
    ) -> "Expired":
        """Remove what a plan lets go; by default that of the cluster's own policy.

        Errors and effects as `plan_expire` and `opskit.operations.expire.execute_expire`. Repeatable: what an expire
        that was cut off left behind, the next one removes.
        """
        from opskit.operations.expire import execute_expire

        plan = plan or self.plan_expire()
        parameters = {"backups": " ".join(backup.name for backup in plan.expired)}
        with self._recorded(OperationKind.EXPIRE, parameters, monitor, operation) as recorder:
            done = execute_expire(
                plan, self.repository, datetime.now(UTC), recorder, in_use=self._read_by
            )
            recorder.result = _result(done)
            return done

    def plan_delete(self, backup: str, *, even_last: bool = False) -> "ExpirePlan":
        """What `delete` would take away; errors as `opskit.operations.delete.plan_delete`.

        Parameters
        ----------
        backup
            Its own name; ``latest`` is refused.
        even_last
            Whether it may be the only backup of its server.
        """
        from opskit.operations.delete import plan_delete

        return plan_delete(
            self.repository,
            self.name,
            backup,
            datetime.now(UTC),
            in_use=self._read_by(),
            even_last=even_last,
        )

    def delete(
        self,
        backup: str,
        *,
        even_last: bool = False,
        monitor: Monitor | None = None,
        operation: str | None = None,
    ) -> "Expired":
        """Delete one backup, and the WAL that no other one needs, for good.

        Errors and effects as `plan_delete` and `opskit.operations.delete.execute_delete`.
        """
        from opskit.operations.delete import execute_delete

        plan = self.plan_delete(backup, even_last=even_last)
        [chosen] = plan.expired
        with self._recorded(
            OperationKind.DELETE, _insisted(even_last), monitor, operation, chosen
        ) as recorder:
            done = execute_delete(
                plan, self.repository, datetime.now(UTC), recorder, in_use=self._read_by
            )
            recorder.result = _result(done)
            return done

    def start_delete(
        self, backup: str, *, even_last: bool = False, detached: bool = False
    ) -> "OperationHandle":
        """Delete in a process of its own; see `delete` and `start_backup`."""
        arguments = ["delete", self.name, backup, "--yes", *(["--even-last"] * even_last)]
        return self._started(OperationKind.DELETE, arguments, _insisted(even_last), detached)

    def hold(self, backup: str, reason: str = "", *, until: datetime | str | None = None) -> Hold:
        """Keep a backup, whatever the policy says, until a time or until `release`.

        Raises
        ------
        NotFoundError
            There is no such backup.
        ConflictError
            It is held already.
        InputError
            The reason cannot be kept, or the time is none that is to come.
        """
        check_note(reason)
        now = datetime.now(UTC)
        end = None if until is None else parse_time(until)
        if end is not None and end <= now:
            raise InputError(
                f"the hold would end at {end:%Y-%m-%d %H:%M:%S} UTC, which has passed",
                hint="Give a time that is to come, or none.",
            )
        chosen = self.repository.backup(self.name, backup)
        hold = Hold(backup=chosen.name, by=actor_name(), reason=reason, placed_at=now, until=end)
        holds = self.repository.holds(self.name)
        former = holds.of(chosen.name)
        parameters = {"reason": reason, "until": "" if end is None else end.isoformat()}
        with self._recorded(OperationKind.HOLD, parameters, None, None, chosen):
            holds.place(hold, replace=former is not None and not former.holds(now))
        return hold

    def release(self, backup: str) -> None:
        """End a hold.

        Raises
        ------
        NotFoundError
            There is no such backup, or it is not held.
        """
        chosen = self.repository.backup(self.name, backup)
        with self._recorded(OperationKind.RELEASE, {}, None, None, chosen):
            self.repository.holds(self.name).release(chosen.name)

    def holds(self) -> "pd.DataFrame":
        """The holds by the names of their backups, also those that have ended.

        Returns
        -------
        DataFrame
            See `opskit.reports.retention.holds_table`.
        """
        from opskit.reports.retention import holds_table

        return holds_table(self.repository.holds(self.name).all())

    def _policy(self, retention: Retention | Mapping[str, Any] | None) -> Retention:
        if isinstance(retention, Retention):
            return retention
        if retention is not None:
            return read_retention(retention)
        if self.configuration.retention is None:
            raise InputError(
                f"cluster {self.name!r} has no retention, so nothing of it is ever removed",
                ErrorKind.WRONG_SETTING,
                f"Below [clusters.{self.name}]: retention = {{ daily = 7, weekly = 4, monthly = 3, on_demand = 3 }}.",
            )
        return self.configuration.retention

    def _read_by(self) -> dict[str, str]:
        """The backups that operations read at the moment, by what."""
        reading = {
            name: f"{o.kind} {o.id[:8]} on {o.host} reads it"
            for o in self.catalog.operations(cluster=self.name)
            if o.status is OperationStatus.RUNNING
            and o.kind in (OperationKind.RESTORE, OperationKind.DOWNLOAD, OperationKind.CONSOLIDATE)
            # A row has its backup with its first heartbeat; a consolidation's parameters tell it before.
            and (name := o.backup or o.parameters.get("backup")) is not None
        }
        if not reading:
            return {}
        # One that was consolidated since is still read with what it was based on.
        known = {backup.name: backup for backup in self.repository.backups(self.name)}
        found = dict(reading)
        for name, words in reading.items():
            for backup in chain_of(known[name], known) if name in known else ():
                for other in backup.consolidated.chain if backup.consolidated else ():
                    found.setdefault(other, words)
        return found


def _result(done: "Expired") -> dict[str, object]:
    return {
        "backups": list(done.backups),
        "kept_after_all": dict(done.kept_after_all),
        "wal_segments": done.wal_segments,
        "freed_bytes": done.freed_bytes,
    }


def _insisted(even_last: bool) -> dict[str, str]:
    return {"even_last": "true"} if even_last else {}
