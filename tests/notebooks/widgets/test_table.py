"""The table of panels in a real browser: thousands of rows, keys, order, filter and selection."""

import pytest
from playwright.sync_api import Locator, expect

from tests.notebooks.accessible import assert_accessible
from tests.notebooks.panels import wait_until
from tests.notebooks.sheets import DARK, LIGHT, Sheet

WIDGET = ".itables_anywidget"
ROWS = """
import pandas as pd
count = {count}
frame = pd.DataFrame({{
    "name": [f"b{{n:05}}" for n in range(count)],
    "started_at": pd.date_range("2026-01-01", periods=count, freq="h", tz="Asia/Kolkata"),
    "stored_bytes": pd.array([(n * 7919) % 10_007 * 10**6 for n in range(count)], dtype="UInt64"),
    "note": pd.array([f"<b>note</b> {{n}}" for n in range(count)], dtype="string"),
}})
"""
TABLE = 'shown = Table(frame, key="name", label="Backups", empty="There is <no> backup yet.")\nshown.widget'
SEVERAL = TABLE.replace("empty=", "several=True, empty=")

_LINES = """cell => {
    const range = document.createRange();
    range.selectNodeContents(cell);
    return new Set([...range.getClientRects()].map(line => Math.round(line.top))).size;
}"""

in_a_browser = pytest.mark.timeout(600)


def first_cells(widget: Locator) -> list[str]:
    """The first column of the page that is shown."""
    return widget.locator("tbody tr td:first-child").all_inner_texts()


def expect_chosen(sheet: Sheet, *keys: str) -> None:
    """The kernel comes to know what is selected."""
    wait_until(lambda: sheet.value("shown.chosen") == str(keys), f"{keys} are chosen", 20)


@in_a_browser
def test_rows_are_sorted_filtered_paged_and_selected(fresh_sheet: Sheet) -> None:
    """All of it by keys alone, and new rows leave order, filter, page and selection as they were."""
    sheet = fresh_sheet
    sheet.lab.execute(ROWS.format(count=2_000))
    widget = sheet.show(TABLE, WIDGET)
    grid = widget.get_by_role("grid", name="Backups")
    expect(grid.get_by_role("row", name="b00000")).to_contain_text("2025-12-31 18:30:00")  # UTC
    expect(grid.get_by_role("row", name="b00001")).to_contain_text("7.9 GB")
    expect(grid.get_by_role("row", name="b00001")).to_contain_text("<b>note</b> 1")
    order = widget.get_by_role("button", name="Stored")
    order.press("Enter")
    order.press("Enter")
    expect(grid.locator("tbody tr").first).to_contain_text("10.0 GB")
    search = widget.get_by_label("Filter")
    search.fill('"</b> 12"')  # as it is shown
    expect(widget.locator(".dt-info")).to_contain_text("1 to 10 of 111 (of 2,000)")
    row = grid.locator("tbody tr").nth(1)
    grid.locator("tbody tr").first.focus()
    sheet.page.keyboard.press("ArrowDown")
    sheet.page.keyboard.press("Space")
    name = row.locator("td").first.inner_text().split()[0]
    expect_chosen(sheet, name)
    expect(row).to_have_attribute("aria-selected", "true")
    expect(sheet.page.locator(".jp-Notebook .jp-mod-active")).to_contain_text("Table(")
    sheet.page.keyboard.press("PageDown")
    expect(widget.locator(".dt-info")).to_contain_text("11 to 20 of 111")
    there = first_cells(widget)
    sheet.lab.execute(f"shown.show(frame[frame['name'] != {there[0]!r}].iloc[::-1])")
    expect(widget.locator(".dt-info")).to_contain_text("11 to 20 of 110 (of 1,999)")
    assert first_cells(widget)[:9] == there[1:]
    expect_chosen(sheet, name)
    sheet.lab.execute(f"shown.show(frame[frame['name'] != {name!r}])")
    expect_chosen(sheet)
    assert sheet.lab.foreign == []


