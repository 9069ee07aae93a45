"""The timeline in a real browser: keys, pointer, typed times, both zones, light and dark."""

import re

import nbformat
import pytest
from nbconvert.exporters import HTMLExporter
from playwright.sync_api import Locator, expect

from opskit.widgets.timeline import Timeline
from tests.notebooks.accessible import assert_accessible
from tests.notebooks.panels import wait_until
from tests.notebooks.sheets import DARK, LIGHT, Sheet
from tests.support.moments import moments

WIDGET = ".opskit-timeline-widget"
TEN = "shown = Timeline(*moments(10, gaps=[8]))\nshown"
BIG = "frames = moments(10_000, gaps=range(0, 10_000, 25), apart=timedelta(hours=1))"

_ZOOM = """(span, key) => new Promise((resolve) => {
    const begun = performance.now();
    const before = span.textContent;
    new MutationObserver((_, observer) => {
        if (span.textContent === before) return;
        observer.disconnect();
        requestAnimationFrame(() => resolve(performance.now() - begun));
    }).observe(span, {childList: true, characterData: true, subtree: true});
    const plot = span.closest('.opskit-timeline-widget').querySelector('[role=slider]');
    plot.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
})"""

in_a_browser = pytest.mark.timeout(600)


def slider(widget: Locator) -> Locator:
    """What is moved."""
    return widget.get_by_role("slider", name="Moment to restore to")


def expect_moment(sheet: Sheet, text: str) -> None:
    """The moment that is chosen in the kernel becomes what is expected."""
    wait_until(lambda: sheet.value("shown.moment") == text, f"{text} is chosen", 20)


def pointed(widget: Locator, share: float) -> tuple[float, float]:
    """A place on the bar of the upper timeline, at a share of the picture's width."""
    box = slider(widget).bounding_box()
    assert box is not None
    return box["x"] + 86 + share * (box["width"] - 100), box["y"] + 34


@in_a_browser
def test_a_moment_is_chosen_by_keys_pointer_and_typing(fresh_sheet: Sheet) -> None:
    """By keys alone, by dragging, and by typing in either zone a moment is chosen; a gap is refused with a way out."""
    sheet = fresh_sheet
    widget = sheet.show(TEN, WIDGET)
    expect(widget).to_contain_text("Asia/Calcutta")
    marked = slider(widget)
    marked.press("End")
    expect_moment(sheet, "2026-11-22 14:00:00+00:00")
    expect(marked).to_have_attribute(
        "aria-valuetext",
        "2026-11-22 14:00:00 UTC, 2026-11-22 19:30:00 Asia/Calcutta, timeline 1",
    )
    marked.press("[")
    expect_moment(sheet, "2026-11-21 14:00:00.123457+00:00")
    marked.press("ArrowLeft")  # over the gap
    expect_moment(sheet, "2026-11-21 02:00:00.123457+00:00")
    expect(widget.get_by_role("status")).to_contain_text("is missing")
    expect(sheet.page.locator(".jp-Notebook .jp-mod-active")).to_contain_text("Timeline(")

    utc, local = (
        widget.get_by_label("UTC", exact=True),
        widget.get_by_label("Asia/Calcutta", exact=True),
    )
    local.fill("2026-11-21 12:00:00.000001")
    local.press("Enter")
    expect(widget.get_by_role("status")).to_contain_text("can be restored.")
    expect(utc).to_have_value("2026-11-21 06:30:00.000001")
    expect(utc).to_have_attribute("aria-invalid", "true")
    expect_moment(sheet, "None")
    widget.get_by_role("button", name="the nearest after").press("Enter")
    expect_moment(sheet, "2026-11-21 14:00:00.123457+00:00")
    expect(utc).to_have_attribute("aria-invalid", "false")

    mouse = sheet.page.mouse
    mouse.move(*pointed(widget, 0.2))
    mouse.down()
    mouse.move(*pointed(widget, 0.5), steps=5)
    mouse.up()
    expect(utc).to_have_value(re.compile("^2026-11-17 "))
    before = widget.locator(".ot-span").inner_text()
    for _ in range(3):
        mouse.wheel(0, -100)
    expect(widget.locator(".ot-span")).not_to_have_text(before)
    assert sheet.lab.foreign == []


