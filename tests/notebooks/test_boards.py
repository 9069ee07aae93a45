"""The panels on all clusters without a browser: how each is, what was run, how they compare; servers that are away."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import opskit
from opskit.cluster import Cluster
from opskit.comparison import ClusterState, open_clusters, read_states
from opskit.config import Settings, load_settings
from opskit.model.backup import BackupKind, write_record
from opskit.model.operation import OperationKind, OperationStatus
from opskit.reports.comparison import clusters_table
from opskit.repository import Repository
from opskit.store import open_store
from opskit.widgets import ClustersPanel, ReportsPanel, RestorePanel, StartPanel
from opskit.widgets._board import Board
from opskit.widgets._served import Served, link
from opskit.widgets._teach import written
from tests.conftest import SettingsFactory
from tests.notebooks.books import write_settings
from tests.notebooks.panels import wait_until
from tests.servers import ServerFactory
from tests.support.records import record
from tests.support.reports import run_of, write_report
from tests.support.repositories import SEGMENT
from tests.support.wal import SYSTEM

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
OURS = ("start_here", "reports", "clusters")
DAY = timedelta(days=1)
EVIL = "<img src=x onerror=alert(1)>"

# A panel is the same on every major: one will do.
on_one_major = pytest.mark.parametrize("programs", [18], indirect=True)


def stored(settings: Settings, cluster: str, number: int, **changed: object) -> None:
    """Put the records of backups, one a day, into the repository; the newest has just ended."""
    store = open_store(settings.repository_url)
    Repository(store).claim_cluster(cluster, SYSTEM, 18, SEGMENT)
    newest = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=2)
    for day in range(number):
        backup = record(
            newest - day * DAY,
            cluster=cluster,
            cluster_bytes=10**9 - day * 10**7,
            stored_bytes=10**8,
            **changed,
        )
        store.put(f"{cluster}/backups/{backup.name}/backup.json", [write_record(backup)])


@contextmanager
def closing(board: Board) -> Iterator[Board]:
    """Close a panel in the end."""
    try:
        yield board
    finally:
        board.close()


@contextmanager
def silent_server() -> Iterator[int]:
    """A port on which somebody listens and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_every_cluster_has_a_card_at_once(tmp_path: Path) -> None:
    """What the repository says is there before any server answers, those first that need somebody."""
    settings = write_settings(tmp_path, ["archive", "empty", "main"])
    stored(settings, "main", 3, note=EVIL)
    stored(settings, "archive", 1)
    with closing(StartPanel(settings, folder=NOTEBOOKS)) as panel:
        assert isinstance(panel, StartPanel)
        wait_until(lambda: "being asked" not in panel.cards.value, "all servers were asked")
        shown, head = panel.cards.value, panel._head.value
    names = [part.partition('"')[0] for part in shown.split('aria-label="')[1:]]
    assert names == ["empty: act now", "archive: partly unknown", "main: partly unknown"]
    assert "there is no backup yet" in shown and "300 MB in 3 backups" in shown
    assert "+10.0 MB a day" in shown and "does not answer" in shown and "<img" not in shown
    assert (
        "restore" in head and "restore" not in shown
    )  # a card's link would lead to another cluster
    assert "3 clusters · act now: 1 · partly unknown: 2" in repr(panel)
    assert "main: partly unknown." in repr(panel)


def test_a_reason_is_told_once(tmp_path: Path) -> None:
    """Why the last backup failed stands at the top of its card, and not again below."""
    settings = write_settings(tmp_path, ["main"])
    stored(settings, "main", 1)
    source = Cluster("main", settings)
    started = source.catalog.start(
        kind=OperationKind.BACKUP, cluster="main", parameters={}, actor="anna"
    )
    reason = {"message": "the disk is on fire", "kind": "store_full", "hint": ""}
    source.catalog.finish(started.id, OperationStatus.FAILED, error=reason)
    source.catalog.close()
    with closing(StartPanel(settings)) as panel:
        assert isinstance(panel, StartPanel)
        wait_until(lambda: "being asked" not in panel.cards.value, "the server was asked")
        assert panel.cards.value.count("the disk is on fire") == 1
        assert "backup 0." in panel.cards.value


