"""The queue: Procrastinate's tables in PostgreSQL, what opskit puts into them, and who takes it out.

Knows jobs, workers and turns; does not know what a job does, nor what is due. Procrastinate is told what it leaves
open: how many jobs may run into one store at once, and that a job is ended only by the worker that still holds it.
"""

import os
import socket
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager
from procrastinate.sql import queries

from opskit.planner._fleet import queue_name
from opskit.planner.fleet._planning import Due, Standing
from opskit.planner.fleet._schema import ensure_schema
from opskit.postgres.connection import SERVER_KEEPALIVES, connect, server_errors

TASK = "opskit.scheduled_backup"
_STALLED_SECONDS = 20.0
_AT_ONCE = 500
_MANY = 50
_LIMIT_LOCK = (
    0x6F70736B  # "opsk", the first half of a two-part advisory lock; the second is the queue's name
)

_CONNECTION = {
    "application_name": "opskit worker",
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "options": " ".join(f"-c {key}={value}" for key, value in SERVER_KEEPALIVES.items()),
}


class Queue:
    """The queue of one repository; opened and used within one event loop.

    Every method raises `ServerError` when the database fails.

    Parameters
    ----------
    store_limit
        How many jobs run at once, over all workers; `None` sets no limit.
    jobs
        How many this worker runs at once.
    stalled_seconds
        After so long without a sign of life from its worker, a job's cluster is asked whether it is still backed up.
    """

    def __init__(
        self,
        url: str,
        repository_url: str,
        *,
        store_limit: int | None = None,
        jobs: int = 1,
        stalled_seconds: float = _STALLED_SECONDS,
    ) -> None:
        self.stalled_seconds = stalled_seconds
        self.name = queue_name(repository_url)
        self._url = url
        self._connector = PsycopgConnector(
            conninfo=url, min_size=1, max_size=4 + jobs, timeout=10, kwargs=_CONNECTION
        )
        self.app = App(connector=self._connector)
        self._jobs = _Jobs(self._connector, self.name, store_limit, jobs)
        self.app.job_manager = self._jobs

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """The queue while it can be used; its tables are made if they are not there.

        Raises
        ------
        InputError
            The URL cannot be used.
        ConflictError
            The tables are not those of the Procrastinate that is installed.
        """
        connect(self._url).close()  # its errors say what to do
        with server_errors():
            async with self.app.open_async():
                async with self._connector.pool.connection() as connection:
                    await ensure_schema(connection)
                yield

    async def take_turn(self, turn: str, every: timedelta) -> datetime | None:
        """Take the turn, if nobody has taken it for so long: the database's time, or `None`."""
        rows = await self._rows(
            "INSERT INTO opskit_turns AS turns (queue, turn, taken_at)"
            " SELECT %(queue)s, %(turn)s, now() WHERE NOT EXISTS ("
            "  SELECT FROM opskit_turns WHERE queue = %(queue)s AND turn = %(turn)s"
            "  AND taken_at BETWEEN now() - %(every)s AND now() + %(every)s)"
            " ON CONFLICT (queue, turn) DO UPDATE SET taken_at = excluded.taken_at"
            # once more, with the row locked; a time far ahead was taken before the clock went back
            " WHERE turns.taken_at NOT BETWEEN now() - %(every)s AND now() + %(every)s"
            " RETURNING taken_at",
            {"queue": self.name, "turn": turn, "every": every},
        )
        return rows[0][0].astimezone(UTC) if rows else None

    async def standings(self) -> dict[str, Standing]:
        """What the queue holds of each cluster that it holds anything of."""
        found: dict[str, Standing] = {}
        rows = await self._rows(
            "SELECT args ->> 'cluster', args ->> 'period', status::text FROM procrastinate_jobs"
            " WHERE queue_name = %(queue)s AND task_name = %(task)s"
            " AND status IN ('todo', 'doing', 'succeeded')",
            {"queue": self.name, "task": TASK},
        )
        for cluster, period, status in rows:
            before = found.get(cluster, Standing())
            served = before.served
            if status == Status.SUCCEEDED.value:
                at = datetime.fromisoformat(period)
                served = at if served is None else max(at, served)
            is_open = before.is_open or status != Status.SUCCEEDED.value
            found[cluster] = Standing(is_open=is_open, served=served)
        return found

    async def defer(self, due: Iterable[Due]) -> int:
        """Put jobs into the queue, and remove those of the same clusters that have ended; how many were put in.

        Those that somebody else put in meanwhile are in it once.
        """
        waiting = list(due)
        count = 0
        for start in range(0, len(waiting), _AT_ONCE):
            batch = [self._job(one) for one in waiting[start : start + _AT_ONCE]]
            try:
                await self._put(batch)
            except AlreadyEnqueued:
                continue  # another planner is at it, and whoever has the next turn sees what was left out
            count += len(batch)
        if count >= _MANY:
            # Or PostgreSQL takes the table for small until autovacuum has seen it, and who fetches a job compares each
            # with all others: seconds for every job, where it is a millisecond.
            async with self._transaction() as connection:
                await connection.execute("ANALYZE procrastinate_jobs")
        return count

    def _job(self, due: Due) -> Job:
        lock = f"{self.name}/{due.cluster}"
        return Job(
            queue=self.name,
            task_name=TASK,
            lock=lock,
            queueing_lock=lock,
            task_kwargs={"cluster": due.cluster, "period": due.period.isoformat()},
        )

    async def _put(self, batch: Sequence[Job]) -> None:
        async with self._transaction() as connection:
            await connection.execute(
                "DELETE FROM procrastinate_jobs WHERE queue_name = %s AND lock = ANY(%s)"
                " AND status NOT IN ('todo', 'doing')",
                (self.name, [job.lock for job in batch]),
            )
            await self._jobs.batch_defer_jobs_async(list(batch), connection)

    async def beat(self) -> None:
        """Give the sign of life of the worker that was registered last, also while it only waits for its jobs' end.

        Procrastinate's own ends when a worker begins to stop, and with the first that the database does not take.
        """
        if self._jobs.worker is not None:
            with server_errors():
                await self._jobs.update_heartbeat(self._jobs.worker)

    async def stalled(self) -> list[Job]:
        """The jobs that run nowhere any more, as far as the queue can tell: their workers show no sign of life."""
        with server_errors():
            found = await self._jobs.get_stalled_jobs(
                queue=self.name, seconds_since_heartbeat=self.stalled_seconds
            )
        return list(found)

    async def free(self, job: Job, again_at: datetime | None) -> bool:
        """Let a stalled job be run again; false when somebody has done that already, or its worker has ended it."""
        return await self._jobs.give_back(job, again_at)

    async def _rows(self, query: Any, values: Mapping[str, object]) -> list[Any]:
        async with self._transaction() as connection:
            return list(await (await connection.execute(query, values)).fetchall())

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Any]:
        with server_errors():
            async with self._connector.pool.connection() as connection:
                yield connection


