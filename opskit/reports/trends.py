"""Charts over time: how backups change from one to the next, and how a repository grows."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from opskit.model.backup import BackupKind, BaseBackup
from opskit.reports.drawing import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    WIDTH,
    Chart,
    bare,
    svg,
    time_axis,
    titled,
)
from opskit.reports.format import format_bytes, format_duration, format_time

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POINTS = 300
# Seconds between the ticks of a duration, as clocks are read.
_STEPS = (
    0.1,
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    20,
    30,
    60,
    120,
    300,
    600,
    1200,
    1800,
    3600,
    7200,
    14400,
    43200,
)
_TICKS = 3
_LIGHT_BLUE = "#9CC9E8"
_MARKS = {
    BackupKind.FULL: ("o", BLUE, "● full"),
    BackupKind.INCREMENTAL: ("^", ORANGE, "▲ incremental"),
}


def backups_chart(backups: Sequence[BaseBackup]) -> Chart:
    """What each backup takes in the repository, and how long it took, over time."""
    from matplotlib.figure import Figure

    ordered = sorted(backups, key=lambda backup: backup.started_at)
    kinds = [kind for kind in BackupKind if any(b.kind is kind for b in ordered)]
    figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
    titled(figure, "Backups over time")
    sizes, durations = figure.subplots(2, 1, sharex=True)
    for kind in kinds:
        some = [backup for backup in ordered if backup.kind is kind]
        times = [backup.started_at for backup in some]
        _stems(sizes, times, [backup.stored_bytes for backup in some], kind)
        _stems(durations, times, [_seconds(backup) for backup in some], kind)
    _scale(sizes, "stored", format_bytes)
    _scale(durations, "took", lambda value: format_duration(timedelta(seconds=value)), _STEPS)
    time_axis(durations, [backup.started_at for backup in ordered])
    legend = "".join(f"{_MARKS[kind][2]}   " for kind in kinds) if len(kinds) > 1 else ""
    durations.set_xlabel(legend + "times in UTC", fontsize=10, color=INK, loc="left")
    return Chart(svg=svg(figure), text=_told(ordered))


def growth_chart(
    backups: Sequence[BaseBackup], wal: Sequence[tuple[datetime, int]], title: str
) -> Chart:
    """How the room that is taken came together: backups, and above them the WAL archive.

    Parameters
    ----------
    wal
        When each segment was stored, and its stored bytes.
    """
    parts = {
        "backups": sorted((b.stopped_at, b.stored_bytes) for b in backups),
        "WAL": sorted(wal),
    }
    times = sorted(at for part in parts.values() for at, _ in part)
    if times:  # what came last is seen by the room that it takes from then on
        times.append(times[-1] + max((times[-1] - times[0]) / 25, timedelta(seconds=1)))
    times = _thinned(times)
    curves = {name: _summed(part, times) for name, part in parts.items()}
    figure = _areas(title, times, curves)
    ends = [f"{name} {format_bytes(curve[-1])}" for name, curve in curves.items() if times]
    since = f" since {format_time(times[0])}" if times else ""
    told = f"{', '.join(ends)}{since}" if times else "nothing"
    return Chart(svg=svg(figure), text=f"Area chart, {title[0].lower()}{title[1:]}: {told}.")


def _areas(title: str, times: Sequence[datetime], curves: dict[str, list[int]]) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 2.3), layout="constrained")
    titled(figure, title)
    axes: Any = figure.add_subplot()
    # Whoever stands at the right edge reads the end: the names stand there.
    below = [0] * len(times)
    for (name, curve), colour in zip(curves.items(), (BLUE, _LIGHT_BLUE), strict=True):
        top = [low + value for low, value in zip(below, curve, strict=True)]
        axes.fill_between(times, below, top, step="post", color=colour, linewidth=0)
        below = top
        if curve and curve[-1]:
            label = f"{name} {format_bytes(curve[-1])}"
            axes.plot([], [], "s", color=colour, label=label)
    _scale(axes, "", format_bytes)
    time_axis(axes, times)
    axes.set_xlabel("times in UTC", fontsize=10, color=INK, loc="left")
    if any(curve and curve[-1] for curve in curves.values()):
        axes.legend(loc="upper left", frameon=False, fontsize=10, labelcolor=INK, reverse=True)
    return figure


def _thinned(times: list[datetime]) -> list[datetime]:
    """At most so many of the times that a chart stays small, with the first and the last."""
    if len(times) <= _POINTS:
        return times
    begin, step = times[0], (times[-1] - times[0]) / (_POINTS - 1)
    return [*(begin + n * step for n in range(_POINTS - 1)), times[-1]]


def _summed(part: Sequence[tuple[datetime, int]], times: Sequence[datetime]) -> list[int]:
    """What had been stored at each of `times`."""
    moments = [at for at, _ in part]
    sums = list(accumulate((size for _, size in part), initial=0))
    return [sums[bisect_right(moments, at)] for at in times]


def _stems(axes: "Axes", times: Sequence[Any], values: Sequence[float], kind: BackupKind) -> None:
    mark, colour, _ = _MARKS[kind]
    axes.vlines(times, 0, values, color=colour, linewidth=1, alpha=0.45)
    axes.plot(times, values, mark, color=colour, markersize=5, clip_on=False)


def _scale(
    axes: Any, name: str, shown: Callable[[float], str], steps: Sequence[float] = ()
) -> None:
    """Lay out a vertical axis from zero, with a few ticks: at a multiple of one of `steps`, if there are any."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

    top = max(axes.get_ylim()[1] * 1.08, 1e-9)
    axes.set_ylim(bottom=0, top=top)
    step = next((step for step in steps if top / step <= _TICKS), None)
    locator = MultipleLocator(step) if step else MaxNLocator(nbins=_TICKS, steps=[1, 2, 5, 10])
    axes.yaxis.set_major_locator(locator)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value) if value else "0"))
    axes.tick_params(axis="both", labelsize=10, labelcolor=INK)
    axes.grid(axis="y", color=GREY, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_ylabel(name, fontsize=10, color=INK)
    bare(axes)


def _seconds(backup: BaseBackup) -> float:
    return (backup.stopped_at - backup.started_at).total_seconds()


def _told(ordered: Sequence[BaseBackup]) -> str:
    if not ordered:
        return "Chart, backups over time: no backup."

    def ends(values: Sequence[str]) -> str:
        return values[0] if len(values) == 1 else f"from {values[0]} at first to {values[-1]} now"

    sizes = ends([format_bytes(backup.stored_bytes) for backup in ordered])
    took = ends([format_duration(backup.stopped_at - backup.started_at) for backup in ordered])
    count = f"{len(ordered)} backup{'s'[: len(ordered) != 1]}"
    return f"Chart, backups over time: {count}; stored {sizes}; took {took}."
