"""Panels without a browser, made and in the end quiet and closed; and JupyterLab in a browser."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

import opskit
from opskit.cluster import Cluster
from opskit.config import Settings
from opskit.widgets import BackupsPanel
from opskit.widgets._panel import Panel
from tests.notebooks.downloads import RESUME_SECONDS, WAYS, Place
from tests.notebooks.lab import TIMEZONE, Lab, LabPage, launch, running_lab
from tests.notebooks.panels import PATIENCE, is_quiet, wait_until
from tests.notebooks.serving import Jupyter, running_jupyter

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SERVED = Path(opskit.__file__).parent / "jupyter" / "lab"
"""Jupyter's configuration as `opskit lab` has it."""

PanelFactory = Callable[[Settings], BackupsPanel]
LabFactory = Callable[..., LabPage]
"""``lab_on(settings, base="/")``: the base URL is that of the server, as JupyterHub gives one."""


@pytest.fixture(scope="session")
def jupyters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Jupyter]]:
    """Gives the Jupyter server on one of `WAYS`, which is started when the first test asks for it."""
    running: dict[str, Jupyter] = {}
    with ExitStack() as stack:

        def on_way(name: str) -> Jupyter:
            if name not in running:
                directory = tmp_path_factory.mktemp("jupyter")
                way = WAYS[name](directory)
                made = running_jupyter(directory / "home", way, resume_seconds=RESUME_SECONDS)
                running[name] = stack.enter_context(made)
            return running[name]

        yield on_way


@pytest.fixture
def jupyter(jupyters: Callable[[str], Jupyter], request: pytest.FixtureRequest) -> Jupyter:
    """A Jupyter server for all tests of downloads, on the way that a test says; each gives it its configuration."""
    return jupyters(getattr(request, "param", "address"))


@pytest.fixture
def place(jupyter: Jupyter, tmp_path: Path) -> Iterator[Place]:
    """A repository of a test's own behind the server."""
    made = Place(jupyter, tmp_path)
    yield made
    made.main.catalog.close()


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
        wait_until(lambda: panel.is_ready, "the panel has read what there is")
        return panel

    return make


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A browser."""
    expect.set_options(timeout=PATIENCE * 1000)
    with sync_playwright() as playwright:
        launched = launch(playwright)
        try:
            yield launched
        finally:
            launched.close()


@pytest.fixture
def lab_on(scratch: Path, folder: Path) -> Iterator[LabFactory]:
    """Opens JupyterLab in a browser on a working copy of the notebooks, with a configuration."""
    home = scratch / "home"
    home.mkdir()
    for notebook in NOTEBOOKS.glob("*.ipynb"):
        shutil.copy(notebook, folder)
    expect.set_options(timeout=PATIENCE * 1000)
    with ExitStack() as stack:
        browser = launch(stack.enter_context(sync_playwright()))
        stack.callback(browser.close)

        def open_lab(settings: Settings, base: str = "/") -> LabPage:
            variables = {"OPSKIT_CONFIG": str(settings.file), "JUPYTER_CONFIG_PATH": str(SERVED)}
            lab: Lab = stack.enter_context(running_lab(folder, home, variables, base))
            page = browser.new_page(timezone_id=TIMEZONE, viewport={"width": 1200, "height": 1000})
            stack.callback(page.close)
            return LabPage(page, lab)

        yield open_lab