def test_a_timeline_is_shown_once_it_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the archive is read there is a place for the timeline, which does not claim that it is empty."""
    settings = write_settings(tmp_path, ["main"])
    stored(settings, "main", 1)
    may_go = threading.Event()
    find = RestorePanel._find_reach
    monkeypatch.setattr(
        RestorePanel, "_find_reach", lambda panel, at: (may_go.wait(60), find(panel, at))[1]
    )
    panel = RestorePanel(Cluster("main", settings), tmp_path)
    try:
        wait_until(lambda: panel.is_ready, "the panel has looked")
        assert "Reading" in panel.waiting.value and panel.waiting.layout.display != "none"
        assert panel.timeline.layout.visibility == "hidden"
        may_go.set()
        wait_until(lambda: panel.waiting.layout.display == "none", "the timeline is known")
        assert panel.timeline.layout.visibility is None and panel.timeline._picture["first"]
    finally:
        may_go.set()
        panel.close()


def test_a_silent_server_delays_nobody(tmp_path: Path) -> None:
    """A server that accepts and says nothing has its card in time, which says so; the kernel may end meanwhile."""
    settings = write_settings(tmp_path, ["main", "silent"])
    assert settings.file is not None
    stored(settings, "main", 1)
    stored(settings, "silent", 1)
    with silent_server() as port:
        told = settings.file.read_text()
        silent = told.rpartition("service=nowhere")
        settings.file.write_text(f"{silent[0]}host=127.0.0.1 port={port} user=x{silent[2]}")
        begun = time.monotonic()
        panel = StartPanel(load_settings(settings.file), patience_seconds=1)
        with closing(panel):
            assert "main" in panel.cards.value and "silent" in panel.cards.value
            wait_until(lambda: "did not answer in time" in panel.cards.value, "it is given up")
            assert time.monotonic() - begun < 10
            assert panel.cards.value.count("did not answer in time") == 1
            states = {name: heard.state for name, heard in panel._heard.items()}
            answered = [state.cluster for state in panel._questions.ask(states, 10)]
            assert answered == ["main"]
            asking = [thread for thread in threading.enumerate() if thread.name == "opskit asks"]
            assert len(asking) == 1 and asking[0].daemon  # and is not asked twice at a time


@on_one_major
def test_a_healthy_cluster_is_told_as_such(
    server: ServerFactory, settings: SettingsFactory
) -> None:
    """With a fresh backup and a server that answers all is well; when that stops, the card says it and stays."""
    running = server()
    made = settings(running)
    source = Cluster("main", made)
    name = source.create_backup().name
    with closing(StartPanel(made)) as panel:
        assert isinstance(panel, StartPanel)
        wait_until(lambda: "all is well" in panel.cards.value, "the server has answered")
        assert name in panel.cards.value and "answers" in panel.cards.value
        compared = opskit.compare_clusters(made.file)
        assert bool(compared["answered"][0]) and compared["newest_backup"][0] == name
        running.stop()
        panel.again.click()
        wait_until(
            lambda: "does not answer" in panel.cards.value, "it says that the server is away"
        )
        assert "partly unknown" in panel.cards.value and name in panel.cards.value


def test_clusters_are_compared(tmp_path: Path) -> None:
    """Sizes, growth and age beside one another, a chosen one over time; without a server what it says is missing."""
    settings = write_settings(tmp_path, ["archive", "main"])
    stored(settings, "main", 3)
    stored(settings, "archive", 1)
    with closing(ClustersPanel(settings)) as panel:
        assert isinstance(panel, ClustersPanel)
        assert "Largest clusters" in panel.plots.value and "4 backups, 400 MB stored" in repr(panel)
        panel.table.chosen = ["main"]
        assert panel.plots.value.count('role="img"') == 2 and "3 points" in panel.plots.value
    frame = opskit.compare_clusters(settings.file, patience_seconds=0)
    assert list(frame["cluster"]) == ["archive", "main"]
    assert list(frame["growth_per_day_bytes"].isna()) == [True, False]
    assert frame["growth_per_day_bytes"][1] == 10**7
    assert frame["answered"].isna().all() and frame["behind_bytes"].isna().all()
    assert frame.dtypes.equals(clusters_table([]).dtypes)
    assert opskit.compare_clusters(settings.file)["trouble"].isna().all()


def test_growth_is_told_by_full_backups() -> None:
    """An increment is small because it is one; what was an hour ago, or a year, tells no growth of a day."""
    now = datetime(2026, 11, 22, tzinfo=UTC)
    increment = record(now, kind=BackupKind.INCREMENTAL, parent="x", cluster_bytes=10)
    full = [record(now - day * DAY, cluster_bytes=10**6 - day * 100) for day in (1, 2, 11, 400)]

    def grown(*backups: opskit.BaseBackup) -> int | None:
        return ClusterState(cluster="main", at=now, backups=backups).growth_per_day_bytes

    assert grown(increment, *full) == 100
    assert grown(increment, full[0]) is None
    assert grown(full[0], record(full[0].started_at - timedelta(minutes=5))) is None
    assert grown() is None


def test_reports_are_filtered_and_opened(tmp_path: Path) -> None:
    """Runs are chosen by cluster, runbook and outcome; one that is selected says where it is, and what it is worth."""
    settings = write_settings(tmp_path, ["archive", "main"])
    for number, cluster in enumerate(("main", "archive", "main")):
        outcome = "failed" if number == 2 else "passed"
        write_report(
            settings.reports_directory,
            run_of(number, cluster=cluster, outcome=outcome, reason=EVIL),
        )
    with closing(ReportsPanel(settings)) as panel:
        assert isinstance(panel, ReportsPanel)
        assert "3 runs: 2 passed, 1 failed" in repr(panel)
        assert [len(control.options) for control in panel.filters.values()] == [3, 2, 3]
        panel.filters["cluster"].value = "main"
        panel.filters["outcome"].value = "failed"
        assert repr(panel).count("main/") == 1 and "archive/" not in repr(panel)
        panel.table.chosen = ["main/20261122T040000Z-scheduled_backup"]
        shown = panel.detail.value
        page = settings.reports_directory / "main/2026/11/20261122T040000Z-scheduled_backup.html"
        assert f"page at <code>{page}</code>" in shown  # no server serves this test
        assert "as recorded, not signed" in shown and "<img" not in shown
        panel.filters["outcome"].value = "passed"
        assert panel.table.chosen == ()


def test_links_lead_to_what_is_served(tmp_path: Path) -> None:
    """What lies below the server's root has a link with its prefix; what does not, or is hidden, has none."""
    served = Served(root=tmp_path, base_url="/user/anna/")
    assert served.page(tmp_path / "a b.html") == "/user/anna/files/a%20b.html"
    assert served.document(tmp_path / "x/y.ipynb") == "/user/anna/lab/tree/x/y.ipynb"
    assert served.page(tmp_path.parent / "other.html") is None
    assert served.page(tmp_path / "../other.html") is None
    assert served.page(tmp_path / ".hidden/x.html") is None
    assert "&quot;" in link('/"', "x", "y") and "<a" not in link(None, "x", "y")
    assert served.below(tmp_path / "a b.ipynb") == "a b.ipynb"
    for hidden in (tmp_path.parent / "other.ipynb", tmp_path / ".hidden/x.ipynb"):
        assert "<a" not in written(hidden, served) and str(tmp_path) in written(hidden, served)
    assert 'href="/user/anna/lab/tree/x%20y.ipynb"' in written(tmp_path / "x y.ipynb", served)
    assert "<a" not in written(tmp_path / "x.ipynb", None)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    """A catalog that cannot be read is told on every card, beside what the repository says; no panel fails."""
    settings = write_settings(tmp_path, ["archive", "main"])
    stored(settings, "main", 1)
    (tmp_path / "opskit.db").write_bytes(b"no database" * 1000)
    archive, main = read_states(open_clusters(settings))
    assert "catalog" in archive.errors and "catalog" in main.errors
    assert main.newest is not None
    with closing(StartPanel(settings)) as panel:
        assert isinstance(panel, StartPanel)
        assert "main: act now" in panel.cards.value
    assert opskit.compare_clusters(settings.file, patience_seconds=0)["trouble"].notna().all()