@in_a_browser
def test_only_the_last_text_is_wrapped(fresh_sheet: Sheet) -> None:
    """In a narrow panel with long notes, words of other columns stay whole, and a note has room to be read."""
    sheet = fresh_sheet
    sheet.lab.execute(
        "import pandas as pd\n"
        "frame = pd.DataFrame({c: [v] for c, v in {'name': '20261122T020000Z', 'kind': 'incremental',"
        " 'trigger': 'on demand', 'at': 'x' * 60, 'note': 'a long story ' * 20}.items()}, dtype='string')"
    )
    widget = sheet.show(f"{TABLE}.layout.width = '560px'\nshown.widget", WIDGET)
    cells = widget.locator("tbody tr td").all()
    _, kind, trigger, _, note = [cell.evaluate(_LINES) for cell in cells]
    assert kind == trigger == 1
    assert 5 < note < 20


@in_a_browser
@pytest.mark.sweep
def test_it_is_up_and_filtered_in_a_breath(fresh_sheet: Sheet) -> None:
    """10,000 rows are there within 2 s of their cell, and filtered and sorted within 0.3 s."""
    sheet = fresh_sheet
    sheet.lab.execute(ROWS.format(count=10_000))
    assert sheet.seconds_until(TABLE, f"{WIDGET} td:text-is('b00000')") < 2
    widget = sheet.page.locator(WIDGET)
    took = widget.evaluate(
        """async (widget) => {
            const search = widget.querySelector('input[type=search]');
            const times = [];
            for (const text of ['1', '12', 'note 123', '', 'nothing']) {
                const begun = performance.now();
                search.value = text;
                search.dispatchEvent(new Event('input', {bubbles: true}));
                search.dispatchEvent(new KeyboardEvent('keyup', {bubbles: true}));
                await new Promise(requestAnimationFrame);
                times.push(performance.now() - begun);
            }
            const button = widget.querySelectorAll('[role=button]')[2];
            const begun = performance.now();
            button.click();
            await new Promise(requestAnimationFrame);
            return [...times, performance.now() - begun];
        }"""
    )
    expect(widget.locator("td.dt-empty")).to_have_text("Nothing matches the filter.")
    assert max(took) < 300, took


@in_a_browser
@pytest.mark.sweep
def test_several_rows_are_selected_by_keys_and_pointer(fresh_sheet: Sheet) -> None:
    """Where several may be selected, keys and clicks with Ctrl add one, and Python's own choice shows."""
    sheet = fresh_sheet
    sheet.lab.execute(ROWS.format(count=30))
    widget = sheet.show(SEVERAL, WIDGET)
    widget.get_by_role("row", name="b00000").focus()
    for key in ("Space", "ArrowDown", "ArrowDown", "Space"):
        sheet.page.keyboard.press(key)
    expect_chosen(sheet, "b00000", "b00002")
    widget.get_by_role("row", name="b00004").click(modifiers=["Control"])
    expect_chosen(sheet, "b00000", "b00002", "b00004")
    sheet.lab.execute("shown.chosen = ['b00001']")
    expect(widget.locator("tr[aria-selected=true]")).to_contain_text("b00001")


@in_a_browser
@pytest.mark.sweep
@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_axe_finds_nothing(fresh_sheet: Sheet, theme: str) -> None:
    """With a selection, and without a row, no rule is broken, light or dark."""
    sheet = fresh_sheet
    sheet.use_theme(theme)
    sheet.lab.execute(ROWS.format(count=1_000))
    widget = sheet.show(TABLE, WIDGET)
    widget.get_by_role("row", name="b00003").click()
    expect_chosen(sheet, "b00003")
    assert_accessible(sheet.page, WIDGET)
    widget = sheet.show(TABLE.replace("(frame", "(frame.head(0)"), WIDGET)
    expect(widget.locator("td.dt-empty")).to_have_text("There is <no> backup yet.")
    assert_accessible(sheet.page, WIDGET)
    assert sheet.lab.foreign == []
