"""What the backups panel does beside taking and carrying home: hold, delete with its plan, and teach."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from opskit.cluster import Cluster
from opskit.config import load_settings
from opskit.errors import Cancelled, ServerError
from opskit.model.backup import write_record
from opskit.model.operation import Operation, OperationKind, OperationStatus, Progress
from opskit.repository import Repository
from opskit.runbooks._masters import read_master
from opskit.store import open_store
from opskit.widgets import BackupsPanel
from opskit.widgets._listing import listing_frame
from opskit.widgets._messages import as_left, error_html
from opskit.widgets._panel import Panel
from opskit.widgets._stack import CardStack
from tests.conftest import SettingsFactory
from tests.notebooks.conftest import PanelFactory
from tests.notebooks.panels import is_quiet, said, wait_until
from tests.servers import ServerFactory
from tests.support.records import record
from tests.support.repositories import SEGMENT
from tests.support.wal import SYSTEM

NOW = datetime(2026, 11, 22, 14, 3, 5, tzinfo=UTC)

on_one_major = pytest.mark.parametrize("programs", [18], indirect=True)


@on_one_major
def test_hold_release_and_delete(
    server: ServerFactory, settings: SettingsFactory, panel_of: PanelFactory
) -> None:
    """A held backup is not deleted; a released one is, when the plan was seen and the cluster's name typed."""
    made = settings(server(wal_segment_megabytes=1))
    source = Cluster("main", made)
    older, newer = (source.create_backup().name for _ in range(2))
    panel = panel_of(made)
    assert panel.chosen is not None and panel.chosen.name == newer
    panel.choose(older)
    panel.hold.click()
    assert panel.ask.act.description == f"Hold {older} of main"
    panel.ask.field.value = "audit <b>2026</b>"
    panel.ask.act.click()
    wait_until(lambda: "audit &lt;b&gt;2026" in panel.selected.value, "the panel says who holds it")
    assert panel.hold.description == "Release"
    panel.delete.click()
    wait_until(lambda: "held by" in said(panel), "the panel says why not")
    assert f"opskit release main {older}" in said(panel) and not panel.ask.is_open
    panel.hold.click()
    wait_until(lambda: panel.hold.description == "Hold", "it is released")

    panel.delete.click()
    wait_until(lambda: panel.ask.is_open, "the plan is known")
    assert "To be removed: 1 backup" in panel.ask.plan.value
    assert panel.ask.act.description == f"Delete {older} of main"
    panel.ask.field.value = "mai"
    assert panel.ask.act.disabled
    panel.ask.act.click()
    assert panel.ask.is_open
    panel.ask.field.value = "main"
    assert not panel.ask.act.disabled
    panel.ask.act.click()
    assert not panel.ask.is_open
    wait_until(lambda: is_quiet(panel), "it is deleted")
    assert f"Backup {older} is deleted" in said(panel)
    wait_until(lambda: panel.chosen is None, "the selection went with it")
    assert [backup.name for backup in source.repository.backups("main")] == [newer]
    assert list(source.audit()["what"])[:4] == ["delete", "release", "hold", "backup"]
    panel.choose(newer)
    panel.delete.click()
    wait_until(lambda: "is the last one" in said(panel), "the last one stays")
    source.catalog.close()


@on_one_major
def test_the_same_as_a_runbook_and_as_python(
    server: ServerFactory,
    settings: SettingsFactory,
    panel_of: PanelFactory,
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
) -> None:
    """The notebook has the parameters and overwrites none; the Python runs and does what the panel would."""
    made = settings(server())
    panel = panel_of(made)
    panel.note.value = 'before "it"'
    for name in ("scheduled_backup.ipynb", "scheduled_backup-2.ipynb"):
        panel.teach.runbook.click()
        assert name in panel.teach.message.value
        values = {p.name: p.default for p in read_master(folder / name).parameters}
        assert (values["cluster"], values["note"]) == ("main", 'before "it"')
    panel.teach.python.click()
    monkeypatch.setenv("OPSKIT_CONFIG", str(made.file))
    exec(panel.teach.code.value, {})
    [backup] = panel.cluster.repository.backups("main")
    assert backup.note == 'before "it"'
    wait_until(lambda: panel.chosen is not None, "the panel finds it")
    panel.teach.python.click()
    panel.teach.python.click()
    assert f"cluster.plan_delete('{backup.name}')" in panel.teach.code.value


