"""How a configured schedule stands, from what the repository and the catalog say."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, pairwise

from cronsim import CronSim

from opskit.cluster import Cluster
from opskit.model.backup import BaseBackup, Trigger
from opskit.model.operation import Operation, OperationKind, OperationStatus
from opskit.model.schedule import ScheduleState, schedule_state

LOOKED_BACK = 14  # periods
FAILED = (OperationStatus.FAILED, OperationStatus.DIED, OperationStatus.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSchedule:
    """One cluster's schedule at a moment.

    `last` is the newest scheduled backup that is there; `missed` are the periods among the last fourteen, newest first,
    that ended without one although there was one before them.
    """

    cluster: str
    schedule: str
    state: ScheduleState
    last: BaseBackup | None
    missed: tuple[datetime, ...]


def cluster_schedule(
    main: Cluster, now: datetime, failed_at: Iterable[datetime] = ()
) -> ClusterSchedule | None:
    """How the schedule of a cluster stands at `now`; `None` when it has none.

    Parameters
    ----------
    failed_at
        Failures that left nothing in the catalog.
    """
    schedule = main.configuration.schedule
    if schedule is None:
        return None
    backups = [b for b in main.repository.backups(main.name) if b.trigger is Trigger.SCHEDULED]
    operations = [
        operation
        for operation in main.catalog.operations(cluster=main.name, kind=OperationKind.BACKUP)
        if operation.parameters.get("trigger") == str(Trigger.SCHEDULED)
    ]
    begun = list(islice(_backwards(schedule, now), LOOKED_BACK + 1))
    failures = [o.ended_at or o.heartbeat_at for o in operations if o.status in FAILED]
    state = schedule_state(
        main.name,
        begun[0],
        next(CronSim(schedule, now)),
        backups,
        now,
        failed_at=[*failures, *failed_at],
        jitter=main.settings.scheduler.jitter,
    )
    return ClusterSchedule(
        cluster=main.name,
        schedule=schedule,
        state=state,
        last=backups[0] if backups else None,
        missed=tuple(_missed(begun, backups, operations)),
    )


def current_period(schedule: str, now: datetime) -> tuple[datetime, datetime]:
    """When the period that goes on at `now` began, and when the next one begins."""
    return next(_backwards(schedule, now)), next(CronSim(schedule, now))


def _backwards(schedule: str, now: datetime) -> CronSim:
    """A schedule's times up to `now`, the last one first: it may be that of this very minute."""
    return CronSim(
        schedule, now.replace(second=0, microsecond=0) + timedelta(minutes=1), reverse=True
    )


def _missed(
    begun: list[datetime], backups: list[BaseBackup], operations: list[Operation]
) -> Iterable[datetime]:
    """Periods that are over, newest first. A backup that was expired since is told by its operation."""
    served = [b.scheduled_for or b.started_at for b in backups]
    served += [
        datetime.fromisoformat(given)
        if (given := o.parameters.get("scheduled_for"))
        else o.started_at
        for o in operations
        if o.status is OperationStatus.COMPLETE
    ]
    for end, start in pairwise(begun):
        if not any(start <= at < end for at in served) and any(at < start for at in served):
            yield start