class _Jobs(JobManager):
    """Procrastinate's manager of jobs, where it has to know more."""

    def __init__(
        self, connector: PsycopgConnector, queue: str, store_limit: int | None, jobs: int
    ) -> None:
        super().__init__(connector)
        self._pool_of, self._queue = connector, queue
        self._store_limit, self._at_once = store_limit, jobs
        self.worker: int | None = None

    async def register_worker(self) -> int:
        """As Procrastinate does, and note where the worker is."""
        worker = await super().register_worker()
        async with self._pool_of.pool.connection() as connection:
            await connection.execute(
                "INSERT INTO opskit_workers (id, queue, host, pid, jobs) VALUES (%s, %s, %s, %s, %s)",
                (worker, self._queue, socket.gethostname(), os.getpid(), self._at_once),
            )
        self.worker = worker
        return worker

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """As Procrastinate does, unless as many jobs run as may.

        A job counts until it is ended or freed, so that one whose worker was lost has its place as long as it may run.
        """
        if self._store_limit is None:
            return await super().fetch_job(queues, worker_id)
        async with self._pool_of.pool.connection() as connection:
            # Two statements in one message: the second one's snapshot is taken when the lock is held.
            async with connection.pipeline():
                await connection.execute(
                    "SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_LIMIT_LOCK, self._queue)
                )
                cursor = await connection.execute(
                    "SELECT count(*) FROM procrastinate_jobs"
                    " WHERE status = 'doing' AND queue_name = %s",
                    (self._queue,),
                )
                row = await cursor.fetchone()
            if row is not None and row[0] >= self._store_limit:
                return None
            found = await self._pool_of.execute_query_one_async_with_connection(
                connection, queries["fetch_job"], queues=queues, worker_id=worker_id
            )
        return None if found["id"] is None else Job.from_row(found)

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        """As Procrastinate does, unless the job is somebody else's by now: the queue was out of reach for long."""
        await self._if_held(
            job,
            "SELECT procrastinate_finish_job_v1(id, %(status)s, %(delete)s) FROM held",
            {"status": status.value, "delete": delete_job},
        )

    async def retry_job(
        self,
        job: Job,
        retry_at: datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
    ) -> None:
        """As `finish_job`. Neither priority, queue nor lock of a job of ours ever changes."""
        await self.give_back(job, retry_at)

    async def give_back(self, job: Job, again_at: datetime | None) -> bool:
        """Put the job back into the queue, if it is held by the worker that `job` says; whether it was."""
        return await self._if_held(
            job,
            "SELECT procrastinate_retry_job_v2(id, %(at)s, NULL, NULL, NULL) FROM held",
            {"at": again_at},
        )

    async def _if_held(self, job: Job, change: Any, values: Mapping[str, object]) -> bool:
        """Have a function of Procrastinate change the job, once it is locked and held by its worker."""
        # no worker: its row was removed, for it had shown no sign of life
        held = (
            "WITH held AS MATERIALIZED (SELECT id FROM procrastinate_jobs WHERE id = %(id)s AND status = 'doing'"
            " AND (worker_id = %(worker)s OR worker_id IS NULL) FOR UPDATE) "
        )
        with server_errors():
            async with self._pool_of.pool.connection() as connection:
                cursor = await connection.execute(
                    held + change, {"id": job.id, "worker": job.worker_id, **values}
                )
                return cursor.rowcount == 1
