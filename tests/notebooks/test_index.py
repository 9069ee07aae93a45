"""The index as a person meets it: in a real browser, with and without its script, after a run that really happened."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from opskit.reports.index import read_reports
from opskit.reports.index_page import render_index
from opskit.runbooks import run_runbook
from tests.notebooks.accessible import assert_accessible
from tests.notebooks.books import FINISH, PASS, write_book, write_settings
from tests.notebooks.lab import TIMEZONE, launch
from tests.support.reports import run_of, write_report


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A browser of this test's own."""
    with ExitStack() as stack:
        opened = launch(stack.enter_context(sync_playwright()))
        stack.callback(opened.close)
        yield opened


def _rows(page: Page) -> list[str]:
    """The runbooks that the table shows, from top to bottom."""
    return page.locator("#runs tbody tr:visible th").all_inner_texts()


@pytest.mark.timeout(120)
def test_a_run_is_found_in_the_browser(browser: Browser, tmp_path: Path) -> None:
    """A run that ended is in the page, leads to its report, is filtered and sorted; nothing else is asked for."""
    settings = write_settings(tmp_path)
    reports = settings.reports_directory
    write_report(reports, run_of(0, runbook="slow", duration_seconds=1e6))
    write_report(reports, run_of(1, runbook="broken", outcome="failed", reason="no room left"))
    masters = tmp_path / "masters"
    write_book(masters, "real", PASS, FINISH)
    result = run_runbook(settings, "real", "main", directory=masters)
    assert result.passed and result.html is not None
    (reports / "main/2026/11/20261122T020000Z-slow.html").write_text("<script>alert(1)</script>")

    page = browser.new_page(timezone_id=TIMEZONE)
    asked: list[str] = []
    told: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.goto((reports / "index.html").as_uri())
    expect(page.get_by_role("heading", level=1)).to_have_text("Runbook reports")
    assert sorted(_rows(page)) == ["broken", "real", "slow"]
    assert_accessible(page)
    page.get_by_label("Outcome").select_option("failed")
    assert _rows(page) == ["broken"]
    expect(page.locator("#counted")).to_have_text("1 of 3 runs")
    page.get_by_label("Outcome").select_option("")
    page.get_by_label("Find").fill("room no")
    assert _rows(page) == ["broken"]
    page.get_by_label("Find").fill("")
    page.get_by_role("button", name="Took").press("Enter")
    assert _rows(page)[0] == "slow"
    page.get_by_role("button", name="Took").press("Enter")
    assert _rows(page)[0] == "real"
    expect(page.get_by_role("columnheader", name="Took")).to_have_attribute(
        "aria-sort", "ascending"
    )
    page.get_by_role("row", name="real").get_by_role("link", name="real").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("A small book")
    page.emulate_media(color_scheme="dark")
    assert_accessible(page)
    assert asked == [(reports / "index.html").as_uri(), result.html.as_uri()]
    assert told == []

    many = tmp_path / "many.html"
    many.write_text(render_index(list(read_reports(reports)) * 200, result.ended_at))
    page.goto(many.as_uri())
    assert len(_rows(page)) == 500
    expect(page.locator("#counted")).to_have_text("600 runs, the first 500 are shown")
    page.get_by_role("button", name="Show all").click()
    assert len(_rows(page)) == 600
    assert told == []

    still = browser.new_context(java_script_enabled=False).new_page()
    still.goto((reports / "index.html").as_uri())
    assert len(_rows(still)) == 3
    expect(still.locator(".filter")).to_be_hidden()
