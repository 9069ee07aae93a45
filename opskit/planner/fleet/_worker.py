"""A worker: runs jobs of the queue, and takes its turn at what one of all the workers has to do."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta

from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job

from opskit.catalog import Catalog
from opskit.config import Settings
from opskit.errors import OpskitError, ServerError, StoreError
from opskit.evidence.log import open_catalog
from opskit.model.schedule import pause_after
from opskit.planner.fleet._job import Patience, Runner
from opskit.planner.fleet._planning import due, periods
from opskit.planner.fleet._queue import TASK, Queue
from opskit.planner.fleet._sweeping import still_held

_PLAN_EVERY = timedelta(seconds=15)
_STOP_SECONDS = 0.2
_LOOK_SECONDS = (
    2.0  # for what no notification tells of: a turn, a job that was freed, a place in the store
)
_FORGOTTEN_SECONDS = 3600.0  # a worker that was lost: its jobs are freed long before


class Worker:
    """Takes jobs out of the queue and runs them, on any host that sees the repository and reaches the clusters.

    What is due is planned, and the jobs of lost workers are freed, by whichever worker has the turn: no host is needed
    more than the others.

    Parameters
    ----------
    tell
        Gets a line for everything that is begun, ended, or cannot be known.
    stopped
        Asked several times a second; once it is true, what runs is ended in order and filed, and goes back to the
        queue.
    """

    def __init__(
        self,
        settings: Settings,
        queue: Queue,
        *,
        jobs: int,
        tell: Callable[[str], None],
        stopped: Callable[[], bool],
    ) -> None:
        self._settings, self._queue, self._jobs = settings, queue, jobs
        self._tell, self._stopped = tell, stopped
        self._look_seconds = min(_LOOK_SECONDS, queue.stalled_seconds / 8)
        self._stop = asyncio.Event()
        self._troubled: dict[str, str] = {}

    def run(self) -> None:
        """Work until it is stopped. No process that was begun is left.

        Raises
        ------
        ServerError, StoreError
            The queue or the catalog cannot be reached at the start; later that is told and waited for.
        ConflictError
            The queue's tables are those of another Procrastinate.
        """
        catalog = open_catalog(self._settings)
        try:
            with _quiet("procrastinate", "psycopg.pool"):
                asyncio.run(self._run(catalog))
        finally:
            catalog.close()

    async def _run(self, catalog: Catalog) -> None:
        runner = Runner(self._settings, self._tell, self._stop)
        self._queue.app.task(name=TASK, retry=Patience())(runner.run)
        async with self._queue.opened():
            self._tell(f"worker of queue {self._queue.name}, {self._jobs} at once")
            turns = asyncio.create_task(self._turns(catalog))
            watch = asyncio.create_task(self._watch())
            beat = asyncio.create_task(self._beat())  # until the last job has ended
            try:
                while not self._stop.is_set():
                    await self._work()
            finally:
                self._stop.set()
                beat.cancel()
                await asyncio.gather(turns, watch, beat, return_exceptions=True)

    async def _watch(self) -> None:
        while not self._stop.is_set() and not self._stopped():
            await self._wait(_STOP_SECONDS)
        self._stop.set()

    async def _beat(self) -> None:
        while True:
            with suppress(ConnectorException, ServerError):  # it is told by those who wait for it
                await self._queue.beat()
            await asyncio.sleep(self._queue.stalled_seconds / 4)

    async def _work(self) -> None:
        """Run jobs until the stop, or until the queue is lost; then what runs here is run to its end all the same."""
        working = asyncio.create_task(
            self._queue.app.run_worker_async(
                queues=[self._queue.name],
                concurrency=self._jobs,
                fetch_job_polling_interval=self._look_seconds,
                abort_job_polling_interval=self._look_seconds,
                update_heartbeat_interval=self._queue.stalled_seconds / 4,
                stalled_worker_timeout=_FORGOTTEN_SECONDS,
                install_signal_handlers=False,
            )
        )
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not working.done():
            working.cancel()  # fetches no more, and waits for its jobs
        try:
            await working
        except asyncio.CancelledError:
            pass
        except (ConnectorException, OpskitError) as error:
            self._trouble("queue", error)
        if not self._stop.is_set():
            await self._wait(self._look_seconds)

    async def _turns(self, catalog: Catalog) -> None:
        turns: list[tuple[str, timedelta, Callable[[datetime], Awaitable[None]]]] = [
            ("sweep", timedelta(seconds=self._queue.stalled_seconds / 4), self._sweep),
            ("plan", _PLAN_EVERY, lambda now: self._plan(catalog, now)),
        ]
        while not self._stop.is_set():
            for name, every, work in turns:
                try:
                    now = await self._queue.take_turn(name, every)
                    if now is not None:
                        await work(now)
                    self._trouble(name, None)
                except (ConnectorException, ServerError, StoreError) as error:
                    self._trouble(name, error)
            await self._wait(self._look_seconds)

    async def _plan(self, catalog: Catalog, now: datetime) -> None:
        count = await plan(self._queue, catalog, self._settings, now)
        if count:
            self._tell(f"{count} cluster{'s' if count > 1 else ''} due")

    async def _sweep(self, now: datetime) -> None:
        jobs = await self._queue.stalled()
        await asyncio.gather(*(self._look_after(job, now) for job in jobs))

    async def _look_after(self, job: Job, now: datetime) -> None:
        """Free a job whose worker was lost, once its cluster says that nobody backs it up any more."""
        cluster = self._settings.clusters.get(str(job.task_kwargs.get("cluster")))
        if cluster is None:  # somebody else's configuration has it
            return
        held = await asyncio.to_thread(still_held, cluster)
        self._trouble(f"job of {cluster.name}", held and f"its worker is lost, and {held}")
        if held is None:
            # At once; but what takes its workers with it again and again has to wait, too.
            again_at = now + pause_after(job.attempts) if job.attempts else None
            if await self._queue.free(job, again_at):
                self._tell(f"{cluster.name}: freed, its worker is lost")

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    def _trouble(self, what: str, error: Exception | str | None) -> None:
        """Tell what keeps something from being done: once, until it is something else."""
        message = getattr(error, "message", None) or str(error or "")
        if isinstance(error, ConnectorException):
            message = " ".join(str(error.__cause__ or error).split())
        if message and self._troubled.get(what) != message:
            self._tell(f"{what}: {message}")
        self._troubled[what] = message


async def plan(queue: Queue, catalog: Catalog, settings: Settings, now: datetime) -> int:
    """Put what is due at `now` into the queue; how many jobs that made.

    Two queries, however many clusters there are and however long their history is.
    """
    of_clusters = await asyncio.to_thread(periods, settings, now)
    since = {name: begun for name, (begun, _) in of_clusters.items()}
    attempts = await asyncio.to_thread(catalog.attempts, since)
    standings = await queue.standings()
    return await queue.defer(
        due(of_clusters, attempts, standings, now, jitter=settings.scheduler.jitter)
    )


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Keep from the terminal what libraries log of failures that are told, or met, here."""
    silence = logging.NullHandler()
    for name in names:
        logging.getLogger(name).addHandler(silence)
    try:
        yield
    finally:
        for name in names:
            logging.getLogger(name).removeHandler(silence)
