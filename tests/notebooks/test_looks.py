"""How the panels look, light and dark: readable for everybody, reached by keys, quiet on the network; pictures of them.

The pictures are put into ``$OPSKIT_TEST_IMAGES`` where that is set: `make images` takes those of the documentation.
"""

import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from html import escape
from pathlib import Path
from typing import Literal

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image
from playwright.sync_api import Browser, Locator, Request, ViewportSize, expect, sync_playwright

import opskit
from opskit.cluster import Cluster
from opskit.config import Settings, load_settings
from opskit.model.backup import Trigger, write_record
from opskit.reports.index import update_index
from opskit.reports.page import render_page
from opskit.repository import Repository
from opskit.runbooks import run_runbook
from opskit.store import open_store
from tests.conftest import SettingsFactory
from tests.notebooks.accessible import assert_accessible
from tests.notebooks.lab import TIMEZONE, Lab, LabPage, launch, running_lab
from tests.notebooks.panels import PATIENCE
from tests.servers import ServerFactory, fill
from tests.support.incremental import SUMMARIZING
from tests.support.records import record
from tests.support.reports import run_of, write_report
from tests.support.repositories import SEGMENT
from tests.support.streams import KEPT, caught_up, streaming
from tests.support.wal import SYSTEM

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SERVED = Path(opskit.__file__).parent / "jupyter" / "lab"  # what `opskit lab` gives to Jupyter
COLOURS = 128
PLACE = "/srv/opskit"
DAY = timedelta(days=1)
# What each panel says once it is up, and what is done with it before the picture.
SETTLED: dict[str, tuple[str, Callable[[Locator], None]]] = {
    "start_here": ("all is well", lambda panel: None),
    "backups": ("before the migration", lambda panel: _know_the_download(panel)),
    "restore": ("Choose a moment", lambda panel: _choose_latest(panel)),
    "reports": ("scheduled_backup", lambda panel: _open_report(panel)),
    "clusters": ("Largest clusters", lambda panel: None),
}

on_one_major = pytest.mark.parametrize("programs", [18], indirect=True)

_SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
_THEME = "async (theme) => window.jupyterapp.commands.execute('apputils:change-theme', {theme})"
_STOPS = """panel => {
    const stops = [...panel.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex]')]
        .filter(e => e.tabIndex >= 0 && !e.disabled && e.checkVisibility({visibilityProperty: true}));
    stops.forEach((stop, number) => stop.dataset.stop = number);
    if (stops.length) stops[0].focus();
    return stops.length;
}"""
_IDLE = "window.testedPanel.sessionContext.session.kernel.status === 'idle'"
_PLACED = """(panel, [root, place]) => {
    const texts = document.createTreeWalker(panel, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) texts.currentNode.data = texts.currentNode.data.replaceAll(root, place);
    for (const input of panel.querySelectorAll('input')) input.value = input.value.replaceAll(root, place);
}"""
_HERE = "document.activeElement.dataset.stop ?? ''"


@pytest.fixture
def firm(server: ServerFactory, settings: SettingsFactory) -> Iterator[Settings]:
    """Three clusters: one with its server, backups, WAL and reports; two of which there are records only."""
    source = server({**KEPT, **SUMMARIZING, "autovacuum": "off"}, wal_segment_megabytes=1)
    fill(source)
    made = settings(source)
    assert made.file is not None
    told = made.file.read_text(encoding="utf-8")
    retention = "retention = { daily = 7, weekly = 4, monthly = 3, on_demand = 3 }"
    made.file.write_text(
        f'{told}schedule = "0 2 * * *"\n{retention}\n'
        f'[clusters.billing]\nconninfo = "service=billing"\nschedule = "30 1 * * *"\n{retention}\n'
        '[clusters.warehouse]\nconninfo = "service=warehouse"\nschedule = "0 3 * * *"\n',
        encoding="utf-8",
    )
    made = load_settings(made.file)
    _remember(made, "billing", datetime.now(UTC) - timedelta(hours=8), 40 * 10**9)
    _remember(made, "warehouse", datetime.now(UTC) - timedelta(days=3), 310 * 10**9)
    main = Cluster("main", made)
    with streaming(source, main.repository):
        run_runbook(made, "scheduled_backup", "main")
        main.create_backup(note="before the migration")
        source.query("CREATE TABLE later AS SELECT generate_series(1, 100000) AS i")
        main.create_backup(note="after the migration")
        source.query("INSERT INTO later SELECT generate_series(1, 100000)")
        caught_up(source, lambda: main.repository.known_wal("main"))
        for number in range(12):
            write_report(made.reports_directory, run_of(number, cluster="billing"))
        failed = run_of(
            12, cluster="billing", outcome="failed", reason="the server cannot be reached"
        )
        write_report(made.reports_directory, failed)
        update_index(made.reports_directory)
        yield made


def _remember(settings: Settings, cluster: str, newest: datetime, size: int) -> None:
    """Records of a month of backups that nobody took."""
    store = open_store(settings.repository_url)
    Repository(store).claim_cluster(cluster, SYSTEM, 18, SEGMENT)
    for day in range(30):
        backup = record(
            newest - day * DAY,
            cluster=cluster,
            trigger=Trigger.SCHEDULED,
            cluster_bytes=size - day * size // 200,
            stored_bytes=size // 4 - day * size // 900,
            note="",
        )
        store.put(f"{cluster}/backups/{backup.name}/backup.json", [write_record(backup)])


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A browser of this test's own."""
    with ExitStack() as stack:
        opened = launch(stack.enter_context(sync_playwright()))
        stack.callback(opened.close)
        yield opened


