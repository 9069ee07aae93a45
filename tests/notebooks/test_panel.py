"""The backups panel without a browser: its buttons on a real server, and what its parts say."""

import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from opskit.cluster import Cluster
from opskit.errors import ServerError
from opskit.model.operation import Operation, OperationKind, OperationStatus, Progress
from opskit.reports.cells import columns_of
from opskit.widgets import BackupsPanel
from opskit.widgets._cards import OperationCard
from opskit.widgets._listing import listing_frame
from opskit.widgets._messages import error_html, progress_html
from opskit.widgets._pace import Pace
from tests.conftest import SettingsFactory
from tests.notebooks.conftest import PanelFactory
from tests.notebooks.panels import SLOW, is_quiet, said, slow_backups, wait_until
from tests.servers import ServerFactory

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
NOW = datetime(2026, 11, 22, 14, 3, 5, tzinfo=UTC)
CONTROLS = ("ButtonModel", "TextModel", "TextareaModel", "DropdownModel")

# A panel is the same on every major: one will do.
on_one_major = pytest.mark.parametrize("programs", [18], indirect=True)


def backed_up(panel: BackupsPanel, note: str = "") -> str:
    """Take a backup by the panel's button; its name."""
    panel.note.value = note
    panel.back_up.click()
    wait_until(lambda: is_quiet(panel), "the backup has ended")
    assert "is complete" in said(panel)
    card = panel.cards[0]
    assert isinstance(card, OperationCard)
    wait_until(lambda: chosen(panel) == card.backup, "the new backup is chosen")
    return chosen(panel)


def chosen(panel: BackupsPanel) -> str:
    """The name of the backup that the buttons mean."""
    return panel.chosen.name if panel.chosen is not None else ""


def listed(panel: BackupsPanel) -> list[dict[str, str]]:
    """The rows of the panel's table, as texts."""
    rows = json.loads(panel.table.widget._rows)["data"]
    titles = [column.title for column in columns_of(listing_frame([], [], {}))]
    return [dict(zip(titles, row, strict=False)) for row in rows]


@on_one_major
def test_back_up_now_makes_a_backup(
    server: ServerFactory, settings: SettingsFactory, panel_of: PanelFactory
) -> None:
    """A click takes a backup with the note, and the panel lists and chooses it when it is complete."""
    panel = panel_of(settings(server()))
    assert listed(panel) == []
    assert panel.download.disabled
    name = backed_up(panel, "before <b>it</b>")
    row = panel.cluster.backups().iloc[0]
    assert (row["name"], row["status"], row["note"]) == (name, "complete", "before <b>it</b>")
    [shown] = listed(panel)
    assert (shown["Name"], shown["Status"]) == (name, "complete")
    assert shown["Note"] == "before &lt;b&gt;it&lt;/b&gt;"
    assert panel.link.backup == name
    assert not panel.download.disabled and not panel.back_up.disabled
    assert panel.note.value == ""
    wait_until(lambda: "PostgreSQL 18" in repr(panel), "the server has answered")


@on_one_major
def test_download_brings_the_archive(
    server: ServerFactory, settings: SettingsFactory, panel_of: PanelFactory
) -> None:
    """A click writes the chosen backup's archive, and the card's commands are those that start it."""
    panel = panel_of(settings(server()))
    first = backed_up(panel)
    backed_up(panel)
    panel.choose(first)
    panel.download.click()
    wait_until(lambda: is_quiet(panel), "the download has ended")
    file = panel.folder / f"main-{first}.tar.zst"
    assert f"tar --zstd -xf {file}" in said(panel)
    assert f"cd data/backup/{first}/snapshot" in said(panel)
    assert "psql postgres -U focker" in said(panel)
    members = subprocess.run(
        ["tar", "--zstd", "-tf", str(file)], capture_output=True, text=True, check=True
    ).stdout
    assert f"data/backup/{first}/snapshot/conf/postgresql.conf" in members
    panel.download.click()
    wait_until(lambda: is_quiet(panel), "the second download has ended")
    assert "exists already" in said(panel)
    assert chosen(panel) == first


@on_one_major
def test_cancel_leaves_no_backup(
    server: ServerFactory, settings: SettingsFactory, panel_of: PanelFactory
) -> None:
    """A backup that is cancelled ends at once, and is listed as failed, never as a backup."""
    source = server(SLOW)
    panel = panel_of(slow_backups(source, settings(source)))
    panel.back_up.click()
    wait_until(lambda: "waiting for the checkpoint" in said(panel), "the backup waits")
    assert panel.back_up.disabled
    panel.back_up.click()
    assert len(panel.cards) == 1
    clicked_at = time.monotonic()
    panel.cards[0].button.click()
    wait_until(lambda: is_quiet(panel), "the backup has ended")
    assert time.monotonic() - clicked_at < 5  # a second, on a machine that has nothing else to do
    assert "was cancelled" in said(panel)
    wait_until(lambda: "cancelled" in str(listed(panel)), "the table says it")
    assert panel.cluster.repository.backups("main") == []
    assert list(panel.cluster.backups()["status"]) == ["failed"]
    panel.cards[0].button.click()
    assert panel.cards == []


