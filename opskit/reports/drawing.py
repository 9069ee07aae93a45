"""What the charts of a report are drawn with: matplotlib without its global state, as SVG, and told in words.

Blue and orange are Okabe and Ito's, which people with any colour vision see well; no chart tells a thing by colour
alone.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY, INK = "#0072B2", "#D55E00", "#6B7280", "#1F2937"
WIDTH = 6.2  # inches; a phone shows it at half the size, and 10 points stay legible


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart that a notebook can show; `text` says what it shows, for those who do not see it."""

    svg: str
    text: str

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return {"image/svg+xml": self.svg, "text/plain": self.text}

    def __repr__(self) -> str:
        return self.text


def time_axis(axes: "Axes", times: Sequence[datetime]) -> None:
    """Lay out a horizontal axis for `times`, in UTC; none when there is no time."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

    axes.xaxis.set_visible(bool(times))
    if times:
        room = max((max(times) - min(times)) * 0.04, timedelta(seconds=1))
        axes.set_xlim(date2num(min(times) - room), date2num(max(times) + room))
    locator = AutoDateLocator(tz=UTC, minticks=3, maxticks=7)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))


def titled(figure: "Figure", title: str) -> None:
    """Head a figure."""
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=11, fontweight="bold")


def bare(axes: "Axes") -> None:
    """Take away what says nothing: ticks at names, and the frame."""
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set_color(GREY)


def svg(figure: "Figure") -> str:
    """A figure as SVG, without the time it was made at."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
