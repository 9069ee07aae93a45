"""A fleet of many clusters: what it costs to know what is due, to put it into the queue, and to take it out again.

The clusters are in a configuration and in a catalog only, and their jobs do nothing: what is measured is the planner
and the queue, on a real PostgreSQL.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from procrastinate import App, PsycopgConnector
from procrastinate.jobs import Job

from bench.contest import Contest, Side
from bench.measure import CommandFailed, Cost
from bench.place import Place
from bench.servers import MEASURED, empty_cluster
from opskit.catalog import Catalog
from opskit.config import Settings, settings_from
from opskit.model.operation import OperationKind
from opskit.planner._fleet import queue_name
from opskit.planner.fleet._queue import TASK, Queue
from opskit.planner.fleet._worker import plan
from opskit.postgres.programs import Programs
from opskit.postgres.server import LocalServer

SLOWEST_PLANNING, SLOWEST_QUEUE, SLOWEST_LOOK = 2.0, 2.0, 0.25
_DAYS = 30
_BATCH = 500
_AT_ONCE = 4
_SHARE_RUN = 5  # one of so many jobs is run: a queue drains in minutes
_TONIGHT = datetime(2026, 11, 22, 4, tzinfo=UTC)  # every cluster has its backup of this night
_TOMORROW = _TONIGHT + timedelta(days=1)  # none has

# The rows lie in the order of time, as they were written: those of one cluster are never side by side.
_HISTORY = """
INSERT INTO opskit_operations (id, kind, cluster, status, host, pid, process, actor, parameters, backup, started_at,
                               heartbeat_at, ended_at, phase, bytes_done, is_entered)
SELECT md5(format('%s %s %s', day, cluster, kind)), kind, 'c' || cluster, 'complete', 'host', 1, '', 'bench',
       CASE kind WHEN 'backup' THEN json_build_object('note', '', 'trigger', 'scheduled', 'scheduled_for', begun)
                 ELSE json_build_object('dry_run', 'false') END,
       to_char(begun, 'YYYYMMDD"T"HH24MISS"Z"'), begun, begun + interval '9 minutes', begun + interval '9 minutes',
       'done', 1000000, true
  FROM generate_series({days} - 1, 0, -1) AS day, generate_series(0, {clusters} - 1) AS cluster,
       unnest(ARRAY['backup', 'expire']) AS kind,
       LATERAL (SELECT timestamptz '2026-11-22 02:00Z' + cluster % 60 * interval '1 minute' - day * interval '1 day'
                       AS begun) AS period;
