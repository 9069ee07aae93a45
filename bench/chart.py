"""The figures as a drawing: opskit's time as a part of each other side's, in SVG that follows a light or dark page."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from bench.contest import Contest, Spread
from bench.large import Section

CHART_TEXT = "opskit's time as a part of each other side's, by the contest; the figures are in the tables below"
_WIDTH, _LEFT, _RIGHT = 900, 400, 90
_LINE, _HEAD, _TOP, _FOOT = 19, 30, 78, 46
_LOW, _HIGH = 0.02, 10.0
_TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

# Okabe and Ito's blue and orange, lighter on dark; a part below and one above 1 differ by place, too.
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2937 }
  .title { font-size: 16px; font-weight: 600 } .head { font-weight: 600 } .small { font-size: 12px; fill: #4b5563 }
  .page { fill: #ffffff } .grid { stroke: #d1d5db } .one { stroke: #4b5563; stroke-width: 1.5 }
  .less { stroke: #0072b2; fill: #0072b2 } .more { stroke: #b34700; fill: #b34700 } .spread { stroke-width: 2.5 }
  .less.hollow, .more.hollow { fill: #ffffff; stroke-width: 2 } .aim { stroke: #1f2937; stroke-width: 2.5 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e5e7eb } .small { fill: #b6bcc6 } .page { fill: #14181f }
    .grid { stroke: #374151 } .one { stroke: #9ca3af } .aim { stroke: #f3f4f6 }
    .less { stroke: #56b4e9; fill: #56b4e9 } .more { stroke: #e69f00; fill: #e69f00 }
    .less.hollow, .more.hollow { fill: #14181f }
  }
"""


@dataclass(frozen=True, slots=True)
class _Line:
    """One other side: the spread of opskit's part at each scale, and the aim."""

    name: str
    spreads: list[Spread]
    at_most: float | None


def chart(sections: Sequence[Section]) -> str:
    """The drawing of the large clusters' contests; the last scale's dots are full, those of the ones before hollow."""
    groups = [(contest.title, _lines(contest, sections)) for contest in sections[-1].contests]
    groups = [(title, lines) for title, lines in groups if lines]
    height = _TOP + _FOOT + sum(_HEAD + _LINE * len(lines) for _, lines in groups)
    scales = [f"{section.scale:g}" for section in sections]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}"'
        f' height="{height}" role="img" aria-label="{escape(CHART_TEXT)}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="page" width="{_WIDTH}" height="{height}" rx="8"/>',
        '<text class="title" x="16" y="28">opskit’s time as a part of the others’ (left of 1: opskit is faster)</text>',
        f'<text class="small" x="16" y="48">{escape(_legend(scales))}</text>',
        *_axis(height),
    ]
    y = float(_TOP)
    for title, lines in groups:
        y += _HEAD
        parts.append(f'<text class="head" x="16" y="{y - 8:g}">{escape(title)}</text>')
        for line in lines:
            parts += _drawn(line, y + _LINE / 2)
            y += _LINE
    return "\n".join([*parts, "</svg>"]) + "\n"


def _lines(contest: Contest, sections: Sequence[Section]) -> list[_Line]:
    same = [one for section in sections for one in section.contests if one.title == contest.title]
    found = []
    for side in contest.others:
        beside = [(one, side.name) for one in same if side.name in one.costs]
        spreads = [
            one.ratios(next(other for other in one.others if other.name == name))
            for one, name in beside
        ]
        if spreads:
            found.append(_Line(side.name, spreads, side.at_most))
    return found


def _legend(scales: list[str]) -> str:
    hollow = f"; hollow: scale {', '.join(scales[:-1])}" if len(scales) > 1 else ""
    return (
        f"dot: median, full at scale {scales[-1]}{hollow}; line: smallest to largest of the rounds;"
        " upright bar: the aim"
    )


def _axis(height: int) -> Iterator[str]:
    for tick in _TICKS:
        x, kind = _x(tick), "one" if tick == 1 else "grid"
        yield f'<line class="{kind}" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{height - _FOOT + 6}"/>'
        for y in (_TOP - 6, height - _FOOT + 22):
            yield f'<text class="small" x="{x:.1f}" y="{y}" text-anchor="middle">{tick:g}</text>'


def _drawn(line: _Line, y: float) -> Iterator[str]:
    yield f'<text x="{_LEFT - 12}" y="{y + 4:g}" text-anchor="end">{escape(line.name)}</text>'
    for number, spread in enumerate(line.spreads):
        is_last = number == len(line.spreads) - 1
        kind = "less" if spread.median <= 1 else "more"
        if is_last:
            yield (
                f'<line class="{kind} spread" x1="{_x(spread.low):.1f}" y1="{y:g}" x2="{_x(spread.high):.1f}"'
                f' y2="{y:g}"/>'
            )
        shape = kind if is_last else f"{kind} hollow"
        yield f'<circle class="{shape}" cx="{_x(spread.median):.1f}" cy="{y:g}" r="{5 if is_last else 4}"/>'
    if line.at_most is not None:
        x = _x(line.at_most)
        yield f'<line class="aim" x1="{x:.1f}" y1="{y - 7:g}" x2="{x:.1f}" y2="{y + 7:g}"/>'
    text = f"{line.spreads[-1].median:.2f}"
    yield f'<text x="{_WIDTH - 16}" y="{y + 4:g}" text-anchor="end">{text}</text>'


def _x(ratio: float) -> float:
    """Where a part is drawn: equal factors are equal distances."""
    within = min(max(ratio, _LOW), _HIGH)
    share = math.log(within / _LOW) / math.log(_HIGH / _LOW)
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)
