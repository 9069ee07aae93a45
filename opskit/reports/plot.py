"""Charts for a page that is made after every run: SVG written by hand, in the page's own type and colours.

matplotlib would take longer to load than all the rest of the page.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape

from opskit.reports.format import format_time

_WIDTH, _HEIGHT = 420, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 10, 12, 24
_TICKS = 4
BYTES = tuple(n * 10**power for power in range(18) for n in (1, 2, 5))
SECONDS = (
    *(0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30),
    *(n * 60 for n in (1, 2, 5, 10, 20, 30)),
    *(n * 3600 for n in (1, 2, 4, 8, 12, 24, 48, 96)),
)


@dataclass(frozen=True, slots=True)
class Point:
    """A value at a time, and what it is called."""

    at: datetime
    value: float
    name: str


def plot(
    title: str, points: Sequence[Point], shown: Callable[[float], str], steps: Sequence[float]
) -> str:
    """Values over time, from zero, as an ``<svg>`` that says in words what it shows.

    Parameters
    ----------
    steps
        Distances between ticks that read well, rising.
    """
    points = sorted(points, key=lambda point: point.at)
    top = max([point.value for point in points], default=0) * 1.1 or 1.0
    step = next((step for step in steps if top / step <= _TICKS), top)
    parts = [_line(n * step, top, shown) for n in range(int(top / step) + 1)]
    parts += [_dot(point, points[0].at, points[-1].at, top, shown) for point in points]
    parts += _ends(points)
    told = "nothing yet"
    if points:
        first, last = points[0], points[-1]
        told = f"{shown(last.value)} at {format_time(last.at)}"
        if first is not last:
            told = f"{len(points)} points, from {shown(first.value)} at {format_time(first.at)} to {told}"
    return (
        f'<svg class="plot" role="img" aria-label="{escape(title)}: {escape(told)}"'
        f' viewBox="0 0 {_WIDTH} {_HEIGHT}">{"".join(parts)}</svg>'
    )


def _line(value: float, top: float, shown: Callable[[float], str]) -> str:
    y = _y(value, top)
    label = escape(shown(value)) if value else "0"
    return (
        f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>'
        f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
    )


def _dot(
    point: Point, first: datetime, last: datetime, top: float, shown: Callable[[float], str]
) -> str:
    span = (last - first) or timedelta(seconds=1)
    share = (point.at - first) / span if last > first else 0.5
    inner = _WIDTH - _LEFT - _RIGHT - 12
    x, y = _LEFT + 6 + share * inner, _y(point.value, top)
    said = escape(f"{point.name}: {shown(point.value)}")
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5"><title>{said}</title></circle>'


def _ends(points: Sequence[Point]) -> list[str]:
    """The first and the last time, below the axis."""
    if not points:
        return []
    first, last = points[0].at, points[-1].at
    form = "%Y-%m-%d" if last - first >= timedelta(days=1) else "%Y-%m-%d %H:%M"
    y = _HEIGHT - 6
    if first == last:
        return [
            f'<text x="{(_LEFT + _WIDTH) / 2}" y="{y}" text-anchor="middle">{last:{form}}</text>'
        ]
    return [
        f'<text x="{_LEFT}" y="{y}">{first:{form}}</text>',
        f'<text x="{_WIDTH - _RIGHT}" y="{y}" text-anchor="end">{last:{form}}</text>',
    ]


def _y(value: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - value / top * (_HEIGHT - _TOP - _BOTTOM)
