"""Charts of a report: drawn by matplotlib without its global state, as SVG, with what they say also in words.

The blue is Okabe and Ito's, which people with any colour vision see well; no chart tells a thing by colour alone.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from opskit.reports.format import format_bytes, format_duration

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, GREY, INK = "#0072B2", "#6B7280", "#1F2937"
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


def durations_chart(durations: Sequence[tuple[str, timedelta]]) -> Chart:
    """How long each named part took, as bars in the order they ran."""
    seconds = [duration.total_seconds() for _, duration in durations]
    labels = [format_duration(duration) for _, duration in durations]
    figure = _bars("How long each step took", [name for name, _ in durations], seconds, labels)
    told = ", ".join(f"{name} {label}" for (name, _), label in zip(durations, labels, strict=True))
    return Chart(
        svg=_svg(figure), text=f"Bar chart, how long each step took: {told or 'nothing ran'}."
    )


def sizes_chart(backups: Sequence[tuple[datetime, str, int]]) -> Chart:
    """What backups take in the repository: start, trigger (``scheduled``, ``on demand``) and stored bytes of each.

    The newest is at the bottom, where the eye ends.
    """
    ordered = sorted(backups)
    names = [f"{started:%Y-%m-%d %H:%M} UTC" for started, _, _ in ordered]
    labels = [
        format_bytes(size) + ("" if trigger == "scheduled" else f" ({trigger})")
        for _, trigger, size in ordered
    ]
    figure = _bars(
        "What the last backups take", names, [float(size) for _, _, size in ordered], labels
    )
    told = ", ".join(f"{name} {label}" for name, label in zip(names, labels, strict=True))
    return Chart(
        svg=_svg(figure), text=f"Bar chart, what the last backups take: {told or 'no backup'}."
    )


def _bars(
    title: str, names: Sequence[str], values: Sequence[float], labels: Sequence[str]
) -> "Figure":
    from matplotlib.figure import Figure

    rows = max(len(names), 1)
    figure = Figure(figsize=(WIDTH, 0.55 + 0.31 * rows), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=11, fontweight="bold")
    axes = figure.add_subplot()
    bars = axes.barh(range(len(names)), values, height=0.62, color=BLUE)
    axes.bar_label(bars, labels=list(labels), padding=5, fontsize=10, color=INK)
    axes.set_yticks(range(len(names)), [_shortened(name) for name in names], fontsize=10, color=INK)
    axes.set_ylim(rows - 0.5, -0.5)
    # The numbers stand at the bars: no axis, grid or frame says them again. Room for the labels at the right.
    axes.set_xlim(0, max([*values, 0.0]) * 1.32 or 1)
    axes.xaxis.set_visible(False)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set_color(GREY)
    return figure


def _shortened(name: str) -> str:
    # A dollar sign would start matplotlib's mathematics.
    return (name if len(name) <= 34 else name[:33] + "…").replace("$", r"\$")


def _svg(figure: "Figure") -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
