"""What a reader wants first: which aims are met, and how cost grows with the data."""

from collections.abc import Iterator, Sequence

from bench.contest import Contest, Side, Spread
from bench.large import Section
from bench.report import row, spread_text, verdict


def aims_table(sections: Sequence[Section]) -> str:
    """Every aim, with its ratio and whether it is met; one of a side that did not run says so."""
    lines = ["### Aims", "", "opskit's time, or what it stores, as a part of another's.", ""]
    lines += [row(["scale", "", "beside", "opskit's part", "aim", ""]), "|---" * 6 + "|"]
    for section in sections:
        scale = f"{section.scale:g}" if section.scale else ""
        for contest in section.contests:
            for side in contest.others:
                for cells in _aims(contest, side):
                    lines.append(row([scale, *cells]))
    return "\n".join(lines) + "\n"


def growth_table(sections: Sequence[Section]) -> str:
    """opskit's seconds at each scale, and how many times the first they are at the last; empty for one scale."""
    if len(sections) < 2 or sections[0].scale == sections[-1].scale:
        return ""
    first, last = sections[0].scale, sections[-1].scale
    heads = [f"scale {section.scale:g}" for section in sections]
    lines = ["### How opskit's time grows", ""]
    lines += [
        f"With {last / first:g} times the data; the start of a command is in each figure.",
        "",
    ]
    lines += [row(["", *heads, "times"]), "|---" * (len(heads) + 2) + "|"]
    for contest in sections[0].contests:
        found = [_of_title(section, contest.title) for section in sections]
        seconds = [_seconds(one) for one in found if one is not None]
        if len(seconds) == len(sections):
            figures = [f"{figure:.2f} s" for figure in seconds]
            lines.append(row([contest.title, *figures, f"{seconds[-1] / seconds[0]:.1f}"]))
    return "\n".join(lines) + "\n"


def _aims(contest: Contest, side: Side) -> Iterator[list[str]]:
    for aim, name in ((side.at_most, contest.title), (side.stored_at_most, STORED)):
        if aim is None:
            continue
        title = name if name is contest.title else f"{contest.title}: {name}"
        if side.name in contest.failures:
            yield [title, side.name, "did not run", f"≤ {aim:g}", ""]
            continue
        ratios = contest.ratios(side) if name is contest.title else contest.stored_ratios(side)
        if ratios is not None:
            yield [title, side.name, spread_text(ratios), f"≤ {aim:g}", verdict(ratios, aim)]


STORED = "bytes stored"


def _of_title(section: Section, title: str) -> Contest | None:
    return next((contest for contest in section.contests if contest.title == title), None)


def _seconds(contest: Contest) -> float:
    costs = contest.costs[contest.opskit.name].values()
    return Spread.of([cost.seconds for cost in costs]).median
