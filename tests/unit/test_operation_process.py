"""Operations recorded and run in other processes, on a catalog in a file."""

import gc
import os
import sqlite3
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from opskit.catalog import Catalog
from opskit.config import settings_from
from opskit.errors import (
    Cancelled,
    ErrorKind,
    InputError,
    NotFoundError,
    OpskitError,
    ServerError,
    StoreError,
)
from opskit.model.operation import Operation, OperationKind, OperationStatus, Progress
from opskit.operations.monitor import Monitor
from opskit.operations.process import OperationHandle, _Child, start_process
from opskit.operations.recorder import Recorder, recorded

PRELUDE = """
import os, signal, sys, time
from opskit.catalog import Catalog
from opskit.errors import ErrorKind, ServerError
from opskit.model.operation import OperationKind, Progress
from opskit.operations.recorder import recorded
catalog = Catalog.open(sys.argv[1])
row = {"kind": OperationKind.BACKUP, "cluster": "main", "parameters": {}, "actor": "a", "id": sys.argv[2]}
with recorded(lambda: catalog, **row) as recorder:
    signal.signal(signal.SIGTERM, lambda number, frame: recorder.cancel())
    recorder.report(Progress(phase="copy", bytes_done=5, bytes_expected=10))
"""
WORK = "    recorder.result = {'backup': 'b'}\n"
WORK_FOR_EVER = "    while True:\n        recorder.check()\n        time.sleep(0.02)\n"
FAIL = (
    "    raise ServerError('server gone at \\'x\\'', ErrorKind.SERVER_GONE, 'Look at its log.')\n"
)
DIE = "    print('last word', flush=True)\n    os.kill(os.getpid(), signal.SIGKILL)\n"


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """A new catalog."""
    catalog = Catalog.open(f"sqlite:///{tmp_path}/opskit.db")
    yield catalog
    catalog.close()


@pytest.fixture
def run(catalog: Catalog, tmp_path: Path) -> Iterator[Callable[..., OperationHandle]]:
    """Start Python code as an operation's process, and end what is still there at the end."""
    children: list[_Child] = []

    def start(code: str, detached: bool = False) -> OperationHandle:
        operation_id = uuid.uuid4().hex
        command = [sys.executable, "-c", code, f"sqlite:///{tmp_path}/opskit.db", operation_id]
        child = _Child(command, detached)
        children.append(child)
        now = datetime.now(UTC)
        expected = Operation(
            id=operation_id,
            kind=OperationKind.BACKUP,
            cluster="main",
            status=OperationStatus.RUNNING,
            host="here",
            pid=child.pid,
            actor="",
            started_at=now,
            heartbeat_at=now,
            progress=Progress(phase="starting"),
        )
        return OperationHandle(catalog, operation_id, child=child, expected=expected)

    yield start
    for child in children:
        child._process.kill()
    wait_until(lambda: all(child.exit_code is not None for child in children))


