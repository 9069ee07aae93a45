"""A fleet of real workers on clusters of their own, and what has to hold whichever of them is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

from opskit.catalog import Catalog
from opskit.config import Settings, load_settings
from opskit.model.operation import Operation, OperationKind, OperationStatus
from opskit.planner import JobStatus, fleet_status
from opskit.postgres.server import LocalServer
from opskit.runbooks._processes import descendants
from tests.support.command import PROJECT, command

# Due since the year began, and not again before the next one: whatever runs, it is one period.
YEARLY = "0 0 1 1 *"

# A worker as the command starts it, but one whose loss is noticed within seconds, and which takes the backup itself
# where the other runs the runbook that does.
_IMPATIENT = """
import signal, sys
from pathlib import Path
from opskit.config import load_settings
from opskit.planner.fleet._job import Runner
from opskit.planner.fleet._queue import Queue
from opskit.planner.fleet._worker import Worker
def command(self, runbook, cluster, parameter):
    opskit = [sys.executable, "-m", "opskit", "--config", sys.argv[1]]
    if runbook == "expire_backups":
        return [*opskit, "expire", cluster]
    period = parameter.partition("=")[2]
    return [*opskit, "backup", cluster, "--trigger=scheduled", f"--scheduled-for={period}"]
Runner.command = command
settings, asked = load_settings(Path(sys.argv[1])), []
signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
limit = settings.fleet.store_limit
queue = Queue(settings.fleet.queue_url, settings.repository_url, store_limit=limit, stalled_seconds=2)
Worker(settings, queue, jobs=1, tell=lambda line: print(line, flush=True), stopped=lambda: bool(asked)).run()
"""


def hold_up(server: LocalServer) -> None:
    """Give the spread checkpoint of a backup much to do: it waits until somebody asks for one at once."""
    server.query("CREATE TABLE busy AS SELECT i FROM generate_series(1, 200000) i")


def shared_url(server: LocalServer, database: str) -> str:
    """A new database for a catalog and a queue."""
    server.query(f"CREATE DATABASE {database}")
    return f"postgresql://focker@/{database}?host={server.socket_directory}&port={server.port}"


def fleet_settings(
    directory: Path, url: str, clusters: Mapping[str, LocalServer], *, more: str = ""
) -> Settings:
    """Settings whose clusters are all due, once; `more` stands below the first of them."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "opskit.toml"
    file.write_text(
        f"""
[repository]
url = {json.dumps((directory / "repository").as_uri())}
[catalog]
url = {json.dumps(url)}
""",
        encoding="utf-8",
    )
    with file.open("a", encoding="utf-8") as lines:
        for number, (name, server) in enumerate(clusters.items()):
            lines.write(f"[clusters.{name}]\nconninfo = {json.dumps(server.conninfo())}\n")
            lines.write(f'schedule = "{YEARLY}"\n' + (more if number == 0 else ""))
    return load_settings(file)


class Fleet:
    """Workers that were started, and what they said."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.catalog = Catalog.open(settings.catalog_url)
        self.workers: list[subprocess.Popen[bytes]] = []
        self._log = settings.file.with_name("workers.log") if settings.file else Path()

    def start(self, *options: str, impatient: bool = True) -> "subprocess.Popen[bytes]":
        """One more worker."""
        whole = command(self.settings, "worker", *options)
        if impatient:
            whole = [sys.executable, "-c", _IMPATIENT, str(self.settings.file)]
        with self._log.open("ab") as log:
            worker = subprocess.Popen(
                whole, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.workers.append(worker)
        return worker

    def wait(self, holds: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Wait until it holds; not asked too often, for each question is one to the database."""
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, what
            time.sleep(0.2)

    def said(self) -> str:
        """What all of them said."""
        return self._log.read_text(encoding="utf-8") if self._log.exists() else ""

    def job(self, cluster: str) -> JobStatus | None:
        """The cluster's job, while it runs or waits."""
        return next((j for j in fleet_status(self.settings).jobs if j.cluster == cluster), None)

    def worker_of(self, cluster: str) -> "subprocess.Popen[bytes] | None":
        """The worker that runs the cluster's job."""
        job = self.job(cluster)
        pid = int(job.worker.rpartition(":")[2]) if job is not None and job.worker else None
        return next((worker for worker in self.workers if worker.pid == pid), None)

    def tries(self) -> dict[str, list[Operation]]:
        """Every try at a backup, by cluster, the oldest first."""
        found: defaultdict[str, list[Operation]] = defaultdict(list)
        for operation in reversed(self.catalog.operations(kind=OperationKind.BACKUP)):
            found[operation.cluster].append(operation)
        return found

    def complete(self) -> set[str]:
        """The clusters that have their backup."""
        return {
            name
            for name, tries in self.tries().items()
            if any(one.status is OperationStatus.COMPLETE for one in tries)
        }

    def is_held_up(self, cluster: str) -> bool:
        """Whether a backup of the cluster runs, and waits for the checkpoint (see `hold_up`)."""
        last = self.tries()[cluster][-1:]
        return any(
            one.status is OperationStatus.RUNNING and "checkpoint" in one.progress.phase
            for one in last
        )

    def assert_once(self) -> None:
        """Every cluster has one backup, and no two were taken of it at the same time."""
        tries = self.tries()
        assert set(tries) == set(self.settings.clusters)
        for name, of_cluster in tries.items():
            done = [one for one in of_cluster if one.status is OperationStatus.COMPLETE]
            assert len(done) == 1, f"{name} has {len(done)} backups"
            for before, after in pairwise(of_cluster):
                end = before.ended_at or before.heartbeat_at
                assert after.started_at >= end, f"two backups of {name} at the same time"

    def end(self) -> None:
        """Be rid of what is left of them."""
        self.catalog.close()
        for worker in self.workers:
            with suppress(ProcessLookupError):
                worker.send_signal(signal.SIGCONT)
            if worker.poll() is None:
                lose(worker)


@contextmanager
def fleet(settings: Settings) -> Iterator[Fleet]:
    """A fleet; nothing of it is left."""
    made = Fleet(settings)
    try:
        yield made
    except BaseException:
        print(made.said())
        raise
    finally:
        made.end()


def lose(worker: "subprocess.Popen[bytes]") -> None:
    """As when its host loses its power: the worker and all that it started end at once."""
    below = descendants(worker.pid)
    worker.kill()
    for pid in below:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    worker.wait(20)
