"""Which clusters of a fleet are due: pure, from what the catalog and the queue say of all of them."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from opskit.config import Settings
from opskit.model.operation import OperationStatus
from opskit.model.schedule import Attempt, ScheduleStatus, period_state
from opskit.planner._states import FAILED, current_period


@dataclass(frozen=True, slots=True)
class Due:
    """A cluster whose backup for a time of its schedule is to be taken now."""

    cluster: str
    period: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the queue holds of a cluster.

    `is_open` while a job of it waits or runs; `served` is the newest time of the schedule for which a job found nothing
    left to do.
    """

    is_open: bool = False
    served: datetime | None = None


Periods = Mapping[str, tuple[datetime, datetime]]


def periods(settings: Settings, now: datetime) -> Periods:
    """Of each cluster with a schedule when its period began, and when the next one begins."""
    of_schedule: dict[str, tuple[datetime, datetime]] = {}  # a fleet has few schedules
    found = {}
    for name, cluster in settings.clusters.items():
        if cluster.schedule is not None:
            if cluster.schedule not in of_schedule:
                of_schedule[cluster.schedule] = current_period(cluster.schedule, now)
            found[name] = of_schedule[cluster.schedule]
    return found


def due(
    of_clusters: Periods,
    attempts: Mapping[str, Sequence[Attempt]],
    standings: Mapping[str, Standing],
    now: datetime,
    *,
    jitter: timedelta,
) -> Iterator[Due]:
    """The clusters whose backups can be begun, and that the queue holds no job of.

    The catalog alone is asked, so one may be named whose backup is there: its job finds that, and is remembered by the
    queue as having served the period.
    """
    for cluster, (period, next_period) in of_clusters.items():
        standing = standings.get(cluster, _NOTHING)
        if standing.is_open or (standing.served is not None and standing.served >= period):
            continue
        tried = attempts.get(cluster, ())
        if any(attempt.status is OperationStatus.RUNNING for attempt in tried):
            continue
        state = period_state(
            cluster,
            period,
            next_period,
            _backup(tried, period),
            now,
            failed_at=[attempt.at for attempt in tried if attempt.status in FAILED],
            jitter=jitter,
        )
        if state.status is ScheduleStatus.DUE:
            yield Due(cluster, period)


def _backup(tried: Collection[Attempt], period: datetime) -> str | None:
    """The period's backup, or one of a later period: the clock may have gone back since."""
    for attempt in tried:
        if attempt.status is OperationStatus.COMPLETE and attempt.period >= period:
            return attempt.backup or ""
    return None


_NOTHING = Standing()
