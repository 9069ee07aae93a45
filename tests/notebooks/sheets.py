"""A sheet: a notebook in a JupyterLab of the tests' own, to show one widget after the other in a real browser."""

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Locator, expect, sync_playwright

from tests.notebooks.lab import TIMEZONE, LabPage, launch, running_lab

SHEET = "sheet.ipynb"
LIGHT, DARK = "JupyterLab Light", "JupyterLab Dark"
_SHOW = """async (code) => {
    const panel = window.testedPanel;
    const cell = panel.content.widgets[1];
    cell.model.sharedModel.setSource(code);
    panel.content.activeCellIndex = 1;
    window.begunAt = performance.now();
    await window.jupyterapp.commands.execute('notebook:run-cell');
}"""
_THEME = """async (theme) => {
    await window.jupyterapp.commands.execute('apputils:change-theme', {theme});
}"""


class Sheet:
    """A notebook whose middle cell is filled in again and again."""

    def __init__(self, lab: LabPage) -> None:
        self.lab, self.page = lab, lab.page

    def show(self, code: str, within: str) -> Locator:
        """Run code, whose value is a widget; what is found of it by a CSS selector."""
        self.page.evaluate(_SHOW, code)
        shown = self.page.locator(f".jp-OutputArea-output {within}")
        expect(shown).to_be_visible()
        return shown

    def clear(self) -> None:
        """Show nothing."""
        self.page.evaluate(_SHOW, "")
        expect(self.page.locator(".jp-Cell").nth(1).locator(".jp-OutputArea-output")).to_have_count(
            0
        )

    def seconds_until(self, code: str, within: str) -> float:
        """How long after its cell began something is seen; the shortest of three, since other tests run, too."""
        took = []
        for _ in range(3):
            self.clear()
            self.show(code, within)
            took.append(float(self.page.evaluate("performance.now() - window.begunAt")) / 1000)
        return min(took)

    def value(self, expression: str) -> str:
        """What an expression is in the kernel, as text."""
        return self.lab.execute(f"print({expression})").strip()

    def use_theme(self, theme: str) -> None:
        """Look light or dark from now on."""
        self.page.evaluate(_THEME, theme)
        is_light = str(theme == LIGHT).lower()
        expect(self.page.locator(f'body[data-jp-theme-light="{is_light}"]')).to_be_attached()


# No longer than the package: Playwright's loop runs in this thread, where others start theirs.
@pytest.fixture(scope="package")
def sheet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sheet]:
    """The package's sheet; its browser is not in UTC, and reaches nothing but its server."""
    root, home = tmp_path_factory.mktemp("sheets"), tmp_path_factory.mktemp("home")
    cells = [nbformat.v4.new_code_cell(source) for source in ("1", "", "3")]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), root / SHEET)
    here = str(Path(__file__).parents[2])
    expect.set_options(timeout=30_000)
    with running_lab(root, home, {"PYTHONPATH": here}) as lab, sync_playwright() as playwright:
        browser = launch(playwright)
        try:
            page = browser.new_page(timezone_id=TIMEZONE, viewport={"width": 1200, "height": 1000})
            opened = LabPage(page, lab)
            opened.open(SHEET)
            yield Sheet(opened)
        finally:
            browser.close()


@pytest.fixture
def fresh_sheet(sheet: Sheet) -> Sheet:
    """The sheet, light, with what the tests of widgets import."""
    sheet.use_theme(LIGHT)
    sheet.lab.foreign.clear()
    sheet.lab.execute(
        "from datetime import timedelta\n"
        "from opskit.widgets.table import Table\n"
        "from opskit.widgets.timeline import Timeline\n"
        "from tests.support.moments import NOW, moments"
    )
    return sheet
