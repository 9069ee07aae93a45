"""What a WAL archive holds, timeline by timeline, and what is missing between."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from opskit.errors import NotFoundError
from opskit.model.backup import BaseBackup
from opskit.model.lsn import Lsn
from opskit.model.timeline import TimelineHistory
from opskit.model.wal import WalSegment
from opskit.repository.wal import Partial, StoredSegment, WalArchive, WalRange, contiguous


@dataclass(frozen=True, slots=True, kw_only=True)
class WalGap:
    """Missing segments of a timeline, the first and the last of them included.

    `backups` are those that cannot be recovered past it, newest first; a gap that is older than every backup has none.
    """

    first: WalSegment
    last: WalSegment
    backups: tuple[str, ...] = ()

    @property
    def segments(self) -> int:
        """How many."""
        return self.last.number - self.first.number + 1

    @property
    def matters(self) -> bool:
        """Whether a backup needs it."""
        return bool(self.backups)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineWal:
    """What the archive holds of a timeline: contiguous ranges, and the beginning of the segment behind the last one.

    `stored_at` is when the newest of it was put (aware, UTC).
    """

    timeline: int
    ranges: tuple[WalRange, ...]
    partial: Partial | None
    stored_at: datetime

    @property
    def end(self) -> Lsn:
        """The address behind the last byte."""
        if self.partial is not None:
            return self.partial.end
        return self.ranges[-1].end


def survey_timelines(archive: WalArchive) -> list[TimelineWal]:
    """What the archive holds, by rising timeline; timelines of which it has a history file alone are left out."""
    found = (_timeline(archive, timeline) for timeline in archive.timelines())
    return [one for one in found if one is not None]


def find_gaps(
    archive: WalArchive, timelines: Sequence[TimelineWal], backups: Sequence[BaseBackup]
) -> list[WalGap]:
    """Everything that is missing, by rising timeline and address; `backups` are the cluster's, newest first."""
    histories = {one.timeline: _history(archive, one.timeline) for one in timelines}
    found = []
    for one in timelines:
        for first, last in _missing(one, timelines, histories, archive.segment_bytes):
            hit = tuple(b.name for b in backups if _needs(b, last, histories[one.timeline]))
            found.append(WalGap(first=first, last=last, backups=hit))
    return found


def _timeline(archive: WalArchive, timeline: int) -> TimelineWal | None:
    partials = archive.partials(timeline)  # first: one becomes whole at any time
    segments: list[StoredSegment] = archive.segments(timeline)
    if not segments and not partials:
        return None
    newest = segments[-1].segment if segments else None
    last = partials[-1] if partials else None
    if last is not None and newest is not None and last.segment <= newest:
        last = None  # the beginning of a segment in a gap
    times = [s.stored_at for s in segments] + [p.stored_at for p in partials]
    return TimelineWal(
        timeline=timeline,
        ranges=tuple(contiguous(segments)),
        partial=last,
        stored_at=max(times),
    )


def _missing(
    one: TimelineWal,
    timelines: Sequence[TimelineWal],
    histories: dict[int, TimelineHistory | None],
    size: int,
) -> list[tuple[WalSegment, WalSegment]]:
    """From the fork that the timeline began with to the fork that a later one left it at, as far as they are known."""
    held = [(r.first.number, r.last.number) for r in one.ranges]
    if one.partial is not None:
        held.append((one.partial.segment.number, one.partial.segment.number))
    history = histories[one.timeline]
    expected = held[0][0]
    if history is not None and any(
        history.stretch_of(t.timeline) for t in timelines if t.timeline < one.timeline
    ):
        expected = history.stretches[-1].start // size
    missing = []
    for first, last in held:
        if first > expected:
            missing.append((expected, first - 1))
        expected = last + 1
    forks = [
        stretch.end // size
        for later in timelines
        if later.timeline > one.timeline
        and (path := histories[later.timeline]) is not None
        and (stretch := path.stretch_of(one.timeline)) is not None
        and stretch.end is not None
    ]
    if forks and max(forks) > expected:
        missing.append((expected, max(forks) - 1))
    return [
        (WalSegment(one.timeline, a, size), WalSegment(one.timeline, b, size)) for a, b in missing
    ]


def _needs(backup: BaseBackup, last: WalSegment, history: TimelineHistory | None) -> bool:
    """Whether the way on from the backup leads through a gap that ends with the segment `last`."""
    begins = WalSegment.ending_at(backup.stop_lsn, backup.timeline, last.size)
    if begins.number > last.number:
        return False
    if backup.timeline == last.timeline:
        return True
    return history is not None and history.passes(backup.timeline, backup.stop_lsn)


def _history(archive: WalArchive, timeline: int) -> TimelineHistory | None:
    try:
        return archive.history(timeline)
    except NotFoundError:
        return None