def wait_until(holds: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something that another process or thread brings about."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def backup_recorded(
    catalog: Catalog,
    monitor: Monitor | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> AbstractContextManager[Recorder]:
    """`recorded`, as a backup would call it."""
    return recorded(
        lambda: catalog,
        kind=OperationKind.BACKUP,
        cluster="main",
        parameters={"note": "n"},
        actor="me",
        monitor=monitor,
        watch=watch,
    )


def test_a_normal_end_is_complete_with_result_and_backup(catalog: Catalog) -> None:
    """What the operation told last is in the row, and its estimate of the bytes became the truth."""
    with backup_recorded(catalog) as recorder:
        assert catalog.get(recorder.operation_id).status is OperationStatus.RUNNING
        recorder.report(Progress(phase="sync", bytes_done=90, bytes_expected=100))
        recorder.backup = "20261122T140305Z"
        recorder.result = {"backup": "20261122T140305Z"}
    row = catalog.get(recorder.operation_id)
    assert row.status is OperationStatus.COMPLETE
    assert row.progress == Progress(phase="sync", bytes_done=90, bytes_expected=90)
    assert row.backup == "20261122T140305Z"
    assert row.result == {"backup": "20261122T140305Z"}
    assert row.error is None
    assert row.parameters == {"note": "n"}


@pytest.mark.parametrize(
    ("raised", "status", "kind"),
    [
        (ServerError("gone", ErrorKind.SERVER_GONE), OperationStatus.FAILED, "server gone"),
        (Cancelled("the end"), OperationStatus.CANCELLED, "cancelled"),
        (KeyboardInterrupt(), OperationStatus.CANCELLED, None),
        (KeyError("password=planted"), OperationStatus.FAILED, "unexpected"),
    ],
)
def test_an_exception_passes_and_is_recorded(
    catalog: Catalog, raised: BaseException, status: OperationStatus, kind: str | None
) -> None:
    """Each exception leaves the block as it is and the row tells it, without what an unknown one may quote."""
    with pytest.raises(type(raised)) as seen, backup_recorded(catalog) as recorder:
        raise raised
    assert seen.value is raised
    row = catalog.get(recorder.operation_id)
    assert row.status is status
    assert (row.error or {}).get("kind") == kind
    assert "planted" not in str(row)


def test_a_cancel_request_ends_the_operation_within_seconds(catalog: Catalog) -> None:
    """A request in the catalog makes `check` raise, and the row says cancelled."""
    with pytest.raises(Cancelled), backup_recorded(catalog) as recorder:
        catalog.request_cancel(recorder.operation_id)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            recorder.check()
            time.sleep(0.01)
    assert catalog.get(recorder.operation_id).status is OperationStatus.CANCELLED


def test_an_inner_monitor_hears_all_and_may_end_it(catalog: Catalog) -> None:
    """Who started the operation gets every report and can ask for the end without the catalog."""

    class Inner:
        def __init__(self) -> None:
            self.seen: list[int] = []

        def report(self, progress: Progress) -> None:
            self.seen.append(progress.bytes_done)

        def check(self) -> None:
            if len(self.seen) == 3:
                raise Cancelled("enough")

    inner = Inner()
    with pytest.raises(Cancelled, match="enough"), backup_recorded(catalog, inner) as recorder:
        for done in range(10):
            recorder.check()
            recorder.report(Progress(phase="copy", bytes_done=done))
    assert inner.seen == [0, 1, 2]


def test_a_watcher_sees_the_progress_and_cannot_break_the_operation(catalog: Catalog) -> None:
    """A watcher that fails is left out, and the operation completes."""
    seen: list[Progress] = []

    def watch(progress: Progress) -> None:
        seen.append(progress)
        raise ValueError("the terminal is gone")

    with backup_recorded(catalog, watch=watch) as recorder:
        recorder.report(Progress(phase="copy", bytes_done=1))
        wait_until(lambda: bool(seen))
        time.sleep(0.5)
    assert seen == [Progress(phase="copy", bytes_done=1)]
    assert catalog.get(recorder.operation_id).status is OperationStatus.COMPLETE


def test_a_catalog_that_fails_later_does_not_fail_the_operation(tmp_path: Path) -> None:
    """An operation whose catalog is destroyed while it runs ends as if nothing were."""
    catalog = Catalog.open(f"sqlite:///{tmp_path}/opskit.db")
    done = False
    with backup_recorded(catalog) as recorder:
        (tmp_path / "opskit.db").write_bytes(b"no database" * 1000)
        time.sleep(1.2)
        recorder.check()
        done = True
    assert done


def test_an_operation_runs_without_a_catalog(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no row can be written the operation goes on and a warning says so, unless somebody waits for the row."""

    def unreachable() -> Catalog:
        return Catalog.open(f"sqlite:///{tmp_path}/missing/opskit.db")

    def restore(operation_id: str | None) -> AbstractContextManager[Recorder]:
        return recorded(
            unreachable,
            kind=OperationKind.RESTORE,
            cluster="main",
            parameters={},
            actor="me",
            id=operation_id,
        )

    with restore(None) as recorder:
        recorder.report(Progress(phase="copy"))
        recorder.check()
    assert "the restore is not recorded" in caplog.text
    with pytest.raises(StoreError), restore(uuid.uuid4().hex):
        pass


def test_no_thread_is_left(catalog: Catalog) -> None:
    """The recorder's thread ends with the block."""
    before = set(threading.enumerate())
    with backup_recorded(catalog):
        assert set(threading.enumerate()) > before
    assert set(threading.enumerate()) == before


Run = Callable[..., OperationHandle]


def test_a_process_is_waited_for(run: Run) -> None:
    """A handle shows the operation from its start on, and gives its result."""
    handle = run(PRELUDE + WORK)
    assert handle.refresh().status in (OperationStatus.RUNNING, OperationStatus.COMPLETE)
    seen: list[Progress] = []
    operation = handle.wait(60, watch=seen.append)
    assert operation.status is OperationStatus.COMPLETE
    assert operation.result == {"backup": "b"}
    assert seen[-1].bytes_done == handle.progress.bytes_done == 5


def test_its_error_is_raised_by_the_one_who_waits(run: Run) -> None:
    """The error of the other process arrives with its class, kind, message and hint."""
    with pytest.raises(ServerError, match="server gone at 'x'") as raised:
        run(PRELUDE + FAIL).wait(60)
    assert raised.value.kind is ErrorKind.SERVER_GONE
    assert raised.value.hint == "Look at its log."


@pytest.mark.parametrize("detached", [False, True])
def test_a_process_is_cancelled(run: Run, catalog: Catalog, detached: bool) -> None:
    """Cancel ends a running operation, wherever its session is; asking twice does no harm."""
    handle = run(PRELUDE + WORK_FOR_EVER, detached)
    wait_until(lambda: handle.progress.phase == "copy")
    assert handle.wait(0.1).status is OperationStatus.RUNNING
    handle.cancel()
    handle.cancel()
    with pytest.raises(Cancelled):
        handle.wait(60)
    assert handle.status is OperationStatus.CANCELLED


def test_somebody_else_can_cancel_it(run: Run, catalog: Catalog) -> None:
    """A handle made from the id alone reaches the operation through the catalog."""
    handle = run(PRELUDE + WORK_FOR_EVER)
    wait_until(lambda: handle.progress.phase == "copy")
    other = OperationHandle(catalog, handle.id)
    other.cancel()
    with pytest.raises(Cancelled):
        other.wait(60)


def test_a_cancel_before_the_beginning_counts(run: Run) -> None:
    """A process that is cancelled before it wrote its row reads as cancelled."""
    handle = run("import time; time.sleep(600)")
    assert handle.status is OperationStatus.RUNNING
    handle.cancel()
    with pytest.raises(Cancelled):
        handle.wait(60)


def test_a_killed_process_has_died(run: Run) -> None:
    """SIGKILL in the middle is told as what it was, with the last output."""
    handle = run(PRELUDE + DIE)
    with pytest.raises(OpskitError, match="ended without a word") as raised:
        handle.wait(60)
    assert raised.value.kind is ErrorKind.OPERATION_DIED
    assert "last word" in raised.value.hint
    assert handle.status is OperationStatus.DIED


def test_an_early_death_is_told_by_its_output(run: Run) -> None:
    """A process that ends before it wrote its row fails with the error that it printed, of its exit code's class."""
    code = "import sys; print('opskit: no cluster', file=sys.stderr); print('HINT: Name it.'); sys.exit(3)"
    handle = run(code)
    with pytest.raises(NotFoundError, match="no cluster") as raised:
        handle.wait(60)
    assert raised.value.hint == "Name it."
    assert handle.status is OperationStatus.FAILED
    with pytest.raises(OpskitError, match="exit code 7"):
        run("import sys; sys.exit(7)").wait(60)


def test_a_forgotten_handle_leaves_no_zombie(run: Run) -> None:
    """The process is reaped when it ends, though nobody holds its handle."""
    pid = run("pass").refresh().pid
    gc.collect()
    wait_until(lambda: not Path(f"/proc/{pid}").exists())


def test_a_detached_process_has_a_session_of_its_own(run: Run) -> None:
    """Detached means that the end of this terminal or kernel does not reach it."""
    code = "import time; time.sleep(600)"
    ours = os.getsid(0)
    assert os.getsid(run(code, False).refresh().pid) == ours
    assert os.getsid(run(code, True).refresh().pid) != ours


def test_settings_without_a_file_cannot_be_handed_on(catalog: Catalog, tmp_path: Path) -> None:
    """Another process needs a file to read."""
    settings = settings_from({"repository": {"url": tmp_path.as_uri()}})
    with pytest.raises(InputError, match="cannot be handed on"):
        start_process(
            settings,
            catalog,
            ["backup", "main"],
            kind=OperationKind.BACKUP,
            cluster="main",
            parameters={},
            detached=False,
        )


def test_waiting_outlives_a_catalog_that_is_away(run: Run, tmp_path: Path) -> None:
    """While its process lives, an operation is waited for even though its row cannot be read."""
    handle = run(PRELUDE + "    time.sleep(1.5)\n" + WORK)
    deadline = time.monotonic() + 30
    while handle.progress.phase != "copy":
        assert time.monotonic() < deadline
        time.sleep(0.02)

    def rename(before: str, after: str) -> None:
        with closing(sqlite3.connect(tmp_path / "opskit.db", timeout=10)) as connection:
            connection.execute(f"ALTER TABLE {before} RENAME TO {after}")

    rename("opskit_operations", "away")
    with pytest.raises(StoreError):
        handle.refresh()
    back = threading.Timer(0.7, rename, ("away", "opskit_operations"))
    back.start()
    assert handle.wait().status is OperationStatus.COMPLETE
    back.join()
