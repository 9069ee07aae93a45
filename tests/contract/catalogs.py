"""The contract of a catalog: what every one keeps, whatever database is under it."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from opskit.catalog import Catalog
from opskit.errors import ConflictError, ErrorKind, NotFoundError
from opskit.model.audit import AuditEntry
from opskit.model.chain import FoundEntry, verify_chain
from opskit.model.operation import Operation, OperationKind, OperationStatus, Progress

PROJECT = Path(__file__).parents[2]


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 14, 3, 5, 250_000, tzinfo=UTC)

    def __call__(self) -> datetime:
        """The time."""
        return self.now


def begin(catalog: Catalog, *, cluster: str = "main", operation_id: str | None = None) -> Operation:
    """Start a backup's operation in this process."""
    return catalog.start(
        kind=OperationKind.BACKUP,
        cluster=cluster,
        parameters={"note": "before\nmigration \N{SNOWMAN}"},
        actor="tester",
        id=operation_id,
    )


def run_python(code: str, *arguments: str) -> "subprocess.Popen[str]":
    """Another process that can import opskit."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=PROJECT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


OPEN_AND_WRITE = """
import sys
from opskit.catalog import Catalog
from opskit.model.operation import OperationKind, OperationStatus, Progress
sys.stdin.close()
catalog = Catalog.open(sys.argv[1])
for _ in range(int(sys.argv[2])):
    row = catalog.start(kind=OperationKind.BACKUP, cluster="main", parameters={}, actor="a")
    catalog.update(row.id, Progress(phase="copy", bytes_done=7))
    catalog.finish(row.id, OperationStatus.COMPLETE)
