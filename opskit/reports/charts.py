"""Charts of a report: how long steps took, what backups take, what can be restored."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from opskit.model.reach import Range, Reach
from opskit.operations.recoverable import NO_WAL, Interval
from opskit.reports.drawing import BLUE, INK, ORANGE, WIDTH, Chart, bare, svg, time_axis, titled
from opskit.reports.format import format_bytes, format_duration, format_time

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMED_GAPS = 4
_BAR = 0.34
_LABELLED = 0.07  # of the width: narrower, the word would stand over its neighbours


def durations_chart(durations: Sequence[tuple[str, timedelta]]) -> Chart:
    """How long each named part took, as bars in the order they ran."""
    seconds = [duration.total_seconds() for _, duration in durations]
    labels = [format_duration(duration) for _, duration in durations]
    figure = _bars("How long each step took", [name for name, _ in durations], seconds, labels)
    told = ", ".join(f"{name} {label}" for (name, _), label in zip(durations, labels, strict=True))
    return Chart(
        svg=svg(figure), text=f"Bar chart, how long each step took: {told or 'nothing ran'}."
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
        svg=svg(figure), text=f"Bar chart, what the last backups take: {told or 'no backup'}."
    )


def recoverability_chart(intervals: Sequence[Interval], target: datetime | None = None) -> Chart:
    """What can be restored: a bar for each timeline, a mark for each backup, and the gaps, which are named below.

    Parameters
    ----------
    target
        A time to mark.
    """
    covered = _covered(intervals)
    missing = {interval.ends_because for interval in intervals if interval.missing}
    told = [
        f"timeline {number}: {format_time(part.from_at)} to {format_time(part.to_at)}, {part.ends_because}"
        for number, parts in covered.items()
        for part in parts
    ]
    aim = f"; the target is {format_time(target)}" if target is not None else ""
    return Chart(
        svg=svg(_coverage(covered, missing, [(i.timeline, i.from_at) for i in intervals], target)),
        text=f"Chart, what can be restored: {'; '.join(told) or 'nothing'}{aim}.",
    )


def _covered(intervals: Sequence[Interval]) -> dict[int, list[Range]]:
    """What can be restored on each timeline, both rising; idle times count, as log leads through them."""
    reach = Reach(
        Range(
            timeline=interval.timeline,
            from_at=interval.from_at,
            to_at=interval.to_at,
            ends_because=interval.ends_because,
            leads_on=interval.ends_because != NO_WAL,
        )
        for interval in intervals
    )
    covered: dict[int, list[Range]] = {timeline: [] for timeline in sorted(reach.timelines)}
    for timeline, parts in covered.items():
        for part, before in zip(
            reach.ranges[timeline], [None, *reach.breaks[timeline]], strict=True
        ):
            if before is not None and before.is_idle:
                parts.append(replace(part, from_at=parts.pop().from_at))
            else:
                parts.append(part)
    return covered


def _coverage(
    covered: Mapping[int, Sequence[Range]],
    missing: Collection[str],
    backups: Sequence[tuple[int, datetime]],
    target: datetime | None,
) -> "Figure":
    from matplotlib.dates import date2num
    from matplotlib.figure import Figure

    parts = [(row, part) for row, p in enumerate(covered.values()) for part in p]
    gaps = [(row, a, b) for row, p in enumerate(covered.values()) for a, b in pairwise(p)]
    named = _named_gaps(
        [p for _, p in parts if p.ends_because in missing or any(p is a for _, a, _ in gaps)]
    )
    rows = max(len(covered), 1)
    height = 0.95 + 0.55 * rows + 0.19 * len(named)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    titled(figure, "What can be restored")
    axes = figure.add_subplot()
    times = [at for _, part in parts for at in (part.from_at, part.to_at)]
    span = date2num(max(times)) - date2num(min(times)) if times else 0.0
    for row, part in parts:
        begin, end = date2num(part.from_at), date2num(part.to_at)
        # the line around it shows a bar that is too short to be seen
        axes.barh(
            row, end - begin, left=begin, height=_BAR, color=BLUE, edgecolor=BLUE, linewidth=1
        )
    for row, before, after in gaps:
        begin, end = date2num(before.to_at), date2num(after.from_at)
        bars = axes.barh(row, end - begin, left=begin, height=_BAR, color="none", hatch="////")
        bars[0].set_edgecolor(ORANGE)
        if end - begin > _LABELLED * span:
            middle, above = (begin + end) / 2, row - _BAR / 2 - 0.04
            axes.text(middle, above, "gap", ha="center", fontsize=10, color=INK)
    order = list(covered)
    below = [order.index(timeline) + _BAR / 2 + 0.12 for timeline, _ in backups]
    axes.plot([date2num(at) for _, at in backups], below, "^", color=INK, clip_on=False)
    if target is not None:
        axes.axvline(date2num(target), color=INK, linewidth=1.2, linestyle=(0, (4, 2)))
    axes.set_yticks(range(len(order)), [f"timeline {n}" for n in order], fontsize=10, color=INK)
    axes.set_ylim(rows - 0.4, -0.6)
    time_axis(axes, [*times, *([target] if target is not None else [])])
    legend = "▲ backup" + (", dashed: the target" if target else "") + "; times in UTC"
    axes.set_xlabel("\n".join([legend, *named]), fontsize=10, color=INK, loc="left")
    bare(axes)
    return figure


def _named_gaps(before: Sequence[Range]) -> list[str]:
    """A line for each interval that a gap ends, as far as there is room."""
    lines = [f"gap: {part.ends_because}, timeline {part.timeline}" for part in before]
    if len(lines) > NAMED_GAPS:
        lines[NAMED_GAPS - 1 :] = [f"… and {len(lines) - NAMED_GAPS + 1} gaps more"]
    return lines


def _bars(
    title: str, names: Sequence[str], values: Sequence[float], labels: Sequence[str]
) -> "Figure":
    from matplotlib.figure import Figure

    rows = max(len(names), 1)
    figure = Figure(figsize=(WIDTH, 0.55 + 0.31 * rows), layout="constrained")
    titled(figure, title)
    axes = figure.add_subplot()
    bars = axes.barh(range(len(names)), values, height=0.62, color=BLUE)
    axes.bar_label(bars, labels=list(labels), padding=5, fontsize=10, color=INK)
    axes.set_yticks(range(len(names)), [_shortened(name) for name in names], fontsize=10, color=INK)
    axes.set_ylim(rows - 0.5, -0.5)
    # The numbers stand at the bars: no axis, grid or frame says them again. Room for the labels at the right.
    axes.set_xlim(0, max([*values, 0.0]) * 1.32 or 1)
    axes.xaxis.set_visible(False)
    bare(axes)
    return figure


def _shortened(name: str) -> str:
    # A dollar sign would start matplotlib's mathematics.
    return (name if len(name) <= 34 else name[:33] + "…").replace("$", r"\$")
