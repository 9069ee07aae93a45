"""Which WAL goes into a download: what leads from the backup to the next one of its cluster, or to now."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from opskit.errors import ErrorKind, IntegrityError, NotFoundError
from opskit.model.backup import BaseBackup
from opskit.model.lsn import Lsn
from opskit.model.timeline import TimelineHistory
from opskit.model.wal import WalSegment
from opskit.repository import Repository
from opskit.repository.parts import Part, history_part, partial_part, segment_parts
from opskit.repository.wal import Partial, StoredSegment, WalArchive


@dataclass(frozen=True, slots=True, kw_only=True)
class WalEnd:
    """Where the WAL of a download ends: `lsn` is behind its last byte, on `timeline`.

    `partial_at` is when the beginning of the last segment was stored; `None` where that segment is there as a whole.
    """

    timeline: int
    lsn: Lsn
    partial_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenWal:
    """Contiguous segments, the beginning of the one behind them, and the timelines whose history files they need."""

    archive: WalArchive
    segments: tuple[StoredSegment, ...]
    partial: Partial | None
    timelines: tuple[int, ...]

    @property
    def end(self) -> WalEnd | None:
        """Where it ends; `None` when there is nothing of it."""
        if self.partial is not None:
            stored_at = self.partial.stored_at
            return WalEnd(
                timeline=self.partial.segment.timeline, lsn=self.partial.end, partial_at=stored_at
            )
        if not self.segments:
            return None
        last = self.segments[-1].segment
        return WalEnd(timeline=last.timeline, lsn=last.end, partial_at=None)


def choose_wal(repository: Repository, backup: BaseBackup, until: datetime | None) -> ChosenWal:
    """The WAL from the backup on, along the newest timeline that it leads to.

    It ends in the segment where the next backup on that way stops; with `until` earlier, with the first segment that
    was stored after that time. An archive that has nothing of it, or ends before, is no gap.

    Raises
    ------
    IntegrityError
        A segment is missing, and later ones are there.
    """
    archive = repository.wal(backup.cluster, backup.wal_segment_bytes)
    history = _way_on(archive, backup)
    held = _Held(archive, history)
    stop = WalSegment.ending_at(backup.stop_lsn, backup.timeline, archive.segment_bytes).number
    limit = _next_stop(repository, backup, history, archive.segment_bytes)
    chosen = [*reversed(list(held.before(stop, backup.start_lsn // archive.segment_bytes)))]
    number, is_enough = stop, False
    while not is_enough and (limit is None or number <= limit) and number in held.segments:
        chosen.append(held.segments[number])
        is_enough = until is not None and chosen[-1].stored_at > until
        number += 1
    partial = None
    if not is_enough and (limit is None or number <= limit):
        missing = held.on_way(number)
        if held.goes_on_behind(number):
            raise IntegrityError(
                f"WAL segment {missing.name} is missing between backup {backup.name!r} and later WAL",
                ErrorKind.WAL_GAP,
                "Download the backup without the WAL archive by --no-wal, or --until a time before the gap.",
            )
        partial = held.partials.get(number)
    last = partial.segment if partial else (chosen[-1].segment if chosen else None)
    return ChosenWal(
        archive=archive,
        segments=tuple(chosen),
        partial=partial,
        timelines=_with_history(archive, history, last),
    )


def wal_up_to(repository: Repository, backup: BaseBackup, end: WalEnd) -> ChosenWal:
    """What `choose_wal` gave when its WAL ended there, as far as the archive has it still.

    A segment never changes, and the beginning of one is the beginning of the whole, so it is the same WAL whatever has
    been archived since. What is not there is left out: whoever needs the very same compares `Archive.digest`.
    """
    archive = repository.wal(backup.cluster, backup.wal_segment_bytes)
    history = _history_of(archive, end.timeline)
    held = _Held(archive, history)
    last = WalSegment.ending_at(end.lsn, end.timeline, archive.segment_bytes)
    stop = WalSegment.ending_at(backup.stop_lsn, backup.timeline, archive.segment_bytes).number
    upto = last.number if end.partial_at is not None else last.number + 1
    chosen = [held.segments[n] for n in sorted(held.segments) if stop <= n < upto]
    if chosen:
        before = held.before(stop, backup.start_lsn // archive.segment_bytes)
        chosen = [*reversed(list(before)), *chosen]
    return ChosenWal(
        archive=archive,
        segments=tuple(chosen),
        partial=None if end.partial_at is None else Partial(last, end.lsn, end.partial_at),
        timelines=_with_history(archive, history, last),
    )


def wal_parts(repository: Repository, backup: BaseBackup, chosen: ChosenWal) -> list[Part]:
    """The members of a download that hold the WAL; the last segment's beginning is read now, as it will grow.

    Raises
    ------
    NotFoundError
        The beginning of that segment has been removed.
    """
    if not chosen.segments and chosen.partial is None:
        return []
    owner, archive = repository.owner(backup), chosen.archive
    parts = [history_part(backup, owner, t, archive.history_file(t)) for t in chosen.timelines]
    for stored in chosen.segments:
        parts += segment_parts(archive, backup, owner, stored)
    if chosen.partial is not None:
        segment, at = chosen.partial.segment, chosen.partial.stored_at.timestamp()
        try:
            content = archive.partial(segment)
        except NotFoundError:  # it has become whole in this moment
            content = archive.segment(segment)
        content = content[: chosen.partial.end - segment.start]
        parts.append(partial_part(backup, owner, segment, content, at))
    return parts


class _Held:
    """What the archive holds on a way, by segment number."""

    def __init__(self, archive: WalArchive, history: TimelineHistory) -> None:
        self._history, self._size = history, archive.segment_bytes
        self.segments: dict[int, StoredSegment] = {}
        self.partials: dict[int, Partial] = {}
        for stretch in history.stretches:
            for partial in archive.partials(
                stretch.timeline
            ):  # first: one becomes whole at any time
                if self.on_way(partial.segment.number) == partial.segment:
                    self.partials[partial.segment.number] = partial
            for stored in archive.segments(stretch.timeline):
                if self.on_way(stored.segment.number) == stored.segment:
                    self.segments[stored.segment.number] = stored

    def on_way(self, number: int) -> WalSegment:
        """The segment of that number: of the newest timeline that begins before its end, as recovery chooses it."""
        end = (number + 1) * self._size
        timeline = max(s.timeline for s in self._history.stretches if s.start < end)
        return WalSegment(timeline, number, self._size)

    def before(self, number: int, first: int) -> Iterator[StoredSegment]:
        """The segments from `first` on that lead to `number` without a gap, falling; the snapshot has them too."""
        while number in self.segments and number > first and number - 1 in self.segments:
            number -= 1
            yield self.segments[number]

    def goes_on_behind(self, number: int) -> bool:
        """Whether anything is there behind a segment that is not."""
        return any(n > number for n in (*self.segments, *self.partials))


def _way_on(archive: WalArchive, backup: BaseBackup) -> TimelineHistory:
    for timeline in reversed(archive.timelines()):
        if timeline < backup.timeline:
            break
        history = _history_of(archive, timeline)
        if history.passes(backup.timeline, backup.stop_lsn):
            return history
    return TimelineHistory.alone(backup.timeline)


def _history_of(archive: WalArchive, timeline: int) -> TimelineHistory:
    try:
        return archive.history(timeline)
    except NotFoundError:
        return TimelineHistory.alone(timeline)


def _next_stop(
    repository: Repository, backup: BaseBackup, history: TimelineHistory, size: int
) -> int | None:
    """The number of the segment in which the next backup on the way stops."""
    later = [
        WalSegment.ending_at(other.stop_lsn, other.timeline, size).number
        for other in repository.backups(backup.cluster)
        if other.stop_lsn > backup.stop_lsn and history.passes(other.timeline, other.stop_lsn)
    ]
    return min(later, default=None)


def _with_history(
    archive: WalArchive, history: TimelineHistory, last: WalSegment | None
) -> tuple[int, ...]:
    if last is None:
        return ()
    known = set(archive.timelines())
    wanted = [s.timeline for s in history.stretches if 1 < s.timeline <= last.timeline]
    return tuple(t for t in wanted if t in known and archive.has_history(t))
