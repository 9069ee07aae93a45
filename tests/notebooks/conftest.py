"""Panels without a browser: made, and in the end quiet and closed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opskit.cluster import Cluster
from opskit.config import Settings
from opskit.widgets import BackupsPanel
from opskit.widgets._panel import Panel
from tests.notebooks.panels import is_quiet, wait_until

PanelFactory = Callable[[Settings], BackupsPanel]


@pytest.fixture
def folder(scratch: Path) -> Path:
    """What is the notebook's folder to the panels of a test."""
    folder = scratch / "notebooks"
    folder.mkdir()
    return folder


@pytest.fixture
def closing() -> Iterator[Callable[[Panel], None]]:
    """Takes panels that are to be closed in the end, when nothing of theirs runs."""
    panels: list[Panel] = []
    yield panels.append
    for panel in panels:
        for card in panel.cards:
            if card.is_running:
                card.button.click()
        wait_until(lambda p=panel: is_quiet(p), "nothing runs")  # type: ignore[misc]
        panel.close()
        panel.cluster.catalog.close()


@pytest.fixture
def panel_of(folder: Path, closing: Callable[[Panel], None]) -> PanelFactory:
    """Makes panels on backups that save into the test's directory."""

    def make(settings: Settings) -> BackupsPanel:
        panel = BackupsPanel(Cluster("main", settings), folder)
        closing(panel)
        return panel

    return make
