"""A fleet as the configuration says it, and as its queue shows it; what needs Procrastinate is imported when asked for.

Knows the names of the queue's tables, not how jobs are run.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from opskit.config import Settings
from opskit.errors import ErrorKind, InputError, NotFoundError
from opskit.postgres.connection import connect

if TYPE_CHECKING:
    from opskit.planner.fleet._worker import Worker

_EXTRA = ("procrastinate", "psycopg_pool")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """A worker: where it is, how many jobs it may run at once, and when it last gave a sign of life."""

    host: str
    pid: int
    jobs: int
    started_at: datetime
    heartbeat_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """A cluster's job.

    `since` is when it began to run, or was put into the queue; `not_before` when one that failed is run again. `worker`
    is where it runs, as ``host:pid``; of a lost worker it may be known no more.
    """

    cluster: str
    period: datetime
    is_running: bool
    since: datetime
    not_before: datetime | None
    tries: int
    worker: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetStatus:
    """What the queue shows at one moment: its workers, and the jobs that run or wait, in the order of the queue."""

    queue: str
    workers: tuple[WorkerStatus, ...]
    jobs: tuple[JobStatus, ...]


def queue_name(repository_url: str) -> str:
    """The queue of a repository: its workers are those that see it.

    It is short, for PostgreSQL's channels are named after it.
    """
    return f"opskit-{hashlib.sha256(repository_url.encode()).hexdigest()[:16]}"


def open_worker(
    settings: Settings,
    *,
    jobs: int | None = None,
    store_limit: int | None = None,
    tell: Callable[[str], None],
    stopped: Callable[[], bool],
) -> "Worker":
    """A worker of the fleet; nothing is asked yet. What is `None` is as the configuration says.

    Raises
    ------
    InputError
        The settings are not those of a fleet: the catalog is in SQLite, no cluster has a schedule, they come from no
        file.
    NotFoundError
        Procrastinate is not installed.
    """
    url = _shared(settings)
    if settings.file is None or not any(one.schedule for one in settings.clusters.values()):
        raise InputError(
            "no cluster has a schedule",
            ErrorKind.WRONG_SETTING,
            'Below [clusters.main], for example: schedule = "0 2 * * *" (cron, UTC).',
        )
    try:
        from opskit.planner.fleet._queue import Queue
        from opskit.planner.fleet._worker import Worker
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        raise NotFoundError(
            f"a worker needs the package {error.name!r}, which is not installed",
            ErrorKind.EXTRA_MISSING,
            "Install the extra: pip install 'opskit[fleet]'.",
        ) from None
    fleet = settings.fleet
    at_once = jobs or fleet.jobs
    limit = store_limit or fleet.store_limit
    queue = Queue(url, settings.repository_url, store_limit=limit, jobs=at_once)
    return Worker(settings, queue, jobs=at_once, tell=tell, stopped=stopped)


def fleet_status(settings: Settings) -> FleetStatus:
    """What waits, what runs, where and since when.

    Raises
    ------
    InputError
        The settings are not those of a fleet.
    ServerError
        The queue cannot be asked.
    """
    queue = queue_name(settings.repository_url)
    connection = connect(_shared(settings))
    try:
        if connection.value("SELECT to_regclass('opskit_workers') IS NULL"):
            return FleetStatus(queue=queue, workers=(), jobs=())
        workers = connection.rows(_WORKERS, queue)
        jobs = connection.rows(_JOBS, queue)
    finally:
        connection.close()
    return FleetStatus(
        queue=queue,
        workers=tuple(
            WorkerStatus(
                host=host, pid=pid, jobs=at_once, started_at=_utc(begun), heartbeat_at=_utc(alive)
            )
            for host, pid, at_once, begun, alive in workers
        ),
        jobs=tuple(
            JobStatus(
                cluster=cluster,
                period=datetime.fromisoformat(period),
                is_running=is_running,
                since=_utc(since),
                not_before=None if not_before is None else _utc(not_before),
                tries=tries,
                worker=worker,
            )
            for cluster, period, is_running, since, not_before, tries, worker in jobs
        ),
    )


def _shared(settings: Settings) -> str:
    """The queue's URL.

    Raises
    ------
    InputError
        There is no queue, or the catalog cannot be shared.
    """
    hint = "Write url = \"postgresql://role@host/database\" below [catalog]; one host alone has 'opskit schedule run'."
    if settings.catalog_url.startswith("sqlite"):
        raise InputError(
            "a fleet shares its catalog, and this one is an SQLite file",
            ErrorKind.WRONG_SETTING,
            hint,
        )
    if settings.fleet.queue_url is None:
        raise InputError("no queue is configured", ErrorKind.WRONG_SETTING, hint)
    return settings.fleet.queue_url


def _utc(at: datetime) -> datetime:
    return at.astimezone(UTC)


_WORKERS = """
SELECT o.host, o.pid, o.jobs, o.started_at, w.last_heartbeat
  FROM opskit_workers AS o JOIN procrastinate_workers AS w USING (id)
 WHERE o.queue = %s
 ORDER BY o.host, o.pid
"""

_JOBS = """
SELECT j.args ->> 'cluster', j.args ->> 'period', j.status = 'doing',
       coalesce((SELECT max(e.at) FROM procrastinate_events AS e WHERE e.job_id = j.id
          AND e.type = CASE j.status WHEN 'doing' THEN 'started' ELSE 'deferred' END
                       ::procrastinate_job_event_type), now()),
       CASE WHEN j.status = 'todo' AND j.scheduled_at > now() THEN j.scheduled_at END,
       j.attempts, CASE j.status WHEN 'doing' THEN o.host || ':' || o.pid END
  FROM procrastinate_jobs AS j LEFT JOIN opskit_workers AS o ON o.id = j.worker_id
 WHERE j.queue_name = %s AND j.status IN ('todo', 'doing')
 ORDER BY j.status = 'doing' DESC, j.id
"""
