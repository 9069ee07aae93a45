"""A fleet takes every backup that is due once, whichever of its workers is lost."""

import asyncio
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from opskit.cluster import Cluster
from opskit.model.operation import OperationStatus
from opskit.planner import JobStatus
from opskit.planner.fleet._queue import Queue
from opskit.postgres.server import LocalServer
from tests.servers import ServerFactory
from tests.support.backups import assert_free
from tests.support.command import run_command
from tests.support.fleet import Fleet, fleet, fleet_settings, hold_up, lose, shared_url

pytestmark = pytest.mark.parametrize("programs", [18], indirect=True)
SPREAD = 'checkpoint = "spread"\n'


@contextmanager
def in_mid_backup(
    source: LocalServer, scratch: Path
) -> Iterator[tuple[Fleet, "subprocess.Popen[bytes]"]]:
    """A fleet whose one worker backs up its one cluster, ``c0``, and waits there for somebody's checkpoint."""
    url = shared_url(source, "shared")
    settings = fleet_settings(scratch / "opskit", url, {"c0": source}, more=SPREAD)
    hold_up(source)
    with fleet(settings) as running:
        worker = running.start()
        running.wait(lambda: running.is_held_up("c0"), "c0 was not begun", 60)
        yield running, worker


@pytest.mark.parametrize(
    ("clusters", "workers", "impatient"),
    [(3, 2, True), pytest.param(12, 3, False, marks=pytest.mark.sweep)],
)
def test_every_cluster_is_backed_up_once_though_a_worker_is_lost(
    server: ServerFactory, scratch: Path, clusters: int, workers: int, impatient: bool
) -> None:
    """One worker is lost in mid-backup: its job is freed within a minute, and no cluster has two backups, or none."""
    servers = {
        f"c{number}": server(wal_segment_megabytes=1, own_identifier=not impatient)
        for number in range(clusters)
    }
    url = shared_url(servers["c1"], "shared")
    settings = fleet_settings(scratch / "opskit", url, servers, more=SPREAD)
    hold_up(servers["c0"])
    with fleet(settings) as running:
        for _ in range(workers):
            running.start(impatient=impatient)
        running.wait(lambda: running.is_held_up("c0"), "c0 was not begun", 120)
        worker = running.worker_of("c0")
        assert worker is not None
        lost_at = time.monotonic()
        lose(worker)
        running.wait(lambda: running.worker_of("c0") not in (worker, None), "c0 was not freed", 60)
        print(f"freed and begun again after {time.monotonic() - lost_at:.0f} s")
        # the lost one's checkpoint may have ended meanwhile, and then nothing holds this one up
        running.wait(
            lambda: running.is_held_up("c0") or "c0" in running.complete(), "c0 was not begun", 60
        )
        servers["c0"].query("CHECKPOINT")
        running.wait(lambda: running.complete() == set(servers), "not every cluster has one", 300)
        running.wait(lambda: running.job("c0") is None, "the queue still has c0's job", 60)
        left = [one for one in running.workers if one is not worker]
        for one in left:
            one.send_signal(signal.SIGTERM)
        codes = {one.wait(90) for one in left}
        running.assert_once()
    assert codes == ({0} if impatient else {143})
    for name in servers:
        assert len(Cluster(name, settings).repository.backups(name)) == 1


def test_a_stop_ends_the_run_in_order(server: ServerFactory, scratch: Path) -> None:
    """SIGTERM in mid-backup ends it, and puts the job back, for the next worker to begin at once."""
    source = server(wal_segment_megabytes=1)
    with in_mid_backup(source, scratch) as (running, worker):
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
        [stopped] = running.tries()["c0"]
        assert stopped.status is OperationStatus.CANCELLED
        job = running.job("c0")
        assert job is not None and not job.is_running and job.not_before is None
        shown = run_command(running.settings, "worker", "status").stdout
        assert "c0" in shown and "waiting" in shown
        source.query("CHECKPOINT")  # PostgreSQL looks after its client when that has ended
        assert_free(source)


