"""The way through the WAL archive that a recovery takes: which segments, of which timelines, and how far."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from opskit.errors import NotFoundError
from opskit.model.backup import BaseBackup
from opskit.model.lsn import Lsn
from opskit.model.timeline import TimelineHistory
from opskit.model.wal import WalSegment
from opskit.postgres.programs import Programs
from opskit.postgres.waldump import LoggedEnd, LoggedRecords, LogStretch, read_log
from opskit.repository.wal import Partial, WalArchive


@dataclass(frozen=True, slots=True)
class WalPath:
    """Contiguous segments from a backup on, along one timeline's history.

    `partial` is the beginning of the segment behind the last one. `gap` is the first segment that is not whole although
    the archive goes on behind it; `None` when the path ends where the archive does. `stored_bytes` is the segments'.
    """

    history: TimelineHistory
    segments: tuple[WalSegment, ...]
    partial: Partial | None
    gap: WalSegment | None
    stored_bytes: int

    @property
    def end(self) -> Lsn | None:
        """The address behind the last byte; `None` for an empty path."""
        if self.partial is not None:
            return self.partial.end
        return self.segments[-1].end if self.segments else None

    @property
    def names(self) -> tuple[WalSegment, ...]:
        """All segments, the partial's too."""
        return self.segments if self.partial is None else (*self.segments, self.partial.segment)


class PathFinder:
    """Finds paths in one archive; lists each timeline once."""

    def __init__(self, archive: WalArchive) -> None:
        self._archive = archive
        self._sizes: dict[WalSegment, int] = {}
        self._partials: dict[WalSegment, Partial] = {}
        self._known: set[int] = set()
        self._last: dict[int, int] = {}

    @cached_property
    def histories(self) -> list[TimelineHistory]:
        """The histories of the archive's timelines, newest first; those without a history file are left out."""
        found = []
        for timeline in reversed(self._archive.timelines()):
            try:
                found.append(self._archive.history(timeline))
            except NotFoundError:
                continue
        return found

    def from_backup(self, backup: BaseBackup, history: TimelineHistory) -> WalPath:
        """The path from the segment in which the backup's stop lies, as far as the archive leads."""
        size = self._archive.segment_bytes
        number = WalSegment.ending_at(backup.stop_lsn, backup.timeline, size).number
        segments: list[WalSegment] = []
        stored = 0
        while (segment := self._on_path(history, number)) in self._sizes:
            segments.append(segment)
            stored += self._sizes[segment]
            number += 1
        partial = self._partials.get(segment)
        if partial is not None and partial.end < backup.stop_lsn:
            partial = None  # from it alone, the copy would not even become consistent
        return WalPath(
            history,
            tuple(segments),
            partial,
            segment if self._goes_on(history, number + 1) else None,
            stored,
        )

    def stored_bytes(self, segment: WalSegment) -> int:
        """What a whole segment of a path takes in the repository."""
        return self._sizes[segment]

    def _on_path(self, history: TimelineHistory, number: int) -> WalSegment:
        """The segment of that number: of the newest timeline that begins before its end, as recovery chooses it."""
        size = self._archive.segment_bytes
        end = (number + 1) * size
        timeline = max(s.timeline for s in history.stretches if s.start < end)
        self._list(timeline)
        return WalSegment(timeline, number, size)

    def _goes_on(self, history: TimelineHistory, number: int) -> bool:
        """Whether the archive holds a segment of a history, of that number or a later one."""
        if history.timeline not in self._last:
            for stretch in history.stretches:
                self._list(stretch.timeline)
            held = [s for s in (*self._sizes, *self._partials) if self._is_on(history, s)]
            self._last[history.timeline] = max((s.number for s in held), default=-1)
        return self._last[history.timeline] >= number

    def _is_on(self, history: TimelineHistory, segment: WalSegment) -> bool:
        return self._on_path(history, segment.number) == segment

    def _list(self, timeline: int) -> None:
        if timeline in self._known:
            return
        self._known.add(timeline)
        for stored in self._archive.segments(timeline):
            self._sizes[stored.segment] = stored.stored_bytes
        for partial in self._archive.partials(timeline):
            self._partials[partial.segment] = partial


class LogReader:
    """Reads what the segments of a path hold; each segment is brought from the archive and read once."""

    def __init__(self, archive: WalArchive, programs: Programs, path: WalPath) -> None:
        self._archive = archive
        self._programs = programs
        self._path = path
        self._read: dict[tuple[int, bool], LoggedRecords] = {}

    def records(self, index: int, *, every_record: bool = False) -> LoggedRecords:
        """What begins in the path's segment of that index."""
        key = (index, every_record or (index, True) in self._read)
        if key not in self._read:
            segment = self._path.names[index]
            with self._materialized(index) as directory:
                timeline = self._path.history.timeline
                stretch = LogStretch(directory, timeline, segment.start, segment.end)
                self._read[key] = read_log(self._programs, stretch, every_record=every_record)
        return self._read[key]

    def last_end(self) -> tuple[int, LoggedEnd] | None:
        """The last end of a transaction on the path, and its segment by its index."""
        for index in reversed(range(len(self._path.names))):
            if ends := self.records(index).ends:
                return index, ends[-1]
        return None

    def last_record(self) -> Lsn | None:
        """Where the path's last record begins."""
        for index in reversed(range(len(self._path.names))):
            if (record := self.records(index, every_record=True).last_record) is not None:
                return record
        return None

    @contextmanager
    def _materialized(self, index: int) -> Iterator[Path]:
        """A directory with a segment and the next one, which a record may reach into, named for the newest timeline."""
        with tempfile.TemporaryDirectory(prefix="opskit-wal-") as place:
            for segment in self._path.names[index : index + 2]:
                named = WalSegment(self._path.history.timeline, segment.number, segment.size)
                (Path(place) / named.name).write_bytes(
                    segment_content(self._archive, self._path, segment)
                )
            yield Path(place)


def segment_content(archive: WalArchive, path: WalPath, segment: WalSegment) -> bytes:
    """A segment of a path at its full size: the partial's missing end is zero bytes, as in a server's own files."""
    if path.partial is None or segment != path.partial.segment:
        return archive.segment(segment)
    if archive.holds(segment):  # it has become whole since
        return archive.segment(segment)
    return archive.partial(segment).ljust(segment.size, b"\0")
