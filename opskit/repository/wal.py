"""The WAL archive: segments, the one that is still filling, and timeline history files.

A segment is one object of zstd frames; what a segment's name holds never changes. The *partial* of a segment is its
beginning, as far as the server had written it, in one frame that tells how much that is; it is replaced as it grows and
removed when the whole segment is there.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

import zstandard

from opskit.errors import ConflictError, ErrorKind, IntegrityError, NotFoundError
from opskit.model.lsn import Lsn
from opskit.model.timeline import TimelineHistory, first_timeline, read_history
from opskit.model.wal import (
    SEGMENT_NAME_LENGTH,
    WalSegment,
    history_timeline,
    is_segment_name,
)
from opskit.repository.compression import decompress_frames
from opskit.store import Store

_TIMELINE = re.compile(r"[0-9A-F]{8}")
_FRAME_BYTES = 4 << 20
_COMPRESSING_AT_ONCE = 4
_FRAME_HEADER = 18  # the longest (RFC 8878)
_LEVEL = 1
_WHOLE, _PARTIAL, _HISTORY = ".zst", ".partial.zst", ".history.zst"


@dataclass(frozen=True, slots=True)
class StoredSegment:
    """A segment in the archive: the stored size in bytes, and when it was put (aware, UTC)."""

    segment: WalSegment
    stored_bytes: int
    stored_at: datetime


@dataclass(frozen=True, slots=True)
class WalRange:
    """Contiguous segments of a timeline, the first and the last of them included."""

    first: WalSegment
    last: WalSegment
    stored_bytes: int

    @property
    def start(self) -> Lsn:
        """Where it begins."""
        return self.first.start

    @property
    def end(self) -> Lsn:
        """The address behind its last byte."""
        return self.last.end


@dataclass(frozen=True, slots=True)
class Partial:
    """The stored beginning of a segment, up to but not including `end`."""

    segment: WalSegment
    end: Lsn
    stored_at: datetime


class WalArchive:
    """One cluster's WAL in a store.

    Parameters
    ----------
    segment_bytes
        The cluster's WAL segment size.
    """

    def __init__(self, store: Store, cluster: str, segment_bytes: int) -> None:
        self._store = store
        self._root = f"{cluster}/wal"
        self.segment_bytes = segment_bytes

    def put_segment(self, segment: WalSegment, content: bytes | bytearray | memoryview) -> None:
        """Keep a whole segment, durably, and remove its partial. The same content again is no error.

        Raises
        ------
        ConflictError
            The archive holds other content under that name.
        IntegrityError
            `content` has not the size of a segment.
        """
        view = memoryview(content)
        if len(view) != segment.size:
            raise IntegrityError(
                f"WAL segment {segment.name} has {len(view)} bytes, expected {segment.size}",
                ErrorKind.TRUNCATED,
                "Nothing was stored.",
            )
        self._put_once(self._name(segment, _WHOLE), view, f"WAL segment {segment.name}")
        with suppress(NotFoundError):
            self._store.delete(self._name(segment, _PARTIAL))

    def put_partial(self, segment: WalSegment, content: bytes | bytearray | memoryview) -> None:
        """Keep the beginning of a segment, durably, in place of a shorter one."""
        view = memoryview(content)
        self._store.put(self._name(segment, _PARTIAL), [_compressed(view)], replace=True)

    def put_history(self, timeline: int, content: bytes) -> None:
        """Keep a timeline's history file; errors as `put_segment`."""
        read_history(timeline, content)
        self._put_once(
            f"{self._root}/{timeline:08X}{_HISTORY}",
            memoryview(content),
            f"the history file of timeline {timeline}",
        )

    def segment(self, segment: WalSegment) -> bytes:
        """A whole segment's content.

        Raises
        ------
        NotFoundError
            The archive does not hold it; it may hold its partial.
        IntegrityError
            It is damaged.
        """
        return b"".join(self.pieces(segment))

    def pieces(self, segment: WalSegment) -> Iterator[bytes]:
        """A whole segment's content in pieces; errors as `segment`: what was given counts when there was none."""
        given = 0
        for piece in self._pieces(self._name(segment, _WHOLE)):
            given += len(piece)
            yield piece
        if given != segment.size:
            raise IntegrityError(
                f"WAL segment {segment.name} in the archive has {given} bytes, expected {segment.size}",
                ErrorKind.TRUNCATED,
                "It is damaged; recover to a time before it, or take a new backup.",
            )

    def partial(self, segment: WalSegment) -> bytes:
        """The stored beginning of a segment; errors as `segment`."""
        return self._content(self._name(segment, _PARTIAL))

    def history_file(self, timeline: int) -> bytes:
        """A timeline's history file; errors as `segment`."""
        return self._content(f"{self._root}/{timeline:08X}{_HISTORY}")

    def history(self, timeline: int) -> TimelineHistory:
        """How the log leads to `timeline`; errors as `segment`, but timeline 1 needs no file."""
        return (
            first_timeline()
            if timeline == 1
            else read_history(timeline, self.history_file(timeline))
        )

    def timelines(self) -> list[int]:
        """The timelines that the archive holds segments or a history file of, rising."""
        listing = self._store.list(self._root)
        folders = [folder.rpartition("/")[2] for folder in listing.folders]
        found = {int(name, 16) for name in folders if _TIMELINE.fullmatch(name)}
        for stat in listing.objects:
            timeline = history_timeline(stat.name.rpartition("/")[2].removesuffix(".zst"))
            if timeline is not None:
                found.add(timeline)
        return sorted(found)

    def segments(self, timeline: int) -> list[StoredSegment]:
        """The whole segments of a timeline, rising."""
        return [stored for stored, whole in self._stored(timeline) if whole]

    def partials(self, timeline: int) -> list[Partial]:
        """The partials of a timeline that their whole segment is not there of, rising."""
        stored = list(self._stored(timeline))
        whole = {s.segment for s, is_whole in stored if is_whole}
        return [
            Partial(s.segment, Lsn(s.segment.start + self._partial_bytes(s)), s.stored_at)
            for s, is_whole in stored
            if not is_whole and s.segment not in whole
        ]

    def ranges(self, timeline: int) -> list[WalRange]:
        """The contiguous ranges of whole segments of a timeline, rising; between two of them is a gap."""
        return contiguous(self.segments(timeline))

    def newest(self, timeline: int) -> WalSegment | None:
        """The last segment of a timeline that is there, whole or in part; only the last folders are looked into."""
        for folder in reversed(self._store.list(f"{self._root}/{timeline:08X}").folders):
            names = [stat.name.rpartition("/")[2] for stat in self._store.list(folder).objects]
            if ours := [name for name in names if _is_ours(name)]:
                return WalSegment.parse(max(ours)[:SEGMENT_NAME_LENGTH], self.segment_bytes)
        return None

    def holds(self, segment: WalSegment) -> bool:
        """Whether the whole segment is there."""
        try:
            self._store.stat(self._name(segment, _WHOLE))
        except NotFoundError:
            return False
        return True

    def has_history(self, timeline: int) -> bool:
        """Whether a timeline's history file is there."""
        try:
            self._store.stat(f"{self._root}/{timeline:08X}{_HISTORY}")
        except NotFoundError:
            return False
        return True

    def remove(self, segment: WalSegment) -> None:
        """Remove a segment, whole or partial; one that is not there is no error."""
        self._store.delete(self._name(segment, _PARTIAL))
        self._store.delete(self._name(segment, _WHOLE))

    def stored_pieces(
        self, segment: WalSegment, start: int = 0, stop: int | None = None
    ) -> Iterator[memoryview]:
        """A whole segment's stored bytes; errors as `segment`, damage is not noticed."""
        return self._store.get(self._name(segment, _WHOLE), start, stop)

    def stored_file(self, segment: WalSegment) -> BinaryIO | None:
        """A whole segment's stored bytes as a file; see `Store.file`."""
        return self._store.file(self._name(segment, _WHOLE))

    def _stored(self, timeline: int) -> Iterator[tuple[StoredSegment, bool]]:
        for folder in self._store.list(f"{self._root}/{timeline:08X}").folders:
            for stat in self._store.list(folder).objects:
                name = stat.name.rpartition("/")[2]
                if not _is_ours(name):  # put there by hand
                    continue
                whole = not name.endswith(_PARTIAL)
                segment = WalSegment.parse(
                    name.removesuffix(_WHOLE if whole else _PARTIAL), self.segment_bytes
                )
                yield StoredSegment(segment, stat.object_bytes, stat.modified_at), whole

    def _partial_bytes(self, stored: StoredSegment) -> int:
        """How much a partial holds, by its frame's header; nothing, when that is damaged."""
        name, upto = self._name(stored.segment, _PARTIAL), min(stored.stored_bytes, _FRAME_HEADER)
        try:
            size: int = zstandard.frame_content_size(b"".join(self._store.get(name, 0, upto)))
        except NotFoundError:  # replaced by the whole segment since it was listed
            return stored.segment.size
        except zstandard.ZstdError:
            return 0
        return max(size, 0)

    def _put_once(self, name: str, content: memoryview, what: str) -> None:
        try:
            self._store.put(name, _frames(content))
        except ConflictError:
            if self._content(name) != content:
                raise ConflictError(
                    f"{what} is in the archive already, with other content",
                    ErrorKind.OBJECT_EXISTS,
                    "Two servers write to one archive: give each cluster a name of its own.",
                ) from None

    def _content(self, name: str) -> bytes:
        return b"".join(self._pieces(name))

    def _pieces(self, name: str) -> Iterator[bytes]:
        try:
            yield from decompress_frames(self._store.get(name))
        except ValueError as error:
            raise IntegrityError(
                f"{name!r} is damaged: {error}",
                hint="Recover to a time before it, or take a new backup.",
            ) from None

    def _name(self, segment: WalSegment, suffix: str) -> str:
        name = segment.name
        return f"{self._root}/{name[:8]}/{name[8:16]}/{name}{suffix}"