@on_one_major
def test_another_panel_finds_what_runs(
    server: ServerFactory, settings: SettingsFactory, panel_of: PanelFactory
) -> None:
    """A panel that is made while a backup runs shows it, and can cancel it."""
    source = server(SLOW)
    slow = slow_backups(source, settings(source))
    panel = panel_of(slow)
    panel.back_up.click()
    wait_until(lambda: "waiting for the checkpoint" in said(panel), "the backup waits")
    other = panel_of(slow)
    assert "Backing up" in said(other)
    assert "running: backup" in repr(other)
    assert other.back_up.disabled
    other.cards[0].button.click()
    wait_until(lambda: is_quiet(other) and is_quiet(panel), "both panels see the end")
    assert "was cancelled" in said(other) and "was cancelled" in said(panel)


@on_one_major
def test_a_failed_backup_says_why(
    server: ServerFactory,
    settings: SettingsFactory,
    panel_of: PanelFactory,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """When the server is down, the panel says so with a hint, and its threads print nothing."""
    source = server()
    panel = panel_of(settings(source))
    source.stop()
    panel.back_up.click()
    wait_until(lambda: is_quiet(panel), "the backup has failed")
    error = panel.cluster.operations()["error"].iloc[0]
    assert "The backup failed" in said(panel)
    assert error_html("", ServerError(error), {}).partition("</b>")[2].partition("</p>")[0] in said(
        panel
    )
    assert 'class="opskit-hint"' in said(panel) and "Traceback" not in said(panel)
    wait_until(lambda: "failed" in str(listed(panel)), "the table says it")
    wait_until(lambda: "opskit-failed" in panel._header.widget.value, "the header says it")
    assert capfd.readouterr() == ("", "")


@on_one_major
def test_what_a_button_raises_is_shown(
    server: ServerFactory, settings: SettingsFactory, panel_of: PanelFactory
) -> None:
    """A callback's exception is not lost: it becomes a card, which can be taken away."""
    panel = panel_of(settings(server()))
    panel.note.value = "bell \a"
    panel.back_up.click()
    assert "That did not work" in said(panel) and "cannot be kept" in said(panel)
    panel.cards[0].button.click()
    assert panel.cards == []


@on_one_major
def test_what_cannot_be_read_is_shown_until_it_can(
    server: ServerFactory, settings: SettingsFactory, panel_of: PanelFactory
) -> None:
    """When the catalog fails the panel says that it may be out of date, and recovers by itself."""
    panel = panel_of(settings(server()))
    backed_up(panel)
    assert panel.cluster.settings.file is not None
    catalog = panel.cluster.settings.file.parent / "opskit.db"
    kept = {path: path.read_bytes() for path in catalog.parent.glob("opskit.db*")}
    panel.cluster.catalog.close()
    for path in kept:
        path.unlink()
    catalog.write_bytes(b"no database" * 1000)
    wait_until(lambda: "may be out of date" in panel.trouble.value, "the panel says it")
    assert "complete" in str(listed(panel))
    panel.cluster.catalog.close()
    for path, content in kept.items():
        path.write_bytes(content)
    wait_until(lambda: panel.trouble.value == "", "the panel is up to date")


@on_one_major
def test_controls_are_labelled(
    server: ServerFactory, settings: SettingsFactory, panel_of: PanelFactory
) -> None:
    """Every control has a label and a tooltip."""
    source = server()
    panel = panel_of(settings(source))
    source.stop()
    panel.back_up.click()
    wait_until(lambda: is_quiet(panel), "the backup has failed")
    controls = [widget for widget in _tree(panel.widget) if widget._model_name in CONTROLS]
    assert len(controls) == 13
    assert all(control.description and control.tooltip for control in controls)


@on_one_major
def test_a_closed_panel_stops_looking(
    server: ServerFactory, settings: SettingsFactory, panel_of: PanelFactory
) -> None:
    """Closing a panel ends its thread and its widgets."""
    panel = panel_of(settings(server()))
    threads = [thread for thread in threading.enumerate() if thread.name == "opskit panel"]
    assert len(threads) == 1 and threads[0].daemon
    panel.close()
    assert not threads[0].is_alive()
    assert panel.back_up.comm is None


@on_one_major
def test_the_notebook_runs(
    server: ServerFactory, settings: SettingsFactory, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Executed without a front end, the notebook shows what there is, as text too, and changes nothing."""
    made = settings(server())
    source = Cluster("main", made)
    name = source.create_backup(note="the only one").name
    monkeypatch.setenv("OPSKIT_CONFIG", str(made.file))
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": scratch}}).execute()
    outputs = {cell["id"]: cell["outputs"] for cell in notebook.cells if "outputs" in cell}
    assert {output["output_type"] for found in outputs.values() for output in found} == {
        "execute_result"
    }
    shown = outputs["panel"][0]["data"]
    assert "application/vnd.jupyter.widget-view+json" in shown
    assert name in shown["text/plain"] and "the only one" in shown["text/plain"]
    assert name in outputs["frame"][0]["data"]["text/plain"]
    assert len(source.operations()) == 1


@pytest.mark.sweep
@on_one_major
def test_the_notebook_on_restores_runs(
    server: ServerFactory, settings: SettingsFactory, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Executed without a front end, it shows what can be restored, as text too, and changes nothing."""
    made = settings(server())
    name = Cluster("main", made).create_backup().name
    monkeypatch.setenv("OPSKIT_CONFIG", str(made.file))
    path = next(path for path in NOTEBOOKS if path.stem == "restore")
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": scratch}}).execute()
    outputs = {cell["id"]: cell["outputs"] for cell in notebook.cells if "outputs" in cell}
    assert name in outputs["reach"][0]["data"]["text/plain"]
    assert outputs["copies"][0]["data"]["text/plain"] == "[]"
    assert "server: " in outputs["panel"][0]["data"]["text/plain"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_short(path: Path) -> None:
    """A notebook has one H1, words before each cell of one to five plain lines, and no outputs."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "".join("".join(cell["source"]) + "\n" for cell in cells if cell["cell_type"] != "code")
    assert (
        len(re.findall(r"^# ", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)) == 1
    )
    for before, cell in pairwise(cells):
        if cell["cell_type"] != "code":
            continue
        assert before["cell_type"] == "markdown", cell["id"]
        assert cell["outputs"] == [] and cell["execution_count"] is None, cell["id"]
        assert 1 <= len(cell["source"]) <= 5, cell["id"]
        for line in cell["source"]:
            assert not re.match(r"\s*(!|%|(def|class|try|for|while)\b)", line), line


def test_pace_is_that_of_the_last_seconds() -> None:
    """Rate and time left follow what happened lately, in this phase, and are not told before they are known."""
    pace = Pace()
    for at in range(11):  # 10 MB/s, then 20 MB/s
        done = 10 * min(at, 2) + 20 * max(0, at - 2)
        pace.saw(Progress(phase="copying", bytes_done=done * 10**6, bytes_expected=10**9), at)
        assert (pace.rate is None) == (at == 0)
    assert pace.rate == 20 * 10**6
    assert pace.left == timedelta(seconds=(1000 - 180) / 20)
    pace.saw(Progress(phase="storing", bytes_done=10**9, bytes_expected=10**9), 11)
    assert pace.rate is None and pace.left is None


def test_progress_says_all_that_is_known() -> None:
    """A card shows phase, bytes of bytes, rate and time left, and a share that screen readers find."""
    pace = Pace()
    for at, done in ((0, 0), (2, 500_000_000)):
        progress = Progress(phase="copying", bytes_done=done, bytes_expected=2 * 10**9)
        pace.saw(progress, at)
    shown = progress_html(_operation(progress=progress), pace, NOW, is_cancelling=False)
    assert "500 MB of 2.0 GB · 250 MB/s · 6.0 s left" in shown
    assert 'aria-valuenow="25"' in shown and "copying" in shown
    unknown = progress_html(_operation(), Pace(), NOW, is_cancelling=True)
    assert "aria-valuenow" not in unknown and "cancelling" in unknown


def test_texts_of_others_stay_texts() -> None:
    """Notes, messages and hints cannot bring markup into a panel."""
    evil = "<img src=x onerror=alert(1)>"
    shown = error_html(evil, ServerError(evil, hint=evil), {evil: evil})
    shown += progress_html(_operation(backup=evil), Pace(), NOW, is_cancelling=False)
    assert "<img" not in shown and shown.count("&lt;img") >= 5


def _operation(**changed: Any) -> Operation:
    values: dict[str, Any] = {
        "id": "1f",
        "kind": OperationKind.BACKUP,
        "cluster": "main",
        "status": OperationStatus.RUNNING,
        "host": "here",
        "pid": 1,
        "actor": "me",
        "started_at": NOW,
        "heartbeat_at": NOW,
        "progress": Progress(phase="starting"),
    }
    return Operation(**(values | changed))


def _tree(widget: Any) -> Iterator[Any]:
    yield widget
    for child in getattr(widget, "children", ()):
        yield from _tree(child)