@pytest.mark.sweep
@on_one_major
@pytest.mark.timeout(900)
def test_panels_are_for_everybody(firm: Settings, browser: Browser, scratch: Path) -> None:
    """In each panel, light and dark, axe finds nothing, Tab reaches every control, and nothing foreign is asked for."""
    assert firm.file is not None
    root, home = firm.file.parent, scratch / "home"
    home.mkdir()
    shutil.copytree(NOTEBOOKS, root / "notebooks")
    expect.set_options(timeout=PATIENCE * 1000)
    books = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    assert books == sorted(SETTLED)
    with running_lab(
        root, home, {"OPSKIT_CONFIG": str(firm.file), "JUPYTER_CONFIG_PATH": str(SERVED)}
    ) as lab:
        for book in books:
            _look_at(book, lab, browser)


def _look_at(book: str, lab: Lab, browser: Browser) -> None:
    tall: ViewportSize = {"width": 1240, "height": 2200}  # what is out of sight is in no picture
    page = browser.new_page(timezone_id=TIMEZONE, viewport=tall)
    told: list[str] = []
    page.on("pageerror", lambda error: told.append(f"{book}: {error}"))
    opened = LabPage(page, lab)
    opened.open(f"notebooks/{book}.ipynb")
    page.evaluate(_THEME, "JupyterLab Light")
    opened.run_all()
    panel = page.locator(".jp-OutputArea-output .opskit-panel")
    says, act = SETTLED[book]
    expect(panel).to_contain_text(says)
    expect(panel).not_to_contain_text("being asked")
    page.wait_for_function(_IDLE)  # what later cells show moves the panel
    act(panel)
    for theme in ("Light", "Dark"):
        page.evaluate(_THEME, f"JupyterLab {theme}")
        expect(page.locator(f"body[data-jp-theme-name='JupyterLab {theme}']")).to_have_count(1)
        page.wait_for_load_state("networkidle")
        _picture(panel, f"{book}-{theme.lower()}", lab.root)
        assert_accessible(page, ".jp-OutputArea-output .opskit-panel")
    _tab_through(panel)
    assert opened.foreign == [] and told == []
    page.close()


def _choose_latest(panel: Locator) -> None:
    panel.get_by_role("button", name="Latest").click()
    expect(panel.get_by_role("button", name="Restore main")).to_be_enabled()


def _know_the_download(panel: Locator) -> None:
    expect(panel.get_by_role("link", name="Download main-")).to_be_visible()
    expect(panel).to_contain_text("Incremental: changes since")


def _open_report(panel: Locator) -> None:
    """Select a run, and follow the links to its page and its notebook."""
    panel.get_by_role("row").nth(2).click()
    for link, place in (("page", "/files/"), ("executed notebook", "/lab/")):
        with panel.page.context.expect_page() as opened:
            panel.get_by_role("link", name=link).click()
        opened.value.wait_for_load_state()
        assert place in opened.value.url and "Error" not in opened.value.title()
        opened.value.close()


def _tab_through(panel: Locator) -> None:
    """Every control of a panel is reached from its first one by Tab alone."""
    stops = panel.evaluate(_STOPS)
    assert stops > 0
    reached = set()
    for _ in range(stops * 2):
        reached.add(panel.page.evaluate(_HERE))
        panel.page.keyboard.press("Tab")
    missed = {str(number) for number in range(stops)} - reached
    assert not missed, [panel.locator(f"[data-stop='{stop}']").inner_html() for stop in missed]


def _picture(panel: Locator, name: str, root: Path) -> None:
    """A picture of a panel, where pictures are wanted: of few colours, and in a place as it may be yours."""
    directory = os.environ.get("OPSKIT_TEST_IMAGES")
    if directory is None:
        return
    panel.page.mouse.move(0, 0)
    panel.evaluate(_PLACED, [str(root), PLACE])
    panel.evaluate("panel => { document.activeElement.blur(); panel.scrollIntoView(); }")
    with Image.open(io.BytesIO(panel.screenshot(animations="disabled"))) as taken:
        few = taken.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        few.save(Path(directory) / f"{name}.png", optimize=True)


@pytest.mark.sweep
@on_one_major
@pytest.mark.timeout(300)
def test_exported_pages_are_for_everybody(
    firm: Settings, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of a report, the index and executed panels: axe finds nothing, Tab reaches all, nothing is asked for."""
    reports = firm.reports_directory
    (page_of_run,) = reports.glob("main/*/*/*-scheduled_backup.html")
    monkeypatch.setenv("OPSKIT_CONFIG", str(firm.file))
    exported = [_exported(book, reports) for book in sorted(SETTLED)]
    for file in (page_of_run, reports / "index.html", *exported):
        for scheme in _SCHEMES:
            page = browser.new_page(color_scheme=scheme, timezone_id=TIMEZONE)
            asked: list[str] = []
            page.on("request", _noted(asked))
            page.goto(file.as_uri())
            assert_accessible(page)
            _tab_through(page.locator("body"))
            assert asked == [file.as_uri()]
            page.close()


def _exported(book: str, directory: Path) -> Path:
    """The page of a notebook that was executed without a front end; it says what the panel does."""
    notebook = nbformat.read(NOTEBOOKS / f"{book}.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": directory}}).execute()
    file = directory / f"{book}.html"
    file.write_text(render_page(notebook), encoding="utf-8")
    [panel] = [
        output["data"]["text/plain"]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "application/vnd.jupyter.widget-view+json" in output["data"]
    ]
    assert escape(panel.splitlines()[0]) in file.read_text(encoding="utf-8")
    return file


def _noted(asked: list[str]) -> Callable[[Request], None]:
    return lambda request: asked.append(request.url)
