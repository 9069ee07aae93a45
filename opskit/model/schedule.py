"""What is due: a pure function of the schedule's times, the backups, what failed, and now.

A schedule's *period* begins at each of its times. In each period one scheduled backup is wanted, at whatever moment of
it a machine is awake: one that slept through 02:00 backs up when it wakes, once, and what else was missed is not made
up for. Times are UTC, so that no day has two of an hour or none.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from opskit.model.backup import BaseBackup, Trigger
from opskit.model.operation import OperationStatus

_FIRST_PAUSE = timedelta(minutes=5)
_LONGEST_PAUSE = timedelta(hours=1)


class ScheduleStatus(StrEnum):
    """How a period stands: its backup is there, can be begun now, or has to wait for its moment or after a failure."""

    DONE = "done"
    DUE = "due"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleState:
    """A cluster's schedule at one moment. Times are aware and in UTC.

    Parameters
    ----------
    period, next_period
        When the period that goes on began, and when the next one begins.
    backup
        The name of the period's backup, if it is there.
    not_before
        From when on it may be begun.
    failures
        How often it failed in this period.
    """

    status: ScheduleStatus
    period: datetime
    next_period: datetime
    backup: str | None
    not_before: datetime
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at a scheduled backup, as the catalog tells of it. Times are aware and in UTC.

    Parameters
    ----------
    period
        The time of the schedule that it was for; its own start where that is not known.
    backup
        The backup's name, as soon as it has one.
    at
        When it ended, or last gave a sign of life.
    """

    period: datetime
    status: OperationStatus
    backup: str | None
    at: datetime


def schedule_state(
    cluster: str,
    period: datetime,
    next_period: datetime,
    backups: Iterable[BaseBackup],
    now: datetime,
    *,
    failed_at: Sequence[datetime] = (),
    jitter: timedelta = timedelta(0),
) -> ScheduleState:
    """How the schedule of a cluster stands in the period that goes on.

    Parameters
    ----------
    failed_at
        When scheduled backups failed; what lies before the period does not count.
    jitter
        By how much at most a backup is begun later than its period, so that not every cluster begins at once: for each
        cluster and period a fixed part of it.
    """
    done = next((b.name for b in backups if _is_of(b, period)), None)
    return period_state(cluster, period, next_period, done, now, failed_at=failed_at, jitter=jitter)


def period_state(
    cluster: str,
    period: datetime,
    next_period: datetime,
    backup: str | None,
    now: datetime,
    *,
    failed_at: Sequence[datetime] = (),
    jitter: timedelta = timedelta(0),
) -> ScheduleState:
    """As `schedule_state`, where the period's `backup` is known by its name already."""
    failures = sorted(at for at in failed_at if at >= period)
    not_before = period + _share(cluster, period) * jitter
    if failures:
        not_before = max(not_before, failures[-1] + pause_after(len(failures)))
    # A clock that went back must not make a failure of the future hold up everything.
    waits = now < not_before <= now + max(jitter, _LONGEST_PAUSE)
    status = ScheduleStatus.WAITING if waits else ScheduleStatus.DUE
    return ScheduleState(
        status=ScheduleStatus.DONE if backup is not None else status,
        period=period,
        next_period=next_period,
        backup=backup,
        not_before=not_before,
        failures=len(failures),
    )


def _is_of(backup: BaseBackup, period: datetime) -> bool:
    """Whether a backup is the period's, or of a later one: the clock may have gone back since."""
    if backup.trigger is not Trigger.SCHEDULED:
        return False
    # A start is told by the server's clock, so it cannot tell alone which period of ours a backup was taken for.
    return (backup.scheduled_for or backup.started_at) >= period


def pause_after(failures: int) -> timedelta:
    """How long to wait after so many failures in a row, at least one."""
    return min(_FIRST_PAUSE * (1 << min(failures - 1, 10)), _LONGEST_PAUSE)


def _share(cluster: str, period: datetime) -> float:
    digest = hashlib.sha256(f"{cluster} {period.isoformat()}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32