@in_a_browser
@pytest.mark.sweep
@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_axe_finds_nothing(fresh_sheet: Sheet, theme: str) -> None:
    """With something chosen, with a refusal, and with nothing to choose, no rule is broken, light or dark."""
    fresh_sheet.use_theme(theme)
    widget = fresh_sheet.show(TEN, WIDGET)
    slider(widget).press("End")
    expect_moment(fresh_sheet, "2026-11-22 14:00:00+00:00")
    widget.locator("summary").press("Enter")
    assert_accessible(fresh_sheet.page, WIDGET)
    widget.get_by_label("UTC", exact=True).fill("2026-11-21 06:30")
    widget.get_by_label("UTC", exact=True).press("Enter")
    expect(widget.get_by_role("button", name="the nearest after")).to_be_visible()
    assert_accessible(fresh_sheet.page, WIDGET)
    widget = fresh_sheet.show("i, b = moments(1)\nshown = Timeline(i[:0], b[:0])\nshown", WIDGET)
    expect(widget.locator("svg")).to_contain_text("there is no backup")
    assert_accessible(fresh_sheet.page, WIDGET)
    assert fresh_sheet.lab.foreign == []


@in_a_browser
@pytest.mark.sweep
def test_everything_is_reached_by_tab(fresh_sheet: Sheet) -> None:
    """Tab leads through buttons, picture and fields in their order, and each can be seen to have the focus."""
    sheet = fresh_sheet
    widget = sheet.show(TEN, WIDGET)
    widget.get_by_role("button", name="Zoom out").focus()
    found = []
    for _ in range(12):
        found.append(
            sheet.page.evaluate(
                "document.activeElement.getAttribute('aria-label') ?? document.activeElement.parentElement.textContent"
            )
        )
        sheet.page.keyboard.press("Tab")
    assert found[:11] == [
        *("Zoom out", "Zoom in", "Show earlier", "Show later", "Show everything"),
        *("Moment to restore to", "UTC", "Asia/Calcutta"),
        *("The backup before", "The backup after", "The latest moment"),
    ]
    slider(widget).press("+")
    outline = slider(widget).evaluate("node => getComputedStyle(node).outlineStyle")
    assert outline == "solid"


@in_a_browser
@pytest.mark.sweep
def test_400_intervals_and_10000_backups_are_drawn_at_once(fresh_sheet: Sheet) -> None:
    """The widget is up within two seconds of its cell, and zooms within 0.3 s."""
    sheet = fresh_sheet
    sheet.lab.execute(BIG)
    assert sheet.seconds_until("shown = Timeline(*frames)\nshown", f"{WIDGET} svg") < 2
    widget = sheet.page.locator(WIDGET)
    expect(widget).to_contain_text("Asia/Calcutta")
    span = widget.locator(".ot-span")
    took = [span.evaluate(_ZOOM, key) for key in ("+", "+", "-", "+", "0")]
    assert sorted(took)[len(took) // 2] < 300, took


@in_a_browser
@pytest.mark.sweep
def test_a_page_without_a_kernel_shows_the_picture(fresh_sheet: Sheet) -> None:
    """Exported as HTML, the executed notebook shows the picture and its words, and axe finds nothing in them."""
    shown = Timeline(*moments(10, gaps=[8]))._repr_mimebundle_()
    bundle = shown[0] if isinstance(shown, tuple) else shown
    output = nbformat.v4.new_output("execute_result", bundle, execution_count=1)
    cell = nbformat.v4.new_code_cell("timeline", outputs=[output], execution_count=1)
    page, _ = HTMLExporter(template_name="basic").from_notebook_node(
        nbformat.v4.new_notebook(cells=[cell])
    )
    assert "<svg" in page and "Gap on timeline 1" in page
    browser = fresh_sheet.page.context.browser
    assert browser is not None
    opened = browser.new_page()
    try:
        for colours in ("#fff; color: #222", "#111; color: #eee"):
            opened.set_content(
                f'<html lang="en"><title>x</title><body style="background: {colours}"><main>{page}</main>'
            )
            assert_accessible(opened, "figure.opskit-timeline")
    finally:
        opened.close()