catalog.close()
"""

OPEN_AND_WAIT = """
import sys, time
from opskit.catalog import Catalog
from opskit.model.operation import OperationKind
catalog = Catalog.open(sys.argv[1])
row = catalog.start(kind=OperationKind.RESTORE, cluster="main", parameters={}, actor="a")
print(row.id, flush=True)
time.sleep(600)
"""


def assert_chain(catalog: Catalog, ids: list[str]) -> list[AuditEntry]:
    """The audit log is one chain, whose entries are of these operations, each once; the entries."""
    found = [FoundEntry.of(one) for one in catalog.audit_entries()]
    assert verify_chain(found).findings == ()
    entries = [one.entry for one in found if one.entry is not None]
    assert sorted(entry.event.operation or "" for entry in entries) == sorted(ids)
    return entries


class CatalogSuite:
    """The contract. A subclass gives the fixture `url`: a database that nobody has used yet."""

    @pytest.fixture
    def catalog(self, url: str) -> Iterator[Catalog]:
        """An open catalog."""
        catalog = Catalog.open(url)
        yield catalog
        catalog.close()

    def test_a_started_operation_reads_as_it_was_written(self, catalog: Catalog) -> None:
        """What was started reads as running, by this host and process, with aware times in UTC."""
        started = begin(catalog)
        read = catalog.get(started.id)
        assert read == started
        assert read.status is OperationStatus.RUNNING
        assert read.kind is OperationKind.BACKUP
        assert read.pid == os.getpid()
        assert read.parameters == {"note": "before\nmigration \N{SNOWMAN}"}
        assert read.started_at.tzinfo is UTC
        assert abs(read.started_at - datetime.now(UTC)) < timedelta(seconds=30)
        assert read.progress == Progress(phase="starting")
        assert (read.backup, read.ended_at, read.result, read.error) == (None, None, None, None)

    def test_updates_show_the_last_progress(self, catalog: Catalog) -> None:
        """The last update is what others read, and a backup's name stays once it is known."""
        row = begin(catalog)
        large = Progress(phase="copy", bytes_done=2**40, bytes_expected=2**41)
        assert catalog.update(row.id, large, backup="20261122T140305Z") is False
        assert catalog.update(row.id, Progress(phase="\0sync\udc80")) is False
        read = catalog.get(row.id)
        assert read.progress == Progress(phase="sync?")
        assert read.backup == "20261122T140305Z"
        assert read.heartbeat_at >= row.heartbeat_at

    def test_an_end_is_written_once(self, catalog: Catalog) -> None:
        """A finished operation keeps its outcome, whatever is written to it later."""
        row = begin(catalog)
        error = {"error": "ServerError", "kind": "server gone", "message": "é 'x'", "hint": ""}
        catalog.finish(row.id, OperationStatus.FAILED, error=error, result={"bytes": 2**40})
        catalog.finish(row.id, OperationStatus.COMPLETE)
        catalog.request_cancel(row.id)
        assert catalog.update(row.id, Progress(phase="late", bytes_done=9)) is False
        read = catalog.get(row.id)
        assert read.status is OperationStatus.FAILED
        assert read.error == error
        assert read.result == {"bytes": 2**40}
        assert read.ended_at is not None
        assert read.cancel_requested_at is None
        assert read.progress.phase == "starting"

    def test_died_is_never_written(self, catalog: Catalog) -> None:
        """Only a process that still lives can write an end, so none of them is 'died'."""
        row = begin(catalog)
        with pytest.raises(ValueError, match="died"):
            catalog.finish(row.id, OperationStatus.DIED)

    def test_a_cancel_request_reaches_the_worker(self, catalog: Catalog, url: str) -> None:
        """A request made by somebody else is what the worker's next update returns."""
        row = begin(catalog)
        other = Catalog.open(url)
        other.request_cancel(row.id)
        first = other.get(row.id).cancel_requested_at
        other.request_cancel(row.id)
        other.close()
        assert catalog.update(row.id, Progress(phase="copy")) is True
        assert first is not None
        assert catalog.get(row.id).cancel_requested_at == first

    def test_an_unknown_operation_is_not_found(self, catalog: Catalog) -> None:
        """Asking for an operation that nobody started says so, in reading and in cancelling."""
        for ask in (catalog.get, catalog.request_cancel):
            with pytest.raises(NotFoundError, match="'nothing'") as raised:
                ask("nothing")
            assert raised.value.kind is ErrorKind.OPERATION_NOT_FOUND

    def test_an_id_is_used_once(self, catalog: Catalog) -> None:
        """A second operation with the same id is refused and the first one stays."""
        row = begin(catalog, operation_id=uuid.UUID(int=7).hex)
        with pytest.raises(ConflictError):
            begin(catalog, operation_id=row.id, cluster="other")
        assert catalog.get(row.id).cluster == "main"

    def test_operations_come_newest_first_and_filtered(self, url: str) -> None:
        """The list is in the order of the starts, also when the clock went back between them."""
        clock = Clock()
        catalog = Catalog.open(url, clock=clock)
        first = begin(catalog)
        clock.now -= timedelta(hours=2)
        second = begin(catalog, cluster="other")
        third = catalog.start(
            kind=OperationKind.RESTORE, cluster="main", parameters={}, actor="tester"
        )
        ids = [third.id, second.id, first.id]
        assert [row.id for row in catalog.operations()] == ids
        assert [row.id for row in catalog.operations(cluster="main")] == [third.id, first.id]
        assert [row.id for row in catalog.operations(kind=OperationKind.BACKUP)] == ids[1:]
        assert [row.id for row in catalog.operations(limit=1)] == ids[:1]
        assert catalog.operations(cluster="none") == []
        catalog.close()

    def test_an_old_heartbeat_reads_as_died(self, url: str) -> None:
        """A minute without a word reads as died, and the worker's next word as running again."""
        clock = Clock()
        catalog = Catalog.open(url, clock=clock)
        row = begin(catalog)
        clock.now += timedelta(seconds=60)
        assert catalog.get(row.id).status is OperationStatus.RUNNING
        clock.now += timedelta(seconds=1)
        assert catalog.get(row.id).status is OperationStatus.DIED
        catalog.update(row.id, Progress(phase="copy"))
        assert catalog.get(row.id).status is OperationStatus.RUNNING
        catalog.close()

    def test_a_clock_that_went_back_keeps_nothing_running_for_ever(self, url: str) -> None:
        """A heartbeat from the future is as dead as an old one, and the next word puts it right."""
        clock = Clock()
        catalog = Catalog.open(url, clock=clock)
        row = begin(catalog)
        clock.now -= timedelta(days=1)
        assert catalog.get(row.id).status is OperationStatus.DIED
        assert catalog.update(row.id, Progress(phase="copy")) is False
        assert catalog.get(row.id).status is OperationStatus.RUNNING
        catalog.finish(row.id, OperationStatus.COMPLETE)
        assert catalog.get(row.id).status is OperationStatus.COMPLETE
        catalog.close()

    def test_a_killed_process_reads_as_died_at_once(self, catalog: Catalog, url: str) -> None:
        """SIGKILL of the worker shows in the next reading, before anybody reaped the process and after."""
        worker = run_python(OPEN_AND_WAIT, url)
        assert worker.stdout is not None
        started = worker.stdout.readline().strip()
        assert catalog.get(started).status is OperationStatus.RUNNING
        worker.kill()
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
        assert catalog.get(started).status is OperationStatus.DIED
        worker.communicate()
        assert catalog.get(started).status is OperationStatus.DIED
        assert catalog.operations()[0].status is OperationStatus.DIED

    def test_two_processes_may_open_a_new_catalog_at_once(self, url: str) -> None:
        """Several processes that create the same catalog all succeed, and no write of theirs is lost."""
        workers = [run_python(OPEN_AND_WRITE, url, "5") for _ in range(4)]
        for worker in workers:
            _, errors = worker.communicate(timeout=120)
            assert (worker.returncode, errors) == (0, "")
        catalog = Catalog.open(url)
        rows = catalog.operations()
        assert len(rows) == 20
        assert {row.status for row in rows} == {OperationStatus.COMPLETE}
        assert {row.progress.bytes_done for row in rows} == {7}
        assert_chain(catalog, [row.id for row in rows])
        catalog.close()

    def test_what_ended_is_entered_once(self, catalog: Catalog, url: str) -> None:
        """Ends are entered when they happen; a death by whoever ends next, and not as long as the process lives."""
        worker = run_python(OPEN_AND_WAIT, url)
        assert worker.stdout is not None
        killed = worker.stdout.readline().strip()
        rows = [begin(catalog) for _ in range(3)]
        catalog.finish(rows[0].id, OperationStatus.FAILED, backup="b1")
        assert_chain(catalog, [rows[0].id])
        worker.kill()
        worker.communicate()
        assert catalog.not_entered() == [killed]
        catalog.finish(rows[1].id, OperationStatus.CANCELLED)
        catalog.finish(rows[1].id, OperationStatus.COMPLETE)
        entries = assert_chain(catalog, [rows[0].id, killed, rows[1].id])
        outcomes = [entry.event.outcome for entry in entries]
        assert outcomes == ["failed", "died", "cancelled"]
        assert entries[0].event.backup == "b1"
        assert entries[0].event.parameters == rows[0].parameters
        assert catalog.not_entered() == []

    def test_entries_are_neither_changed_nor_removed(self, catalog: Catalog) -> None:
        """The database itself refuses it."""
        catalog.finish(begin(catalog).id, OperationStatus.COMPLETE)
        before = catalog.audit_entries()
        for statement in ("update opskit_audit set entry = '{}'", "delete from opskit_audit"):
            with (
                pytest.raises(DBAPIError, match="neither changed nor removed"),
                catalog._engine.begin() as connection,
            ):
                connection.execute(text(statement))
        assert catalog.audit_entries() == before

    def test_threads_may_share_a_catalog(self, catalog: Catalog) -> None:
        """Writers and readers in several threads of one process do not disturb each other."""

        def work(_: int) -> str:
            row = begin(catalog)
            for done in range(10):
                catalog.update(row.id, Progress(phase="copy", bytes_done=done))
                catalog.operations(limit=5)
            catalog.finish(row.id, OperationStatus.COMPLETE)
            return row.id

        with ThreadPoolExecutor(8) as pool:
            ids = set(pool.map(work, range(16)))
        rows = catalog.operations()
        assert {row.id for row in rows} == ids
        assert {row.status for row in rows} == {OperationStatus.COMPLETE}

    def test_an_open_catalog_can_be_opened_again(self, catalog: Catalog, url: str) -> None:
        """Opening changes nothing that is there."""
        row = begin(catalog)
        again = Catalog.open(url)
        assert again.get(row.id) == catalog.get(row.id)
        again.close()
