"""The bench's tables and its drawing say what was measured, and no more."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from bench.chart import chart
from bench.contest import Contest, Side
from bench.large import Section
from bench.measure import CommandFailed, Cost
from bench.report import table
from bench.summary import aims_table, growth_table


def _side(name: str, *seconds: float, stored: int | None = None) -> Side:
    """A side that takes so many seconds, run by run."""
    left: Iterator[float] = iter(seconds)

    def run() -> Cost:
        return Cost(seconds=next(left), cpu_seconds=0.5, peak_bytes=1 << 20, stored_bytes=stored)

    return Side(name=name, run=run)


def _held(opskit: Side, *others: Side, rounds: int = 3, title: str = "Full backup") -> Contest:
    contest = Contest(title=title, note="A note.", opskit=opskit, others=list(others))
    contest.hold(rounds, _nobody)
    return contest


def _nobody(text: str) -> None:
    """Nobody waits for the bench here."""


def test_a_ratio_is_of_the_same_round() -> None:
    """A round in which the machine was slow for both does not change how they compare."""
    contest = _held(_side("opskit", 1, 10, 2), _side("other", 2, 20, 4))
    ratios = contest.ratios(contest.others[0])
    assert (ratios.low, ratios.median, ratios.high) == (0.5, 0.5, 0.5)


def test_a_side_that_stands_aside_is_compared_with_its_own_rounds() -> None:
    """A side that runs in the first round only is compared with opskit's first, whatever the others were."""
    contest = _held(_side("opskit", 1, 5, 5), replace(_side("slow", 4), rounds=1))
    ratios = contest.ratios(contest.others[0])
    assert (ratios.low, ratios.high) == (0.25, 0.25)


def test_aims_tell_what_is_missed() -> None:
    """An aim is met by the median; bytes stored are an aim of their own."""
    opskit = _side("opskit", 1, 1, 1, stored=100)
    quick = replace(_side("quick", 2, 2, 1, stored=90), at_most=0.5, stored_at_most=1.0)
    text = aims_table([Section("Scale 1", 1.0, [_held(opskit, quick)])])
    assert "| 1 | Full backup | quick | 0.50 (0.50 to 1.00) | ≤ 0.5 | met |" in text
    assert (
        "| 1 | Full backup: bytes stored | quick | 1.11 (1.11 to 1.11) | ≤ 1 | **missed** |" in text
    )


def test_an_aim_without_a_figure_is_not_met() -> None:
    """A side that failed is named with its reason, and its aim says that it did not run."""

    def fail() -> Cost:
        raise CommandFailed("no such\ncommand")

    contest = _held(_side("opskit", 1, 1, 1), Side(name="broken", run=fail, at_most=0.5))
    assert "| broken | did not run: no such command |" in table(contest)
    [line] = [
        one
        for one in aims_table([Section("Scale 1", 1.0, [contest])]).splitlines()
        if "broken" in one
    ]
    assert "did not run" in line
    assert "met" not in line


def test_growth_is_from_the_first_scale_to_the_last() -> None:
    """Each contest's time at each scale, and how many times as long the last takes."""
    sections = [
        Section("Scale 1", 1.0, [_held(_side("opskit", 1, 1, 1))]),
        Section("Scale 10", 10.0, [_held(_side("opskit", 8, 8, 8))]),
    ]
    assert "| Full backup | 1.00 s | 8.00 s | 8.0 |" in growth_table(sections)
    assert growth_table(sections[:1]) == ""


@pytest.mark.parametrize(
    "spoil", [lambda name: name, lambda name: f"{name} < a & b"], ids=["plain", "marked up"]
)
def test_the_drawing_has_every_side(spoil: Callable[[str], str]) -> None:
    """A dot a scale for each other side, whatever its name, its aim, and colours for a dark page."""
    small = _held(_side("opskit", 1, 1, 1), _side(spoil("other"), 2, 2, 2), title=spoil("Restore"))
    large = _held(
        _side("opskit", 3, 3, 3),
        replace(_side(spoil("other"), 2, 4, 3), at_most=0.65),
        title=spoil("Restore"),
    )
    drawn = chart([Section("Scale 1", 1.0, [small]), Section("Scale 10", 10.0, [large])])
    svg = "{http://www.w3.org/2000/svg}"
    root = ElementTree.fromstring(drawn)
    assert [dot.get("class") for dot in root.iter(f"{svg}circle")] == ["less hollow", "less"]
    assert len([line for line in root.iter(f"{svg}line") if line.get("class") == "aim"]) == 1
    texts = [text.text for text in root.iter(f"{svg}text")]
    assert {spoil("other"), spoil("Restore"), "1.00"} <= set(texts)
    assert "prefers-color-scheme: dark" in drawn
