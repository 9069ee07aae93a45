"""Restores as a person meets them: a moment on the timeline, a copy that answers, and a kernel that goes meanwhile."""

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from opskit.cluster import Cluster
from opskit.model.operation import OperationKind, OperationStatus
from tests.conftest import SettingsFactory
from tests.notebooks.accessible import assert_accessible
from tests.notebooks.conftest import LabFactory
from tests.notebooks.lab import open_panel, run_panel
from tests.notebooks.panels import PATIENCE, wait_until
from tests.servers import ServerFactory
from tests.support.slowness import crawl
from tests.support.streams import caught_up, streaming

on_one_major = pytest.mark.parametrize("programs", [18], indirect=True)
in_a_browser = pytest.mark.timeout(600)


@pytest.fixture
def story(server: ServerFactory, settings: SettingsFactory) -> Iterator[tuple[Cluster, datetime]]:
    """A cluster with WAL behind its backup: a table of 100 rows, a moment, and the table is dropped."""
    source = server(wal_segment_megabytes=1)
    main = Cluster("main", settings(source))
    with streaming(source, main.repository):
        main.create_backup()
        source.query("CREATE TABLE orders AS SELECT generate_series(1, 100) AS i")
        moment: datetime = source.query("SELECT clock_timestamp()").rows[0][0]
        source.query("DROP TABLE orders")
        caught_up(source, lambda: main.repository.known_wal("main"))
    yield main, moment.astimezone(UTC)
    for copy in main.copies():
        copy.stop()
    main.catalog.close()


def choose(panel: Locator, moment: datetime) -> None:
    """Type a moment into the timeline's field for UTC."""
    expect(panel.get_by_role("slider", name="Moment to restore to")).to_be_visible()
    field = panel.get_by_label("UTC", exact=True)
    field.fill(f"{moment:%Y-%m-%d %H:%M:%S.%f}")
    field.press("Enter")


def stopped_restore(main: Cluster) -> int:
    """Wait for a restore, and make it one that takes its time; its process."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for operation in main.catalog.operations(kind=OperationKind.RESTORE):
            if operation.status is OperationStatus.RUNNING:
                os.kill(operation.pid, signal.SIGSTOP)
                return operation.pid
    raise AssertionError("no restore was seen")


def is_asked(main: Cluster) -> bool:
    """Whether somebody asked for the end of the newest restore."""
    [newest, *_] = main.catalog.operations(kind=OperationKind.RESTORE)
    return newest.cancel_requested_at is not None


@on_one_major
@in_a_browser
def test_restore_to_a_moment_and_ask(
    story: tuple[Cluster, datetime], lab_on: LabFactory, folder: Path
) -> None:
    """By the keyboard alone: a moment before the mistake, its plan, the copy beside the notebook, and its answer."""
    main, moment = story
    lab = lab_on(main.settings)
    panel = open_panel(lab, "restore.ipynb")
    expect(panel).to_contain_text("Choose a moment")
    choose(panel, moment)
    expect(panel).to_contain_text("the newest backup that ends before")
    expect(panel).to_contain_text("unknown: nothing was restored on this machine yet")
    named = f"Restore main to {moment:%Y-%m-%d %H:%M:%S}"
    panel.get_by_role("button", name=named).press("Enter")
    expect(panel).to_contain_text("Restored into")
    place = folder / f"main-{moment:%Y%m%dT%H%M%SZ}"
    assert (place / "snapshot/conf").is_dir()
    panel.get_by_role("button", name="Start", exact=True).press("Enter")
    expect(panel.get_by_text('psql "host=').first).to_be_visible()
    panel.get_by_label("SQL", exact=True).fill("SELECT count(*) AS orders FROM orders")
    panel.get_by_role("button", name="Run query").press("Enter")
    expect(panel.get_by_role("cell", name="100", exact=True)).to_be_visible()
    panel.get_by_role("button", name="Copy as Python").press("Enter")
    expect(panel.get_by_label("Python", exact=True)).to_have_value(re.compile(r"at='"))
    assert_accessible(lab.page, ".jp-OutputArea-output .opskit-panel")
    panel.get_by_role("button", name="Stop", exact=True).press("Enter")
    expect(panel.get_by_role("button", name="Start", exact=True)).to_be_enabled()
    assert not main.copy(place).files.is_running
    assert lab.foreign == []


@pytest.mark.sweep
@on_one_major
@in_a_browser
def test_a_restore_outlives_the_kernel(
    story: tuple[Cluster, datetime], lab_on: LabFactory, folder: Path
) -> None:
    """A restore goes on while its kernel is restarted, is found again with its progress, and can be cancelled."""
    main, moment = story
    lab = lab_on(main.settings)
    panel = open_panel(lab, "restore.ipynb")
    choose(panel, moment)
    panel.get_by_role("button", name="Restore main to").click()

    pid = stopped_restore(main)
    try:
        expect(panel.get_by_role("progressbar")).to_be_visible()
        lab.restart_kernel()
        panel = run_panel(lab)
        expect(panel.get_by_role("progressbar")).to_be_visible()
        expect(panel).to_contain_text("Restoring")
        panel.get_by_role("button", name="Cancel").click()
        wait_until(lambda: is_asked(main), "the request is in the catalog")
        crawl(main.catalog, main.catalog.operations(kind=OperationKind.RESTORE)[0].id)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    expect(panel).to_contain_text("The restore was cancelled")
    assert [o.status for o in main.catalog.operations(kind=OperationKind.RESTORE)] == ["cancelled"]
    assert not list(folder.glob("main-*"))


@pytest.mark.sweep
@on_one_major
@in_a_browser
def test_delete_with_confirmation(
    server: ServerFactory, settings: SettingsFactory, lab_on: LabFactory
) -> None:
    """The button names its target, and cannot be pressed before the cluster's name is typed; by the keyboard alone."""
    made = settings(server())
    main = Cluster("main", made)
    older, newer = (main.create_backup().name for _ in range(2))
    lab = lab_on(made)
    panel = open_panel(lab)
    panel.get_by_role("row", name=older).click()
    expect(panel.get_by_text(f"{older} of ")).to_be_visible()
    panel.get_by_role("button", name="Delete…").press("Enter")
    deed = panel.get_by_role("button", name=f"Delete {older} of main")
    expect(deed).to_be_disabled()
    expect(panel).to_contain_text("To be removed: 1 backup")
    panel.get_by_label("Cluster", exact=True).fill("main")
    expect(deed).to_be_enabled()
    assert_accessible(lab.page, ".jp-OutputArea-output .opskit-panel")
    deed.press("Enter")
    expect(panel).to_contain_text(f"Backup {older} is deleted")
    expect(panel.get_by_role("row", name=older)).to_have_count(0)
    assert [backup.name for backup in main.repository.backups("main")] == [newer]
    main.catalog.close()
