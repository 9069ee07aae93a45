"""What the backups panel does beside taking and carrying home: hold, delete with its plan, and teach."""

from pathlib import Path

import pytest

from opskit.cluster import Cluster
from opskit.runbooks._masters import read_master
from tests.conftest import SettingsFactory
from tests.notebooks.conftest import PanelFactory
from tests.notebooks.panels import is_quiet, said, wait_until
from tests.servers import ServerFactory

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