@pytest.mark.sweep
@pytest.mark.parametrize("by", ["procrastinate", "opskit"])
def test_an_abort_ends_the_run_in_order(server: ServerFactory, scratch: Path, by: str) -> None:
    """By Procrastinate or by opskit, the backup is cancelled and leaves nothing, and the worker goes on."""
    source = server(wal_segment_megabytes=1)
    with in_mid_backup(source, scratch) as (running, worker):
        if by == "opskit":
            [going] = running.tries()["c0"]
            running.catalog.request_cancel(going.id)
            running.wait(lambda: is_put_off(running.job("c0")), "it was not put off")
        else:
            settings = running.settings
            assert asyncio.run(abort(settings.fleet.queue_url or "", settings.repository_url))
            running.wait(lambda: running.job("c0") is None, "the job was not aborted")
        assert [one.status for one in running.tries()["c0"]] == [OperationStatus.CANCELLED]
        assert Cluster("c0", running.settings).repository.backups("c0") == []
        source.query("CHECKPOINT")  # PostgreSQL looks after its client when that has ended
        assert_free(source)
        assert worker.poll() is None, "the worker goes on"


def is_put_off(job: JobStatus | None) -> bool:
    """Whether a job waits for the end of a pause."""
    return job is not None and not job.is_running and job.not_before is not None


async def abort(url: str, repository: str) -> bool:
    """Ask by Procrastinate's own means for the end of the only job that runs."""
    queue = Queue(url, repository)
    async with queue.opened():
        [job] = await queue.app.job_manager.list_jobs_async(queue=queue.name, status="doing")
        assert job.id is not None
        return await queue.app.job_manager.cancel_job_by_id_async(job.id, abort=True)


@pytest.mark.sweep
def test_a_worker_that_is_only_cut_off_keeps_its_job(server: ServerFactory, scratch: Path) -> None:
    """A worker shows no sign of life while its backup goes on: the job is not freed before the cluster is."""
    source = server(wal_segment_megabytes=1)
    with in_mid_backup(source, scratch) as (running, cut_off):
        cut_off.send_signal(signal.SIGSTOP)
        running.start()
        running.wait(
            lambda: "its worker is lost, and another backup" in running.said(), "nobody asked", 30
        )
        time.sleep(3)  # several turns of a sweeper
        assert running.worker_of("c0") is cut_off
        source.query("CHECKPOINT")
        running.wait(lambda: "freed, its worker is lost" in running.said(), "c0 was not freed", 60)
        running.wait(lambda: running.job("c0") is None, "nobody took it up", 60)
        cut_off.send_signal(signal.SIGCONT)
        cut_off.send_signal(signal.SIGTERM)
        assert cut_off.wait(60) == 0
        assert "is there for" in running.said()
        running.assert_once()


@pytest.mark.sweep
def test_a_worker_outlives_its_queue(server: ServerFactory, scratch: Path) -> None:
    """Queue and catalog are out of reach in mid-backup: the backup goes on, and the worker comes back."""
    source, other = server(wal_segment_megabytes=1), server(wal_segment_megabytes=1)
    url = shared_url(other, "shared")
    settings = fleet_settings(scratch / "opskit", url, {"c0": source, "c1": other}, more=SPREAD)
    hold_up(source)
    with fleet(settings) as running:
        worker = running.start()
        running.wait(lambda: running.is_held_up("c0"), "c0 was not begun", 60)
        other.query("ALTER DATABASE shared ALLOW_CONNECTIONS false")
        other.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'shared'"
        )
        running.wait(lambda: "the server went away" in running.said(), "nothing is told", 60)
        source.query("CHECKPOINT")
        repository = Cluster("c0", settings).repository
        running.wait(lambda: bool(repository.backups("c0")), "the backup did not go on", 60)
        other.query("ALTER DATABASE shared ALLOW_CONNECTIONS true")
        running.wait(lambda: running.complete() == {"c0", "c1"}, "the worker did not come back", 90)
        running.wait(
            lambda: running.job("c0") is None and running.job("c1") is None,
            "the queue is not empty",
        )
        assert worker.poll() is None
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
        running.assert_once()
        assert "Traceback" not in running.said()
