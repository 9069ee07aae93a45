"""A backup that is ended at any moment of its life, by a kill, a signal or a cancellation."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opskit.cluster import Cluster
from opskit.config import Settings
from opskit.errors import Cancelled
from opskit.model.operation import Operation, OperationStatus, Progress
from opskit.operations.monitor import SilentMonitor
from opskit.operations.restore import execute_restore, plan_restore
from opskit.postgres.server import LocalServer
from tests.servers import ServerFactory
from tests.support.backups import assert_free, assert_restores, mark, take
from tests.support.command import interrupted, run_command
from tests.support.majors import newest_first
from tests.support.slowness import crawl

BULK = "CREATE TABLE bulk AS SELECT i, repeat(md5(i::text), 8) AS t FROM generate_series(1, {}) i"
STOPPED = (OperationStatus.CANCELLED, OperationStatus.DIED, OperationStatus.COMPLETE)
KILLS = {15: 4, 16: 4, 17: 4, 18: 8}


class Source:
    """A server of some size and its configured cluster."""

    def __init__(self, server: LocalServer, cluster: Cluster, scratch: Path) -> None:
        self.server, self.cluster, self.scratch = server, cluster, scratch
        self.seconds = 0.0

    def measure(self) -> None:
        """Take a first backup by the command, and note how long it takes."""
        began = time.monotonic()
        done = run_command(self.cluster.settings, "backup", "main")
        assert done.returncode == 0, done.stderr
        self.seconds = time.monotonic() - began

    def listed(self) -> list[str]:
        """The names of the backups."""
        return [backup.name for backup in self.cluster.repository.backups("main")]

    def operations(self) -> list[Operation]:
        """What was done with the cluster, newest first."""
        return self.cluster.catalog.operations(cluster="main")

    def assert_whole(self, name: str) -> None:
        """The backup restores, with every checksum in order."""
        directory = self.scratch / f"check-{name}"
        plan = plan_restore(self.cluster.backup(name), directory)
        execute_restore(plan, self.cluster.repository, SilentMonitor(), owner=None)

    def volumes(self) -> set[str]:
        """The names of everything in the repository that belongs to a backup."""
        root = self.scratch / "opskit/repository"
        return {str(p.relative_to(root)) for p in root.rglob("*/backups/*/*")}

    def unfinished(self) -> list[Path]:
        """What is being written, or was when its writer was killed."""
        return [*(self.scratch / "opskit/repository/.unfinished").iterdir()]


@pytest.fixture
def source(
    server: ServerFactory, settings: Callable[..., Settings], scratch: Path
) -> Iterator[Callable[[int], Source]]:
    """Makes the source of so many rows of bulk."""
    made: list[Cluster] = []

    def make(rows: int) -> Source:
        running = server({"max_wal_size": "256MB"})
        mark(running)
        running.query(BULK.format(rows))
        made.append(Cluster("main", settings(running)))
        return Source(running, made[-1], scratch)

    yield make
    for cluster in made:
        cluster.catalog.close()


@newest_first
def test_killed_at_any_moment(source: Callable[[int], Source], seed: random.Random) -> None:
    """Nothing half-made is listed, neither slot nor lock stays, and the next backup succeeds and restores."""
    main = source(300_000)
    main.measure()
    kills = KILLS[main.server.programs.major]
    for number in range(kills):
        # Spread over the process's whole life, at a random moment of each of its parts.
        moment = main.seconds * (number + seed.random()) / kills
        before = main.listed()
        interrupted(main.cluster.settings, "backup", "main", after=moment, by=signal.SIGKILL)
        for name in set(main.listed()) - set(before):
            main.assert_whole(name)  # killed after its last step
        assert_free(main.server)
        ends = {operation.status for operation in main.operations()}
        assert ends <= set(STOPPED), "a dead backup is said to run"
        assert set(main.cluster.backups()["status"]) <= {"complete", "failed"}
    again = take(main.server, main.cluster.repository)
    assert main.listed()[0] == again.name
    assert_restores(main.server, main.cluster.repository, again, main.scratch / "copy")


@pytest.mark.parametrize(
    ("programs", "by"),
    [(18, signal.SIGTERM), (15, signal.SIGINT)],
    indirect=["programs"],
    ids=["18-SIGTERM", "15-SIGINT"],
)
def test_ended_by_a_signal_at_any_moment(
    source: Callable[[int], Source], seed: random.Random, by: signal.Signals
) -> None:
    """The process ends itself, and leaves no volume, slot or lock behind; one that came too late spoils nothing."""
    main = source(150_000)
    main.measure()
    for number in range(5):
        before, volumes = main.listed(), main.volumes()
        known = len(main.operations())

        def begun(known: int = known) -> bool:
            return len(main.operations()) > known

        # The first as soon as it says that it works, the others within its whole work.
        moment = main.seconds * 0.7 * seed.random() * number / 4
        code = interrupted(main.cluster.settings, "backup", "main", after=moment, by=by, once=begun)
        assert code in (0, 128 + by, -by)
        assert main.unfinished() == []
        last = main.operations()[0]
        new = set(main.listed()) - set(before)
        if new:  # it was complete, only its process was not at its end
            assert (last.status, {last.backup}) == (OperationStatus.COMPLETE, new)
        else:
            assert main.volumes() == volumes
            assert code != 0
        assert_free(main.server)
    ends = {operation.status for operation in main.operations()}
    assert ends == {OperationStatus.CANCELLED, OperationStatus.COMPLETE}


class Impatient:
    """A monitor that asks for the end at a certain call."""

    def __init__(self, at: int) -> None:
        self.calls, self._at = 0, at

    def report(self, progress: Progress) -> None:
        """Count."""
        self._count()

    def check(self) -> None:
        """Count."""
        self._count()

    def _count(self) -> None:
        self.calls += 1
        if self.calls == self._at:
            raise Cancelled("enough")


@pytest.mark.parametrize("programs", [17], indirect=True)
def test_cancelled_at_any_report(source: Callable[[int], Source], seed: random.Random) -> None:
    """A monitor that raises, at whichever call, ends the backup without a trace."""
    main = source(100_000)
    repository = main.cluster.repository
    counting = Impatient(0)
    take(main.server, repository, monitor=counting)
    assert counting.calls > 15
    before, volumes = main.listed(), main.volumes()
    first_and_last = {1, 2, 3, counting.calls - 1}
    for at in sorted({*first_and_last, *seed.choices(range(4, counting.calls - 1), k=8)}):
        try:
            take(main.server, repository, monitor=Impatient(at))
        except Cancelled as raised:
            assert raised.message == "enough"
            assert main.listed() == before, f"call {at}"
            assert main.volumes() == volumes, f"call {at}"
        else:  # a run makes more or fewer reports than the one before, by the pace of the server
            assert at >= counting.calls - 6
            before, volumes = main.listed(), main.volumes()
        assert main.unfinished() == []
        assert_free(main.server)
    again = take(main.server, repository)
    assert_restores(main.server, repository, again, main.scratch / "copy")


@pytest.mark.parametrize("programs", [16], indirect=True)
def test_cancelled_through_the_catalog(source: Callable[[int], Source]) -> None:
    """A request from another process ends a backup within seconds, and is recorded as what it was."""
    main = source(300_000)
    handle = main.cluster.start_backup()
    while handle.progress.phase in ("starting", "connecting"):
        time.sleep(0.01)
    os.kill(handle.refresh().pid, signal.SIGSTOP)  # on a quick machine it would soon be complete
    handle.cancel()
    crawl(main.cluster.catalog, handle.id)
    with pytest.raises(Cancelled):
        handle.wait(timeout=30)
    assert handle.status is OperationStatus.CANCELLED
    assert main.listed() == []
    assert main.volumes() == set()
    assert_free(main.server)


@pytest.mark.parametrize("programs", [18], indirect=True)
def test_a_cancelled_restore_leaves_its_target_as_it_was(
    source: Callable[[int], Source], seed: random.Random
) -> None:
    """A directory that was there is empty again, one that was not is gone, whenever the end was asked for."""
    main = source(100_000)
    repository = main.cluster.repository
    backup = take(main.server, repository)
    counting = Impatient(0)
    execute_restore(plan_restore(backup, main.scratch / "whole"), repository, counting, owner=None)
    there, missing = main.scratch / "there", main.scratch / "missing"
    there.mkdir()
    for at in {1, 2, counting.calls, *seed.choices(range(1, counting.calls), k=4)}:
        for target in (there, missing):
            plan = plan_restore(backup, target)
            try:
                execute_restore(plan, repository, Impatient(at), owner=None)
            except Cancelled:
                assert target.exists() == (target is there)
                assert target is missing or list(there.iterdir()) == []
            else:  # it asked less often than the first time, by the pace of the disk
                assert at > 2
                shutil.rmtree(target)
                there.mkdir(exist_ok=True)
