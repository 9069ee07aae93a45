"""Where a stream of WAL has to begin, so that the archive has no gap: by what is there, and by what the slot keeps."""

import logging
from dataclasses import dataclass

from opskit.errors import IntegrityError, NotFoundError
from opskit.model.lsn import Lsn
from opskit.model.timeline import Stretch, TimelineHistory
from opskit.model.wal import WalSegment
from opskit.repository.wal import WalArchive

_log = logging.getLogger(__name__)

_COMPARED = 2


@dataclass(frozen=True, slots=True)
class StoredPartial:
    """The beginning of a segment that is in the archive already."""

    segment: WalSegment
    content: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """Where to begin: at the start of `segment`. All before `durable`, which may lie behind it, is in the archive."""

    segment: WalSegment
    durable: Lsn
    partial: StoredPartial | None = None


def place_of(segment: WalSegment) -> Place:
    """The beginning of a segment of which the archive has nothing."""
    return Place(segment, segment.start)


def archive_place(
    archive: WalArchive, history: TimelineHistory, restart: Lsn | None
) -> Place | None:
    """Where to go on, on the path of `history`; `None` when the archive has nothing on it.

    Behind what the archive has; or earlier, where it lacks something that the server keeps from `restart` on, as other
    hands may have stored segments. A few that the server keeps although the archive has them are taken once more and
    compared: there the server was not told, or it was set back in time.
    """
    for number, stretch in reversed(list(enumerate(history.stretches))):
        held = {stored.segment.number for stored in archive.segments(stretch.timeline)}
        partials = [p.segment for p in archive.partials(stretch.timeline)]
        if not held and not partials:
            continue
        size = archive.segment_bytes
        end = max([n + 1 for n in held] + [p.number for p in partials])
        if stretch.end is not None and end * size > stretch.end:
            later = history.stretches[number + 1]
            return place_of(WalSegment.holding(stretch.end, later.timeline, size))
        partial = _partial(archive, WalSegment(stretch.timeline, end, size))
        durable = Lsn(end * size + (len(partial.content) if partial else 0))
        first = _begin(stretch, held, end, restart, size)
        if first < end and first not in held:
            durable = Lsn(first * size)
        if stretch.end is not None and durable > stretch.end:  # the rest is not on the path
            durable = stretch.end
        return Place(WalSegment(stretch.timeline, first, size), durable, partial)
    return None


def _begin(stretch: Stretch, held: set[int], end: int, restart: Lsn | None, size: int) -> int:
    if restart is None or not stretch.holds(restart):
        return end
    kept = restart // size
    lacking = next((n for n in range(kept, end) if n not in held), None)
    return lacking if lacking is not None else min(end, max(kept, end - _COMPARED))


def _partial(archive: WalArchive, segment: WalSegment) -> StoredPartial | None:
    try:
        return StoredPartial(segment, archive.partial(segment))
    except NotFoundError:
        return None
    except IntegrityError as error:  # the server has it still, and it is stored anew
        _log.warning("%s", error.message)
        return None
