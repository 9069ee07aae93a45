"""The notebooks as a person meets them: JupyterLab, in a real browser that reaches nothing but its server."""

import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

from opskit.cluster import Cluster
from tests.conftest import SettingsFactory
from tests.notebooks.accessible import assert_accessible
from tests.notebooks.conftest import LabFactory
from tests.notebooks.lab import open_panel, run_panel
from tests.notebooks.panels import SLOW, slow_backups, wait_until
from tests.servers import ServerFactory, fill
from tests.support.incremental import SUMMARIZING

# The panels are the same on every major: one will do.
on_one_major = pytest.mark.parametrize("programs", [18], indirect=True)
in_a_browser = pytest.mark.timeout(600)
HUB = "/user/ada%40example.org/"
"""As JupyterHub has it, for a user whose name has to be quoted."""


@on_one_major
@in_a_browser
def test_back_up_and_download(
    server: ServerFactory, settings: SettingsFactory, lab_on: LabFactory, scratch: Path
) -> None:
    """Two keys take a backup and bring it home, to the folder and by the browser; no other host is asked anything."""
    made = settings(server())
    source = Cluster("main", made)
    lab = lab_on(made)
    panel = open_panel(lab)
    expect(panel).to_contain_text("There is no backup yet")
    expect(panel).to_contain_text("PostgreSQL 18")
    panel.get_by_label("Note", exact=True).fill("before <b>the</b> migration")
    panel.get_by_role("button", name="Back up now").click()
    row = panel.get_by_role("row", name="complete")
    expect(row).to_contain_text("before <b>the</b> migration")
    backup = source.backup()
    expect(row).to_contain_text(backup.name)
    expect(row).to_contain_text(f"{backup.started_at:%Y-%m-%d %H:%M:%S}")  # UTC, as the head says
    expect(panel.get_by_text(f"{backup.name} of ")).to_be_visible()
    panel.get_by_role("button", name="Save to folder").press("Enter")
    expect(panel).to_contain_text("tar --zstd -xf")
    file = scratch / "notebooks" / f"main-{backup.name}.tar.zst"
    assert file.stat().st_size > backup.stored_bytes
    expect(panel).to_contain_text(str(file))
    link = panel.get_by_role("link", name=f"Download {file.name}")
    expect(link).to_have_attribute("download", file.name)
    with lab.page.expect_download() as downloading:
        link.press("Enter")
    assert downloading.value.suggested_filename == file.name
    assert downloading.value.path().read_bytes() == file.read_bytes()
    assert lab.foreign == []


@on_one_major
@in_a_browser
def test_the_kernel_stays_free(
    server: ServerFactory, settings: SettingsFactory, lab_on: LabFactory
) -> None:
    """While a backup runs, cells run; it outlives the page and the kernel, is found again, and can be cancelled."""
    running = server(SLOW)
    made = slow_backups(running, settings(running))
    source = Cluster("main", made)
    lab = lab_on(made)
    panel = open_panel(lab)
    panel.get_by_role("button", name="Back up now").click()
    expect(panel.get_by_role("progressbar")).to_be_visible()
    expect(panel).to_contain_text("waiting for the checkpoint")
    asked_at = time.monotonic()
    assert lab.execute("print(6 * 7)") == "42\n"
    assert time.monotonic() - asked_at < 5
    panel = open_panel(lab)  # a new page on the same kernel
    expect(panel).to_contain_text("waiting for the checkpoint")
    lab.restart_kernel()
    panel = run_panel(lab)
    expect(panel.get_by_role("button", name="Back up now")).to_be_disabled()
    panel.get_by_role("button", name="Cancel").click()
    expect(panel).to_contain_text("The backup was cancelled")
    assert source.repository.backups("main") == []
    assert list(source.operations()["status"]) == ["cancelled"]


@on_one_major
@in_a_browser
def test_a_stopped_server_is_told(
    server: ServerFactory, settings: SettingsFactory, lab_on: LabFactory
) -> None:
    """When the server is down, the panel says what is wrong and what to do, and the page has no traceback of it."""
    running = server()
    made = settings(running)
    source = Cluster("main", made)
    source.create_backup()
    lab = lab_on(made)
    panel = open_panel(lab)
    expect(panel.get_by_role("row", name="complete")).to_be_visible()
    running.stop()
    panel.get_by_role("button", name="Back up now").click()
    expect(panel.get_by_role("alert")).to_contain_text("The backup failed")
    expect(panel.locator(".opskit-hint")).not_to_be_empty()
    expect(panel.get_by_role("row", name="failed")).to_be_visible()
    panel.get_by_role("button", name="Dismiss").click()
    wait_until(lambda: panel.get_by_role("alert").count() == 0, "the message is gone")
    expect(panel.get_by_role("row", name="complete")).to_be_visible()


@pytest.mark.sweep
@on_one_major
@in_a_browser
def test_a_chain_is_told_and_made_whole(
    server: ServerFactory, settings: SettingsFactory, lab_on: LabFactory, folder: Path
) -> None:
    """An increment tells its chain and becomes a full backup by a button; a runbook opens below a hub's URL."""
    source = server(SUMMARIZING)
    fill(source)
    made = settings(source)
    main = Cluster("main", made)
    full, increment = main.create_backup(), main.create_backup()
    assert increment.parent == full.name
    lab = lab_on(made, HUB)
    panel = open_panel(lab)
    row = panel.get_by_role("row", name=increment.name)
    expect(row).to_contain_text("incremental")
    expect(panel).to_contain_text(f"changes since {full.name}, restored from a chain of 2")
    panel.get_by_role("button", name="Make whole…").press("Enter")
    deed = panel.get_by_role("button", name=f"Make {increment.name} of main whole")
    expect(panel).to_contain_text(f"combined with {full.name}")
    assert_accessible(lab.page, ".jp-OutputArea-output .opskit-panel")
    deed.press("Enter")
    expect(panel).to_contain_text(f"Backup {increment.name} is now a full one")
    expect(row).not_to_contain_text("incremental")
    expect(panel.get_by_role("button", name="Make whole…")).to_be_hidden()
    assert main.backup(increment.name).parent is None

    panel.get_by_role("button", name="Open as runbook").press("Enter")
    link = panel.get_by_role("link", name="scheduled_backup.ipynb")
    expect(link).to_have_attribute("href", f"{HUB}lab/tree/scheduled_backup.ipynb")
    link.click()
    opened = lab.page.locator(".jp-NotebookPanel:visible")
    expect(opened).to_contain_text("Parameters")
    assert (folder / "scheduled_backup.ipynb").exists() and lab.foreign == []
