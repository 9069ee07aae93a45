"""What every catalog keeps, whatever database is under it: here on SQLite, in ``tests/server`` on PostgreSQL."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from opskit.catalog import Catalog
from opskit.catalog._identity import process_identity, process_is_gone
from opskit.catalog._tables import HEAD
from opskit.errors import ConflictError, ErrorKind, InputError, NotFoundError, StoreError
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


class TestOnSqlite(CatalogSuite):
    """The catalog in a file."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        """A file that does not exist yet, of an odd name."""
        return f"sqlite:///{tmp_path}/ops kit%41.db"

    def test_the_file_is_for_its_owner_only(self, url: str, tmp_path: Path) -> None:
        """Neither the database nor the files beside it can be read by others, whatever the umask."""
        before = os.umask(0)
        try:
            catalog = Catalog.open(url)
            reader = sqlite3.connect(tmp_path / "ops kit%41.db")
            begin(catalog)
            reader.execute("select * from opskit_operations").fetchall()
            modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
            reader.close()
            catalog.close()
        finally:
            os.umask(before)
        assert len(modes) == 3
        assert set(modes.values()) == {0o600}

    def test_reading_goes_on_while_somebody_writes(self, catalog: Catalog, tmp_path: Path) -> None:
        """A writer that is in the middle of its transaction does not hold up readers; other writers wait for it."""
        row = begin(catalog)
        writer = sqlite3.connect(
            tmp_path / "ops kit%41.db", isolation_level=None, check_same_thread=False
        )
        writer.execute("begin immediate")
        assert catalog.get(row.id) == row
        release = threading.Timer(0.5, lambda: writer.execute("commit"))
        release.start()
        began = time.monotonic()
        catalog.update(row.id, Progress(phase="copy"))
        assert time.monotonic() - began > 0.3
        release.join()
        writer.close()


class TestUrls:
    """URLs that cannot be a catalog's, and databases that are none."""

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "opskit.db",
            "sqlite://",
            "sqlite:///:memory:",
            "mysql://host/db",
            "postgresql+asyncpg://h/d",
        ],
    )
    def test_a_wrong_url_is_refused(self, url: str) -> None:
        """What is no file and no PostgreSQL is a wrong setting, with what was expected."""
        with pytest.raises(InputError, match="expected 'sqlite:///file'") as raised:
            Catalog.open(url)
        assert raised.value.kind is ErrorKind.WRONG_SETTING

    def test_a_missing_folder_is_named(self, tmp_path: Path) -> None:
        """A catalog in a folder that does not exist says which, and what to do."""
        with pytest.raises(StoreError, match="no such file") as raised:
            Catalog.open(f"sqlite:///{tmp_path}/missing/opskit.db")
        assert raised.value.kind is ErrorKind.CATALOG_FAILED
        assert raised.value.hint

    def test_a_file_that_is_no_database_is_refused(self, tmp_path: Path) -> None:
        """A file of something else is not touched."""
        file = tmp_path / "opskit.db"
        file.write_text("[repository]\n" * 1000)
        with pytest.raises(StoreError, match="not a database"):
            Catalog.open(f"sqlite:///{file}")
        assert file.read_text() == "[repository]\n" * 1000

    def test_a_newer_catalog_is_refused(self, tmp_path: Path) -> None:
        """A catalog that a newer opskit migrated is left alone."""
        url = f"sqlite:///{tmp_path}/opskit.db"
        Catalog.open(url).close()
        connection = sqlite3.connect(tmp_path / "opskit.db")
        with connection:
            connection.execute("update opskit_catalog_version set version_num = '9999'")
        connection.close()
        with pytest.raises(StoreError, match="'9999'") as raised:
            Catalog.open(url)
        assert raised.value.kind is ErrorKind.UNKNOWN_FORMAT

    def test_a_server_that_is_down_is_told_without_the_password(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No password, wherever it came from, is in the error of a server that does not answer."""
        monkeypatch.setenv("PGPASSWORD", "planted-in-environment")
        with pytest.raises(StoreError) as raised:
            Catalog.open(
                "postgresql://focker:planted-in-url@127.0.0.1:1/ops?password=planted-in-query"
            )
        told = repr(raised.value) + json.dumps(raised.value.as_dict())
        assert raised.value.kind is ErrorKind.CATALOG_FAILED
        assert not raised.value.permanent
        assert "127.0.0.1" in told
        assert "planted" not in told


def test_the_newest_migration_is_the_one_that_the_code_expects() -> None:
    """`HEAD` names the last migration in the package."""
    configuration = Config()
    configuration.set_main_option("script_location", "opskit.catalog:migrations")
    configuration.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(configuration).get_current_head() == HEAD


def test_the_migrations_lead_to_the_tables_that_the_code_uses(tmp_path: Path) -> None:
    """Alembic finds no difference between the migrated database and the tables in the code."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlalchemy import create_engine

    from opskit.catalog._tables import VERSION_TABLE, metadata

    Catalog.open(f"sqlite:///{tmp_path}/opskit.db").close()
    engine = create_engine(f"sqlite:///{tmp_path}/opskit.db")
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True}
        )
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_operations_of_before_the_log_are_not_entered(tmp_path: Path) -> None:
    """A catalog that an older opskit made is migrated; nobody vouches for what had ended by then."""
    from alembic import command
    from sqlalchemy import create_engine

    url = f"sqlite:///{tmp_path}/opskit.db"
    engine = create_engine(url)
    with engine.begin() as connection:
        configuration = Config()
        configuration.set_main_option("script_location", "opskit.catalog:migrations")
        configuration.set_main_option("path_separator", "os")
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "0001")
        connection.execute(
            text(
                "insert into opskit_operations (id, kind, cluster, status, host, pid, process, actor, parameters,"
                " started_at, heartbeat_at, ended_at, phase, bytes_done) values ('old', 'backup', 'main', 'complete',"
                " 'host', 1, '', 'a', '{}', '2026-01-01', '2026-01-01', '2026-01-01', 'end', 0)"
            )
        )
    engine.dispose()
    catalog = Catalog.open(url)
    assert [row.id for row in catalog.operations()] == ["old"]
    row = begin(catalog)
    catalog.finish(row.id, OperationStatus.COMPLETE)
    assert_chain(catalog, [row.id])
    catalog.close()


def test_a_reused_pid_is_not_the_same_process() -> None:
    """A living process of the same pid but another start is not the one that wrote the row."""
    identity = process_identity(os.getpid())
    place, _, start = identity.rpartition(":")
    assert not process_is_gone(os.getpid(), identity)
    assert process_is_gone(os.getpid(), f"{place}:{int(start) - 1}")


def test_a_process_of_another_place_is_never_declared_gone() -> None:
    """Where nobody here can look (another boot, container or system) only the heartbeat decides."""
    for identity in ("", "another-boot:pid:[4026531836]:77"):
        assert not process_is_gone(2**22 + 1, identity)