@pytest.mark.sweep
@on_one_major
def test_the_written_runbook_runs(
    server: ServerFactory,
    settings: SettingsFactory,
    panel_of: PanelFactory,
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
) -> None:
    """Run as a person does, cell by cell, the notebook takes the backup with the panel's note, and passes."""
    made = settings(server())
    panel = panel_of(made)
    panel.note.value = "by the runbook"
    panel.teach.runbook.click()
    monkeypatch.setenv("OPSKIT_CONFIG", str(made.file))
    notebook = nbformat.read(folder / "scheduled_backup.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": folder}}).execute()
    [backup] = panel.cluster.repository.backups("main")
    assert backup.note == "by the runbook"
    [*_, last] = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "passed" in str(last.outputs)


def ended(kind: OperationKind) -> Operation:
    """An operation of some kind."""
    return Operation(
        id="1f",
        kind=kind,
        cluster="main",
        status=OperationStatus.CANCELLED,
        host="here",
        pid=1,
        actor="me",
        started_at=NOW,
        heartbeat_at=NOW,
        progress=Progress(phase="starting"),
    )


def test_a_fault_shows_its_way_and_not_its_text() -> None:
    """What is no error of opskit's own is told with the lines that it came along; what it quotes may be a password."""
    stack = CardStack(lambda act: lambda _: act())
    try:
        listing_frame([], [], {})["password=planted"]
    except KeyError as error:
        stack.tell(error)
    [card] = stack.cards.values()
    assert "unexpected KeyError" in card.message.value
    assert "test_backups_panel.py" in card.message.value and "<details>" in card.message.value
    assert "KeyError: " not in card.message.value
    stack.tell(ServerError("it is away", hint="Start it."))
    assert "<pre" not in next(iter(stack.cards.values())).message.value


def test_cancelling_says_what_is_left() -> None:
    """A cancelled backup leaves nothing; a cancelled delete has removed what it has removed."""
    for kind, left in ((OperationKind.BACKUP, "Nothing of it"), (OperationKind.DELETE, "is gone")):
        told = as_left(ended(kind), Cancelled("the operation was cancelled"))
        assert left in error_html("It was cancelled", told, {})


@pytest.mark.sweep
def test_ten_thousand_backups(tmp_path: Path, closing: Callable[[Panel], None]) -> None:
    """The panel is there within two seconds of the cell, whatever there is to read, and then lists all of it."""
    repository = tmp_path / "repository"
    Repository(open_store(repository.as_uri())).claim_cluster("main", SYSTEM, 18, SEGMENT)
    for number in range(10_000):
        backup = record(NOW - timedelta(hours=number))
        folder = repository / "main/backups" / backup.name
        folder.mkdir(parents=True)
        (folder / "backup.json").write_bytes(write_record(backup))
    file = tmp_path / "opskit.toml"
    file.write_text(
        f'[repository]\nurl = "{repository.as_uri()}"\n[catalog]\nurl = "sqlite:///opskit.db"\n'
        f'[clusters.main]\nconninfo = "host={tmp_path}"\n',
        encoding="utf-8",
    )
    source = Cluster("main", load_settings(file))
    source.catalog.operations()
    asked_at = time.monotonic()
    panel = BackupsPanel(source, tmp_path)
    closing(panel)
    assert time.monotonic() - asked_at < 2
    wait_until(lambda: panel.is_ready, "it has read what there is")
    assert len(
        json.loads(panel.table.widget._rows)["keys"]
    ) == 10_000 and "and 9,800 older ones" in repr(panel)
