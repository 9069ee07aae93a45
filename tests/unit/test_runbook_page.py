"""The page of a report: readable by everybody, anywhere, without any network."""

import re
from html.parser import HTMLParser
from typing import Any

import nbformat
import pytest

from opskit.reports.charts import durations_chart, sizes_chart
from opskit.reports.page import TEMPLATES, render_page
from opskit.reports.view import facts, table, time_and_local
from tests.notebooks.books import BIND, FINISH, PASS, notebook
from tests.unit.test_runbook_outcome import CHECKED, NOW, STEPPED

EVIL = '"><script src="https://example.org/x.js"></script><img src=x onerror=alert(1)>'
RUN = {
    "runbook": "small",
    "cluster": "main",
    "parameters": {"cluster": "main", "note": EVIL, "dry_run": False, "times": 1},
    "outcome": "failed",
    "reason": EVIL,
    "started_at": "2026-11-22T14:03:05.000Z",
    "ended_at": "2026-11-22T14:05:19.000Z",
    "duration_seconds": 134.0,
    "host": "host",
    "actor": "operator",
    "opskit_version": "1.0",
    "steps": [STEPPED.as_dict()],
    "checks": [CHECKED.as_dict(), {"what": "it is sunny", "result": "not run", "detail": "no sun"}],
}


class Page(HTMLParser):
    """What a page is made of: its elements with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep it."""
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        """Keep it."""
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        """The attributes of every element of that name."""
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def source() -> str:
    """The page of a run that shows a bit of everything."""
    book = notebook(BIND, PASS, "chart", "print(1)", FINISH)
    show: Any = nbformat.v4.new_output
    chart = durations_chart([("Back up", STEPPED.duration)])
    frame = facts({"Cluster": EVIL})
    book.cells[4].outputs = [
        show("display_data", chart._repr_mimebundle_()),
        show("execute_result", frame._repr_mimebundle_()),
    ]
    book.cells[5].outputs = [
        show("stream", name="stdout", text=EVIL),
        show("stream", name="stderr", text="\x1b[31mred\x1b[0m"),
    ]
    book.cells[6].outputs = [show("error", ename="ValueError", evalue=EVIL, traceback=[EVIL])]
    book.metadata.opskit = RUN
    return render_page(book)


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    """The same, parsed."""
    return Page(source)


def test_it_asks_no_network(source: str, page: Page) -> None:
    """No script, style sheet, image, font or frame comes from anywhere, and the browser is told to refuse them."""
    for tag in ("script", "iframe", "object", "embed", "base", "link", "form", "audio", "video"):
        assert page.all(tag) == []
    assert all(image["src"].startswith("data:") for image in page.all("img"))
    for _, attributes in page.elements:
        assert not {name for name in attributes if name.startswith("on")}
        for name in ("src", "srcset", "action", "background", "data", "poster"):
            assert not re.match(r"\s*(https?:)?//", attributes.get(name, ""))
    style = "".join(re.findall(r"<style>(.*?)</style>", source, re.DOTALL))
    assert style and not re.search(r"url\(|@import|https?:", style)
    (policy,) = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    assert policy.startswith("default-src 'none'")


def test_it_is_one_document_with_one_headline(page: Page) -> None:
    """Screen readers find the language, a title that tells the outcome, one H1, and what each picture shows."""
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1
    assert re.search(r"A small book: failed – main, 2026-11-22", page.text)
    assert [image["alt"] for image in page.all("img")] == [
        "Bar chart, how long each step took: Back up 1.5 s."
    ]
    assert "width=device-width" in [m.get("content", "") for m in page.all("meta")][1]


def test_what_people_wrote_is_text(page: Page) -> None:
    """Parameters, reasons, outputs and errors are shown, not interpreted."""
    assert page.text.count("<script src=") >= 5


def test_outcome_and_checks_are_told_in_words(page: Page) -> None:
    """Neither colour nor a mark alone tells what passed and what did not."""
    marks = [a["aria-label"] for name, a in page.elements if a.get("class") == "opskit-mark"]
    assert marks == ["passed", "not run"]
    assert "✗ Failed" in page.text and "Not run: it is sunny · no sun" in page.text


def test_code_is_folded(page: Page) -> None:
    """The reader sees what was found; the code behind it is one click away."""
    folded = [a for name, a in page.elements if name == "details" and a.get("class") == "code"]
    assert len(folded) == 6 and not any("open" in attributes for attributes in folded)


def test_times_are_utc_with_the_local_time_beside(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A time says UTC, and what the clock on the wall said."""
    import time

    assert page.all("time")[0] == {"datetime": "2026-11-22T14:03:05.000Z"}
    for zone, text in [
        ("Asia/Kolkata", "2026-11-22 14:03:05 UTC (19:33:05 IST)"),
        ("Pacific/Auckland", "2026-11-22 14:03:05 UTC (2026-11-23 03:03:05 NZDT)"),
        ("UTC", "2026-11-22 14:03:05 UTC"),
    ]:
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert time_and_local(NOW) == text
    monkeypatch.undo()
    time.tzset()


def _luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(c * 2 for c in digits) if len(digits) == 3 else digits
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize(
    ("ink", "ground"),
    [
        *((ink, ground) for ink in ("ink", "soft", "link") for ground in ("ground", "card")),
        *((ink, ground) for ink in ("good", "bad", "odd") for ground in (f"{ink}-ground", "card")),
        ("bad", "ground"),
    ],
)
def test_colours_can_be_read(ink: str, ground: str) -> None:
    """Every text has a contrast of at least 4.5 to 1 (WCAG 2.2, success criterion 1.4.3)."""
    style = (TEMPLATES / "opskit/style.css").read_text()
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+);", style))
    light, dark = sorted((_luminance(colours[ink]), _luminance(colours[ground])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_charts_of_nothing_and_of_much_are_drawn() -> None:
    """No backup yet, or odd names and sizes, is no reason to fail."""
    assert sizes_chart([]).text.endswith("no backup.")
    assert durations_chart([]).svg
    backups = [(NOW, "scheduled", 10**9), (NOW.replace(day=21), "on demand", 0)]
    assert (
        "2026-11-21 14:03 UTC 0 B (on demand), 2026-11-22 14:03 UTC 1.0 GB"
        in sizes_chart(backups).text
    )
    assert durations_chart([("$x_1$ " * 20, STEPPED.duration)]).svg


def test_tables_read_as_text_too() -> None:
    """Programs and terminals get the same table in lines."""
    view = table(["Database", "Size"], [("shop", "34.8 MB"), ("a", "7 B")], numbers=["Size"])
    assert view.text.splitlines() == ["Database     Size", "shop      34.8 MB", "a             7 B"]
    assert view.html.count("<tr>") == 3
