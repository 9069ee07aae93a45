"""The queue of a fleet: jobs are in it once, as many run as may, and only who holds one ends it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest
from procrastinate.jobs import Status

from opskit.config import load_settings
from opskit.errors import ConflictError, ErrorKind
from opskit.planner.fleet._planning import Due, Standing
from opskit.planner.fleet._queue import Queue
from opskit.postgres.connection import connect
from opskit.postgres.server import LocalServer
from tests.support.command import run_command
from tests.support.fleet import YEARLY, shared_url

pytestmark = pytest.mark.parametrize("programs", [18], indirect=True)
REPOSITORY = "file:///srv/opskit"
NOW = datetime(2026, 11, 22, 14, 3, tzinfo=UTC)
_numbers = count(1)

T = TypeVar("T")


@pytest.fixture
def url(shared_server: LocalServer) -> str:
    """A database that nobody has used yet."""
    return shared_url(shared_server, f"queue{next(_numbers)}")


def use(url: str, work: Callable[..., Awaitable[T]], *limits: int | None) -> T:
    """Do something with one queue for each limit, all open at the same time."""
    queues = [Queue(url, REPOSITORY, store_limit=limit) for limit in limits or (None,)]

    async def within(opened: list[Queue]) -> T:
        if len(opened) == len(queues):
            return await work(*opened)
        async with queues[len(opened)].opened():
            return await within([*opened, queues[len(opened)]])

    return asyncio.run(within([]))


def all_due(number: int) -> list[Due]:
    """So many clusters that are due."""
    return [Due(f"c{one}", NOW) for one in range(number)]


def test_two_planners_put_every_cluster_in_once(url: str) -> None:
    """Both at the same time, again and again, until a job runs: then the cluster is put in no more than once again."""

    async def work(one: Queue, other: Queue) -> None:
        for _ in range(3):
            await asyncio.gather(one.defer(all_due(20)), other.defer(all_due(20)))
        jobs = await one.app.job_manager.list_jobs_async(queue=one.name)
        assert sorted(str(job.task_kwargs["cluster"]) for job in jobs) == sorted(
            due.cluster for due in all_due(20)
        )
        assert set((await one.standings()).values()) == {Standing(is_open=True)}

    use(url, work, None, None)


def test_no_more_jobs_run_than_the_store_bears(url: str) -> None:
    """Eight workers that fetch at the same time get three jobs, and one more for each that ends."""

    async def work(queue: Queue, other: Queue) -> None:
        await queue.defer(all_due(10))
        manager, beside = queue.app.job_manager, other.app.job_manager
        workers = [await manager.register_worker() for _ in range(8)]
        fetched = await asyncio.gather(
            *(
                (manager if worker % 2 else beside).fetch_job([queue.name], worker)
                for worker in workers
            )
        )
        jobs = [job for job in fetched if job is not None]
        assert len(jobs) == 3
        await manager.finish_job(jobs[0], Status.SUCCEEDED, False)
        assert await beside.fetch_job([queue.name], workers[0]) is not None
        assert await beside.fetch_job([queue.name], workers[1]) is None

    use(url, work, 3, 3)


def test_a_job_is_ended_by_who_holds_it(url: str) -> None:
    """A worker that was cut off, and comes back when its job is another one's, changes nothing of it."""

    async def work(queue: Queue) -> None:
        await queue.defer(all_due(1))
        manager = queue.app.job_manager
        lost, other = [await manager.register_worker() for _ in range(2)]
        held = await manager.fetch_job([queue.name], lost)
        assert held is not None and await queue.stalled() == []
        async with queue._transaction() as connection:
            await connection.execute("DELETE FROM procrastinate_workers WHERE id = %s", (lost,))
        [stalled] = await queue.stalled()
        assert await queue.free(stalled, None)
        assert not await queue.free(stalled, None)
        again = await manager.fetch_job([queue.name], other)
        assert again is not None and again.id == held.id
        await manager.retry_job(held)
        await manager.finish_job(held, Status.FAILED, False)
        assert await manager.get_job_status_async(held.id or 0) is Status.DOING
        await manager.finish_job(again, Status.SUCCEEDED, False)
        assert (await queue.standings())["c0"] == Standing(served=NOW)

    use(url, work)


def test_a_turn_is_taken_once(url: str) -> None:
    """Of twenty that ask at once one gets it, and the next one when its time has come; the clock may have gone back."""

    async def work(queue: Queue) -> None:
        hour = timedelta(hours=1)
        asked = await asyncio.gather(*(queue.take_turn("plan", hour) for _ in range(20)))
        assert len([at for at in asked if at is not None]) == 1
        assert await queue.take_turn("plan", timedelta(0)) is not None
        async with queue._transaction() as connection:
            await connection.execute("UPDATE opskit_turns SET taken_at = now() + interval '1 day'")
        assert await queue.take_turn("plan", hour) is not None

    use(url, work)


def test_tables_of_another_procrastinate_are_left_alone(url: str, tmp_path: Path) -> None:
    """The worker says what is missing and what to do, and changes nothing."""
    use(url, lambda queue: queue.standings())
    connection = connect(url)
    connection.sql.execute("DROP FUNCTION procrastinate_retry_job_v2, procrastinate_fetch_job_v2")
    with pytest.raises(ConflictError, match="procrastinate_fetch_job_v2") as raised:
        use(url, lambda queue: queue.standings())
    assert raised.value.kind is ErrorKind.UNKNOWN_FORMAT
    file = tmp_path / "opskit.toml"
    file.write_text(
        f'[repository]\nurl = "{REPOSITORY}"\n[catalog]\nurl = "{url}"\n'
        f'[clusters.main]\nconninfo = "service=main"\nschedule = "{YEARLY}"\n',
        encoding="utf-8",
    )
    done = run_command(load_settings(file), "worker")
    assert done.returncode == 4, done.stderr
    assert "HINT: Apply the migrations" in done.stderr
    assert connection.value("SELECT to_regproc('procrastinate_fetch_job_v2') IS NULL")
    connection.close()
