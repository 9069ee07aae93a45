"""What a picture of what can be restored is drawn from: the ranges, the backups, the window, and all of it in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd

from opskit.model.reach import Range, Reach
from opskit.operations.recoverable import NO_WAL
from opskit.reports.format import format_time

WIDTH = 900.0
LEFT, RIGHT = 86.0, 14.0
SHORTEST = timedelta(seconds=1)
NAMED_GAPS = 20
_MARGIN = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A complete backup, at its end: from there on it can be restored."""

    at: datetime
    name: str
    kind: str
    trigger: str
    timeline: int


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to draw; the backups by rising time."""

    reach: Reach
    marks: Sequence[Mark]

    @property
    def timelines(self) -> list[int]:
        """The timelines, the newest first."""
        return sorted({*self.reach.timelines, *(m.timeline for m in self.marks)}, reverse=True)


@dataclass(frozen=True, slots=True)
class Window:
    """The stretch of time that is shown, and how many pixels wide the whole picture is."""

    start: datetime
    end: datetime
    width: float = WIDTH

    def x(self, time: datetime) -> float:
        """Where a time is, in pixels; what lies outside is at the edge."""
        share = (time - self.start) / (self.end - self.start)
        return LEFT + min(max(share, 0.0), 1.0) * (self.width - LEFT - RIGHT)

    def shows(self, start: datetime, end: datetime) -> bool:
        """Whether something between two times is in it."""
        return end >= self.start and start <= self.end


def read_scene(intervals: pd.DataFrame, backups: pd.DataFrame) -> Scene:
    """What `Cluster.recoverable` and `Cluster.backups` tell; of the backups only the complete ones."""
    ranges = [
        Range(
            timeline=int(timeline),
            from_at=from_at,
            to_at=to_at,
            ends_because=str(because),
            leads_on=because != NO_WAL,
        )
        for timeline, from_at, to_at, because in zip(
            intervals["timeline"],
            _times(intervals["from_at"]),
            _times(intervals["to_at"]),
            intervals["ends_because"],
            strict=True,
        )
    ]
    complete = backups[backups["status"] == "complete"].sort_values("stopped_at")
    marks = [
        Mark(at=at, name=name, kind=kind, trigger=trigger, timeline=int(timeline))
        for at, name, kind, trigger, timeline in zip(
            _times(complete["stopped_at"]),
            *(complete[column].tolist() for column in ("name", "kind", "trigger", "timeline")),
            strict=True,
        )
    ]
    return Scene(Reach(ranges), marks)


def _times(column: "pd.Series[pd.Timestamp]") -> Sequence[datetime]:
    return list(pd.DatetimeIndex(column).to_pydatetime())


def whole(scene: Scene, now: datetime, width: float = WIDTH) -> Window:
    """The window that shows everything."""
    times = [time for time in (scene.reach.first, scene.reach.last) if time is not None]
    times += [scene.marks[0].at, scene.marks[-1].at] if scene.marks else []
    start, end = min(times, default=now - timedelta(days=1)), max(times, default=now)
    room = max((end - start) * _MARGIN, SHORTEST)
    return Window(start - room, end + room, width)


def told(scene: Scene) -> list[str]:
    """A sentence for each timeline, and one for each gap as far as there is room, the newest gaps first."""
    sentences = [_lane_told(scene, timeline) for timeline in scene.timelines]
    gaps = sorted(scene.reach.gaps, key=lambda gap: gap.after, reverse=True)
    sentences += [f"Gap on timeline {gap.timeline}: {gap}." for gap in gaps[:NAMED_GAPS]]
    if len(gaps) > NAMED_GAPS:
        sentences.append(f"And {len(gaps) - NAMED_GAPS:,} older gaps.")
    return sentences or ["Nothing can be restored yet: there is no backup."]


def counted(marks: Sequence[Mark]) -> str:
    """So many backups, by kind: ``3 full and 1 incremental backup``."""
    kinds = {kind: sum(m.kind == kind for m in marks) for kind in ("full", "incremental")}
    parts = [f"{count:,} {kind}" for kind, count in kinds.items() if count]
    return f"{' and '.join(parts) or 'no'} backup{'' if len(marks) == 1 else 's'}"


def _lane_told(scene: Scene, timeline: int) -> str:
    marks = [mark for mark in scene.marks if mark.timeline == timeline]
    ranges = scene.reach.ranges.get(timeline, [])
    if not ranges:
        return f"Timeline {timeline}: {counted(marks)}, from which nothing leads on."
    gaps = sum(not b.is_idle for b in scene.reach.breaks[timeline])
    apart = f" with {gaps:,} gap{'s'[: gaps != 1]}" if gaps else " without a gap"
    first, last = ranges[0], ranges[-1]
    return (
        f"Timeline {timeline}: {format_time(first.from_at)} to {format_time(last.to_at)}{apart},"
        f" {counted(marks)}; {last.ends_because}."
    )
