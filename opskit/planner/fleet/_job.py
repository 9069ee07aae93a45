"""A job: the runbooks of one cluster's due backup, each in a process of its own, and what becomes of the job then."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from procrastinate import BaseRetryStrategy, RetryDecision
from procrastinate.exceptions import JobAborted
from procrastinate.jobs import Job

from opskit.cluster import Cluster
from opskit.config import Settings
from opskit.errors import NotFoundError
from opskit.model.schedule import ScheduleState, ScheduleStatus, pause_after
from opskit.planner._states import cluster_schedule
from opskit.reports.format import format_time

_ELSEWHERE = timedelta(minutes=1)


class Again(Exception):
    """The job goes back into the queue, to be run from a time on; `None` is at once."""

    def __init__(self, at: datetime | None) -> None:
        super().__init__(at)
        self.at = at


class Patience(BaseRetryStrategy):
    """Every job is run until it has succeeded or was aborted; a job that does not say when waits longer each time."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """When the job is run again."""
        if isinstance(exception, Again):
            return RetryDecision(retry_at=exception.at)
        return RetryDecision(retry_at=datetime.now(UTC) + pause_after(job.attempts + 1))


class Runner:
    """Runs jobs until `stop` is set; then what runs is ended in order and filed, and its job goes back.

    Parameters
    ----------
    tell
        Gets a line for everything that is begun and ended.
    """

    def __init__(
        self, settings: Settings, tell: Callable[[str], None], stop: asyncio.Event
    ) -> None:
        self._settings, self._tell, self._stop = settings, tell, stop

    async def run(self, cluster: str, period: str) -> None:
        """Take the cluster's backup, unless it is there, and expire behind it.

        Raises
        ------
        Again
            It failed, or this worker stops.
        JobAborted
            Somebody asked for the end of the job.
        """
        aborted = asyncio.Event()
        work = asyncio.create_task(self._work(cluster, period, aborted))
        while not work.done():
            try:
                await asyncio.wait({work})
            except asyncio.CancelledError:  # Procrastinate's word for an abort
                aborted.set()
        try:
            work.result()
        except (Again, JobAborted):
            raise
        except Exception as error:
            self._tell(f"{cluster}: {getattr(error, 'message', repr(error))}")
            raise

    def command(self, runbook: str, cluster: str, parameter: str) -> list[str]:
        """What a run is started by; `parameter` is ``key=value``."""
        key, _, value = parameter.partition("=")
        opskit = [sys.executable, "-m", "opskit", "--config", str(self._settings.file)]
        return [*opskit, "runbook", "run", runbook, cluster, "-p", key, value]

    async def _work(self, cluster: str, period: str, aborted: asyncio.Event) -> None:
        try:
            state = await asyncio.to_thread(self._state, cluster, period)
        except NotFoundError as error:  # another worker's configuration may be newer
            self._tell(f"{cluster}: {error.message}")
            raise Again(datetime.now(UTC) + _ELSEWHERE) from None
        if state.status is ScheduleStatus.DONE:
            self._tell(f"{cluster}: backup {state.backup} is there for {_time(state)} already")
            return
        self._tell(f"{cluster}: backup for {_time(state)}")
        scheduled_for = f"scheduled_for={state.period.isoformat()}"
        if await self._passes("scheduled_backup", cluster, scheduled_for, aborted):
            if self._settings.cluster(cluster).retention is not None:
                await self._passes("expire_backups", cluster, "dry_run=false", aborted)
            return
        after = await asyncio.to_thread(self._state, cluster, period)
        if after.status is ScheduleStatus.DUE:  # the failure left nothing in the catalog
            after = await asyncio.to_thread(self._state, cluster, period, datetime.now(UTC))
        if after.status is not ScheduleStatus.DONE:  # else somebody else was quicker
            self._tell(f"{cluster}: again from {format_time(after.not_before)} on")
            raise Again(after.not_before)

    def _state(self, cluster: str, period: str, failed_at: datetime | None = None) -> ScheduleState:
        """How the schedule stands, by this host's clock, which may be behind that of who planned."""
        now = max(datetime.now(UTC), datetime.fromisoformat(period))
        main = Cluster(cluster, self._settings)
        try:
            found = cluster_schedule(main, now, () if failed_at is None else (failed_at,))
        finally:
            main.catalog.close()
        if found is None:
            raise NotFoundError(f"cluster {cluster!r} has no schedule here")
        return found.state

    async def _passes(
        self, runbook: str, cluster: str, parameter: str, aborted: asyncio.Event
    ) -> bool:
        """Run a runbook in a process of its own; whether it passed.

        Raises
        ------
        Again
            This worker stops; the run has been ended and filed, or was not begun.
        JobAborted
            The job is aborted; the run has been ended and filed, or was not begun.
        """
        if not (self._stop.is_set() or aborted.is_set()):
            process = await asyncio.create_subprocess_exec(
                *self.command(runbook, cluster, parameter),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C is ours to pass on
            )
            ended = asyncio.create_task(process.wait())
            asked = [asyncio.create_task(event.wait()) for event in (self._stop, aborted)]
            await asyncio.wait({ended, *asked}, return_when=asyncio.FIRST_COMPLETED)
            for one in asked:
                one.cancel()
            if not ended.done():
                with suppress(ProcessLookupError):
                    process.terminate()
            code = await ended
            passed = code == 0
            self._tell(f"{cluster}: {runbook} {'passed' if passed else f'failed ({code})'}")
            if passed:
                return True
        if aborted.is_set():
            raise JobAborted
        if self._stop.is_set():
            raise Again(None)
        return False


def _time(state: ScheduleState) -> str:
    return format_time(state.period)