"""


@dataclass(frozen=True, slots=True)
class Simulated:
    """So many clusters with a history of a month, and the database of their catalog and queue."""

    clusters: int
    settings: Settings
    catalog: Catalog
    url: str
    server: LocalServer

    def empty_queue(self) -> None:
        """Take out of the queue whatever is in it."""
        self.server.query("TRUNCATE procrastinate_jobs CASCADE", "fleet")

    def waiting(self) -> int:
        """How many jobs wait."""
        asked = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo'"
        return int(self.server.query(asked, "fleet").rows[0][0])

    def fill_queue(self, jobs: int) -> None:
        """Put so many jobs in, and have PostgreSQL know it, as after a while it does by itself."""
        within(self, lambda queue: _defer(self, queue, jobs))
        self.server.query("ANALYZE procrastinate_jobs", "fleet")


@contextmanager
def simulated_fleet(place: Place, programs: Programs, clusters: int) -> Iterator[Simulated]:
    """The clusters, each with a backup a night, begun within an hour."""
    home = place.directory / "fleet"
    with empty_cluster(programs, home, place.account, MEASURED) as server:
        server.query("CREATE DATABASE fleet")
        url = f"postgresql://focker@/fleet?host={server.socket_directory}&port={server.port}"
        data = {
            "repository": {"url": (place.directory / "fleet-repository").as_uri()},
            "catalog": {"url": url},
            "clusters": {
                f"c{number}": {"conninfo": "host=nowhere", "schedule": f"{number % 60} 2 * * *"}
                for number in range(clusters)
            },
        }
        settings = settings_from(data)
        catalog = Catalog.open(settings.catalog_url)
        try:
            server.query(_HISTORY.format(days=_DAYS, clusters=clusters), "fleet")
            server.query("VACUUM (FREEZE, ANALYZE)", "fleet")
            simulated = Simulated(clusters, settings, catalog, url, server)
            within(simulated, _nothing)  # makes the queue's tables
            yield simulated
        finally:
            catalog.close()


def look_contest(fleet: Simulated) -> Contest:
    """A turn in which nothing is due, which is nearly every turn."""
    return Contest(
        title=f"Fleet: {fleet.clusters:,} clusters, nothing due",
        note="One turn of the planner, four a minute in the whole fleet: the schedules, one query on the catalog"
        f" ({_DAYS} nights of history), one on the queue. Beside it what it would be to ask for each cluster.",
        weighs_memory=False,
        opskit=Side(name="opskit plans", run=lambda: within(fleet, lambda q: _plan(fleet, q, 0))),
        others=[
            Side(
                name="a query on the catalog for each",
                run=lambda: _timed(lambda: _ask_each(fleet)),
                at_most=SLOWEST_LOOK,
            )
        ],
    )


def planning_contest(fleet: Simulated) -> Contest:
    """A turn in which every cluster is due."""
    return Contest(
        title=f"Fleet: {fleet.clusters:,} clusters, all due",
        note="One turn of the planner that puts a job of each into the queue, beside Procrastinate putting the same"
        f" jobs in, {_BATCH} at a time.",
        weighs_memory=False,
        opskit=Side(
            name="opskit plans all",
            run=lambda: within(fleet, lambda q: _plan(fleet, q, fleet.clusters)),
            clear=fleet.empty_queue,
        ),
        others=[
            Side(
                name="Procrastinate defers",
                run=lambda: within(fleet, lambda q: _defer(fleet, q, fleet.clusters)),
                clear=fleet.empty_queue,
                at_most=SLOWEST_PLANNING,
            )
        ],
    )


def queue_contest(fleet: Simulated) -> Contest:
    """Jobs that do nothing, run by one worker while many more wait."""
    jobs = max(fleet.clusters // _SHARE_RUN, 1)
    contest = Contest(
        title=f"Fleet: {jobs:,} jobs that do nothing",
        note=f"One worker that runs {_AT_ONCE} at once, after the `ANALYZE` that the planner asks for: without it"
        " Procrastinate looks for seconds for each job in a queue of 10,000. opskit counts what runs before each is"
        " fetched (the store's limit), and looks whether it still holds one before that is ended; Procrastinate does"
        " neither.",
        weighs_memory=False,
        opskit=Side(
            name="opskit worker", run=lambda: _drained(fleet, jobs), clear=fleet.empty_queue
        ),
        others=[
            Side(
                name="Procrastinate's worker",
                run=lambda: _drained_plainly(fleet, jobs),
                clear=fleet.empty_queue,
                at_most=SLOWEST_QUEUE,
            )
        ],
    )
    contest.facts = lambda: [
        f"{side}: {jobs / min(cost.seconds for cost in costs.values()):,.0f} jobs a second at best"
        for side, costs in contest.costs.items()
    ]
    return contest


def within(
    fleet: Simulated, work: Callable[[Queue], Awaitable[Any]], store_limit: int | None = None
) -> Cost:
    """What it costs with the queue open: that it is opened is not counted."""

    async def timed() -> Cost:
        queue = Queue(fleet.url, fleet.settings.repository_url, store_limit=store_limit)
        async with queue.opened():
            began, cpu = time.monotonic(), time.process_time()
            await work(queue)
            return _cost(began, cpu)

    return asyncio.run(timed())


async def _plan(fleet: Simulated, queue: Queue, expected: int) -> None:
    now = _TOMORROW if expected else _TONIGHT
    count = await plan(queue, fleet.catalog, fleet.settings, now)
    if count != expected:
        raise CommandFailed(f"{count} clusters were due, not {expected}")


async def _defer(fleet: Simulated, queue: Queue, count: int) -> None:
    jobs = [
        Job(
            queue=queue.name,
            task_name=TASK,
            lock=f"{queue.name}/{name}",
            queueing_lock=f"{queue.name}/{name}",
            task_kwargs={"cluster": name, "period": _TONIGHT.isoformat()},
        )
        for name in list(fleet.settings.clusters)[:count]
    ]
    for start in range(0, len(jobs), _BATCH):
        await queue.app.job_manager.batch_defer_jobs_async(jobs[start : start + _BATCH])


def _drained(fleet: Simulated, jobs: int) -> Cost:
    fleet.fill_queue(jobs)
    cost = within(fleet, lambda queue: _work(queue.app, queue.name), store_limit=_AT_ONCE * 2)
    return _all_done(fleet, cost)


def _drained_plainly(fleet: Simulated, jobs: int) -> Cost:
    fleet.fill_queue(jobs)

    async def timed() -> Cost:
        app = App(connector=PsycopgConnector(conninfo=fleet.url))
        async with app.open_async():
            began, cpu = time.monotonic(), time.process_time()
            await _work(app, queue_name(fleet.settings.repository_url))
            return _cost(began, cpu)

    return _all_done(fleet, asyncio.run(timed()))


async def _work(app: App, queue: str) -> None:
    app.task(name=TASK)(_do_nothing)
    await app.run_worker_async(
        queues=[queue], concurrency=_AT_ONCE, wait=False, install_signal_handlers=False
    )


async def _do_nothing(cluster: str, period: str) -> None:
    pass


async def _nothing(queue: Queue) -> None:
    pass


def _all_done(fleet: Simulated, cost: Cost) -> Cost:
    if left := fleet.waiting():
        raise CommandFailed(f"{left} jobs were left in the queue")
    return cost


def _ask_each(fleet: Simulated) -> None:
    for name in fleet.settings.clusters:
        fleet.catalog.operations(cluster=name, kind=OperationKind.BACKUP, limit=1)


def _timed(work: Callable[[], None]) -> Cost:
    began, cpu = time.monotonic(), time.process_time()
    work()
    return _cost(began, cpu)


def _cost(began: float, cpu: float) -> Cost:
    return Cost(
        seconds=time.monotonic() - began, cpu_seconds=time.process_time() - cpu, peak_bytes=0
    )