@pytest.mark.sweep
def test_a_fleet_is_compared_in_a_breath(tmp_path: Path) -> None:
    """Panels on 100 clusters of 10 backups whose servers are all away are up within 2 seconds."""
    settings = write_settings(tmp_path, [f"c{number:03}" for number in range(100)])
    for cluster in settings.clusters:
        stored(settings, cluster, 10)
    Cluster("c000", settings).catalog.close()  # made once, not at every start
    for panel in (StartPanel, ClustersPanel):
        begun = time.monotonic()
        with closing(panel(settings)) as made:
            took = time.monotonic() - begun
            assert took < 2, f"{panel.__name__} took {took:.1f} s"
            assert "c099" in repr(made)


@pytest.mark.sweep
@on_one_major
def test_nbval_runs_the_notebooks(server: ServerFactory, settings: SettingsFactory) -> None:
    """``pytest --nbval-lax`` runs every notebook as it is, each in a kernel of its own."""
    made = settings(server())
    Cluster("main", made).create_backup()
    arguments = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--nbval-lax"]
    books = [str(path) for path in sorted(NOTEBOOKS.glob("*.ipynb"))]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments, "--nbval-current-env", *books],
        env=os.environ | {"OPSKIT_CONFIG": str(made.file)},
        cwd=NOTEBOOKS.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stdout[-3000:]


@on_one_major
def test_the_notebooks_run(
    server: ServerFactory, settings: SettingsFactory, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Executed without a front end, each notebook shows what there is, as text too, and changes nothing."""
    made = settings(server())
    source = Cluster("main", made)
    name = source.create_backup().name
    write_report(made.reports_directory, run_of(0))
    monkeypatch.setenv("OPSKIT_CONFIG", str(made.file))
    books = [nbformat.read(NOTEBOOKS / f"{book}.ipynb", as_version=4) for book in OURS]
    together = books[0]
    together.cells = [cell for book in books for cell in book.cells]  # one kernel starts for all
    NotebookClient(together, timeout=120, resources={"metadata": {"path": scratch}}).execute()
    outputs = [output for cell in together.cells for output in cell.get("outputs", ())]
    assert {output["output_type"] for output in outputs} <= {"execute_result"}
    panels = [o["data"] for o in outputs if "application/vnd.jupyter.widget-view+json" in o["data"]]
    assert len(panels) == len(OURS)
    start, reports, clusters = (panel["text/plain"] for panel in panels)
    assert name in start and "20261122T020000Z-scheduled_backup" in reports and "main" in clusters
    assert any("Cluster main" in output["data"].get("text/html", "") for output in outputs)
    assert list(source.operations()["kind"]) == ["backup"]
