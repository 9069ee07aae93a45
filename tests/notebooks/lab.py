"""A JupyterLab of a test's own, and a real browser in it."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Locator, Page, Playwright, Route, expect

from tests.notebooks.panels import PATIENCE
from tests.notebooks.process import JupyterProcess, by_address

CHROMIUM = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
TIMEZONE = "Asia/Kolkata"  # not UTC, not in whole hours: a time in the wrong zone shows
_NOTIFICATIONS = "@jupyterlab/apputils-extension/notification.jupyterlab-settings"
_THEMES = "@jupyterlab/apputils-extension/themes.jupyterlab-settings"

# JupyterLab's own commands: buttons of its toolbar may be pressed before the kernel listens.
_OPEN = """async (path) => {
    const app = window.jupyterapp;
    await app.restored;
    const panel = await app.commands.execute('docmanager:open', {path, factory: 'Notebook'});
    await panel.context.ready;
    await panel.sessionContext.ready;
    const kernel = panel.sessionContext.session.kernel;
    await kernel.info;
    await kernel.requestKernelInfo();
    app.commands.execute('application:set-mode', {mode: 'single-document'});
    app.shell.collapseLeft();
    window.testedPanel = panel;
}"""
_RUN_ALL = """async () => {
    window.jupyterapp.shell.activateById(window.testedPanel.id);
    await window.jupyterapp.commands.execute('notebook:run-all-cells');
}"""
_RESTART = """async () => {
    const kernel = window.testedPanel.sessionContext.session.kernel;
    await kernel.restart();
    await kernel.requestKernelInfo();
}"""
_EXECUTE = """async (code) => {
    const future = window.testedPanel.sessionContext.session.kernel.requestExecute({code});
    const told = [];
    future.onIOPub = (message) => {
        if (message.content.text !== undefined) told.push(message.content.text);
        if (message.content.evalue !== undefined) told.push(message.content.evalue);
    };
    await future.done;
    return told.join('');
}"""


class Lab(JupyterProcess):
    """A running JupyterLab server.

    Parameters
    ----------
    root
        Its files: notebooks are opened by their path below.
    home
        Where it keeps its own things.
    environment
        Further variables for its kernels.
    base
        Its base URL, as JupyterHub gives one.
    """

    def __init__(
        self, root: Path, home: Path, environment: Mapping[str, str], base: str = "/"
    ) -> None:
        super().__init__(home, base, by_address())
        self.root, self._environment = root, dict(environment)

    @property
    def url(self) -> str:
        """Where the browser begins."""
        return f"http://{self.host}{self.base}lab?token={self.token}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._setting(_NOTIFICATIONS, {"fetchNews": "false", "checkForUpdates": False})
        options = ["--LabApp.expose_app_in_browser=True"]
        self.run("jupyterlab", self.root, self._environment, options)

    def use_theme(self, name: str) -> None:
        """Look like ``JupyterLab Light`` or ``JupyterLab Dark`` from the next page on."""
        self._setting(_THEMES, {"theme": name, "adaptive-theme": False})

    def _setting(self, path: str, values: Mapping[str, Any]) -> None:
        file = self.home / "user-settings" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values), encoding="utf-8")


class LabPage:
    """A browser's page on a notebook in JupyterLab.

    `foreign` are the addresses that the page asked for anywhere else than at its server; they were not let through.
    """

    def __init__(self, page: Page, lab: Lab) -> None:
        self.page, self._lab = page, lab
        self.foreign: list[str] = []
        page.set_default_timeout(PATIENCE * 1000)
        page.route("**/*", self._pass)

    def open(self, notebook: str) -> None:
        """Open a notebook, and wait until its kernel listens."""
        self.page.goto(self._lab.url)
        self.page.wait_for_function("window.jupyterapp !== undefined")
        self.page.evaluate(_OPEN, notebook)

    def run_all(self) -> None:
        """Run all cells of the notebook."""
        self.page.evaluate(_RUN_ALL)

    def execute(self, code: str) -> str:
        """Run code in the notebook's kernel, as a cell would; what it printed, or its error."""
        told: str = self.page.evaluate(_EXECUTE, code)
        return told

    def restart_kernel(self) -> None:
        """Restart the notebook's kernel, and wait until it listens."""
        self.page.evaluate(_RESTART)

    def _pass(self, route: Route) -> None:
        if urlsplit(route.request.url).netloc == self._lab.host:
            route.continue_()
        else:
            self.foreign.append(route.request.url)
            route.abort()


@contextmanager
def running_lab(
    root: Path, home: Path, environment: Mapping[str, str], base: str = "/"
) -> Iterator[Lab]:
    """A JupyterLab for the length of a ``with`` block."""
    lab = Lab(root, home, environment, base)
    try:
        lab.start()
        yield lab
    finally:
        lab.stop()


def open_panel(lab: LabPage, notebook: str = "backups.ipynb") -> Locator:
    """Open a notebook and run it; its panel."""
    lab.open(notebook)
    return run_panel(lab)


def run_panel(lab: LabPage) -> Locator:
    """Run the opened notebook; the panel that it makes, not one that was there before."""
    lab.page.evaluate(
        "document.querySelectorAll('.opskit-panel').forEach(panel => panel.classList.add('earlier'))"
    )
    lab.run_all()
    panel = lab.page.locator(".jp-OutputArea-output .opskit-panel:not(.earlier)")
    expect(panel).to_be_visible()
    return panel


def launch(playwright: Playwright) -> Browser:
    """A headless Chromium of this machine; without one the test fails, and says what installs it."""
    for name in CHROMIUM:
        program = shutil.which(name)
        if program is not None:
            return playwright.chromium.launch(executable_path=program, args=list(FLAGS))
    pytest.fail("there is no Chromium: apt-get install chromium fonts-dejavu-core", pytrace=False)