def contiguous(segments: Sequence[StoredSegment]) -> list[WalRange]:
    """Rising segments of one timeline, gathered where one follows the other."""
    ranges: list[WalRange] = []
    for stored in segments:
        if ranges and ranges[-1].last.next() == stored.segment:
            before = ranges.pop()
            ranges.append(
                WalRange(before.first, stored.segment, before.stored_bytes + stored.stored_bytes)
            )
        else:
            ranges.append(WalRange(stored.segment, stored.segment, stored.stored_bytes))
    return ranges


def _is_ours(name: str) -> bool:
    """Whether an object below a log's folder has the name of a segment, whole or partial."""
    return name.endswith(_WHOLE) and is_segment_name(
        name.removesuffix(_PARTIAL).removesuffix(_WHOLE)
    )


def _frames(content: memoryview) -> Iterator[bytes]:
    """The content, compressed by several threads: the one that waits for the disk would leave processors idle."""
    pieces = [content[n : n + _FRAME_BYTES] for n in range(0, max(len(content), 1), _FRAME_BYTES)]
    if len(pieces) == 1:
        yield _compressed(pieces[0])
        return
    from concurrent.futures import ThreadPoolExecutor  # who reads does not wait for it to be loaded

    with ThreadPoolExecutor(min(_COMPRESSING_AT_ONCE, len(pieces)), "frames") as threads:
        yield from threads.map(_compressed, pieces)


def _compressed(content: memoryview) -> bytes:
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    compressed: bytes = compressor.compress(content)
    return compressed
