"""The way through a WAL archive is the one that an obvious reader of single bytes takes, whatever the archive lacks."""

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from hypothesis import assume, given
from hypothesis import strategies as st

from opskit.model.backup import BaseBackup
from opskit.model.lsn import Lsn
from opskit.model.timeline import read_history
from opskit.model.wal import WalSegment
from opskit.operations.wal_path import PathFinder
from opskit.repository.wal import WalArchive, contiguous
from opskit.store import MemoryStore
from tests.property import repeatable
from tests.support.records import record

SIZE = 16  # bytes a segment: enough for a partial to be shorter
SEGMENTS = 6
places = st.tuples(st.integers(1, 3), st.integers(0, SEGMENTS - 1))


@dataclass(frozen=True)
class Shape:
    """An archive: where each timeline branched off which, and what of it is held.

    `forks` is (parent, LSN) of the timelines from 2 on; `partials` are lengths.
    """

    forks: tuple[tuple[int, int], ...]
    whole: frozenset[tuple[int, int]]
    partials: dict[tuple[int, int], int]

    def starts(self, timeline: int) -> list[tuple[int, int]]:
        """Where the timelines begin that lead to `timeline`, itself the last."""
        if timeline == 1:
            return [(1, 0)]
        parent, lsn = self.forks[timeline - 2]
        return [*self.starts(parent), (timeline, lsn)]

    def history_file(self, timeline: int) -> bytes:
        """As PostgreSQL writes it."""
        starts = self.starts(timeline)
        lines = (f"{t}\t{Lsn(end)}\treason\n" for (t, _), (_, end) in pairwise(starts))
        return "".join(lines).encode()

    def holds(self, path: int, byte: int) -> bool:
        """Whether the byte is held on the way to the timeline `path`.

        A segment is of the timeline that its last byte is of.
        """
        number, last = byte // SIZE, byte // SIZE * SIZE + SIZE - 1
        place = [t for t, start in self.starts(path) if start <= last][-1], number
        return place in self.whole or byte % SIZE < self.partials.get(place, 0)


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Archives of one to three timelines, each of which branched off an earlier one."""
    forks: list[tuple[int, int]] = []
    begins = {1: 0}
    for timeline in range(2, draw(st.integers(1, 3)) + 1):
        parent = draw(st.integers(1, timeline - 1))
        lsn = draw(st.integers(begins[parent] + 1, SIZE * SEGMENTS - 3 + timeline))
        forks.append((parent, lsn))
        begins[timeline] = lsn
    dense = draw(st.frozensets(places, max_size=4))  # what is missing, or what is there
    everything = {(t, n) for t in range(1, 4) for n in range(SEGMENTS)}
    whole = everything - dense if draw(st.booleans()) else dense
    partials = draw(st.dictionaries(places, st.integers(1, SIZE - 1), max_size=4))
    known = set(begins)
    return Shape(
        tuple(forks),
        frozenset(p for p in whole if p[0] in known),
        {p: length for p, length in partials.items() if p[0] in known},
    )


def build(shape: Shape) -> WalArchive:
    """The archive of that shape."""
    archive = WalArchive(MemoryStore(), "main", SIZE)
    for number in range(len(shape.forks)):
        archive.put_history(number + 2, shape.history_file(number + 2))
    for place in shape.whole:
        archive.put_segment(WalSegment(*place, SIZE), bytes(SIZE))
    for place, length in shape.partials.items():
        archive.put_partial(WalSegment(*place, SIZE), bytes(length))
    return archive


def backup_ending(lsn: int, timeline: int) -> BaseBackup:
    """A backup that ends there."""
    return record(
        datetime(2026, 11, 22, 14, 3, 5, tzinfo=UTC),
        start_lsn=Lsn(0),
        stop_lsn=Lsn(lsn),
        timeline=timeline,
        wal_segment_bytes=SIZE,
    )


@repeatable
@given(shapes(), st.integers(1, 3), st.integers(1, 3), st.integers(1, SIZE * SEGMENTS))
def test_a_path_goes_as_far_as_bytes_follow_bytes(
    shape: Shape, timeline: int, own: int, stop: int
) -> None:
    """It begins in the segment of the backup's end and ends before the first missing byte; a gap has more behind it."""
    assume(timeline <= len(shape.forks) + 1)
    history = read_history(timeline, shape.history_file(timeline))
    assume(history.passes(own, stop))
    path = PathFinder(build(shape)).from_backup(backup_ending(stop, own), history)

    first = (stop - 1) // SIZE * SIZE
    byte = first
    while shape.holds(timeline, byte):
        byte += 1
    behind = byte // SIZE * SIZE + SIZE
    goes_on = any(shape.holds(timeline, b) for b in range(behind, SIZE * (SEGMENTS + 1)))
    # What does not even reach the backup's end is of no use.
    assert path.end == (byte if byte > first and byte >= stop else None)
    assert (path.gap.number if path.gap else None) == (byte // SIZE if goes_on else None)
    for segment in path.names:
        assert shape.holds(timeline, segment.start)
        assert segment.timeline == history.at(segment.end - 1).timeline
    numbers = [segment.number for segment in path.names]
    assert numbers == list(range(first // SIZE, first // SIZE + len(numbers)))


@repeatable
@given(shapes())
def test_the_archive_s_histories_are_the_files_that_were_put(shape: Shape) -> None:
    """Each timeline is known with the stretches that lead to it, the newest first."""
    histories = PathFinder(build(shape)).histories
    held = {1} & {timeline for timeline, _ in (*shape.whole, *shape.partials)}
    known = {number + 2 for number in range(len(shape.forks))} | held
    assert [h.timeline for h in histories] == sorted(known, reverse=True)
    for history in histories:
        assert [(s.timeline, s.start) for s in history.stretches] == shape.starts(history.timeline)


@repeatable
@given(shapes())
def test_ranges_are_runs_of_segments(shape: Shape) -> None:
    """Two segments are in one range just when every segment between them is there."""
    archive = build(shape)
    for timeline in archive.timelines():
        ranges = contiguous(archive.segments(timeline))
        held = {number for t, number in shape.whole if t == timeline}
        covered = [n for r in ranges for n in range(r.first.number, r.last.number + 1)]
        assert covered == sorted(held)
        assert all(r.last.number + 1 not in held for r in ranges)
        assert sum(r.stored_bytes for r in ranges) == sum(
            s.stored_bytes for s in archive.segments(timeline)
        )
