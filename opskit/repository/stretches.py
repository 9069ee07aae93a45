"""What stretches of the files of an increment consist of: which runs of which frames of the backups of its chain.

Backups of a chain hold their files in about the same order, so each frame is decompressed about once, and only few are
kept.
"""

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from itertools import accumulate
from typing import NamedTuple

from zstandard import ZstdDecompressor

from opskit.errors import OpskitError
from opskit.repository.compression import decompress_into
from opskit.repository.content import Content
from opskit.repository.frames import ReadStored
from opskit.repository.merge import MergedFile
from opskit.repository.tape import Tape, damaged
from opskit.repository.volumes import Volume
from opskit.repository.wanted import Part, Wanted

STRETCH_BYTES = 4 << 20


class Room:
    """Memory for the contents of frames, used again: the kernel has to find and empty what is new."""

    def __init__(self) -> None:
        self._free: list[bytearray] = []
        self._local = threading.local()

    def filled(self, stored: bytes, size: int) -> bytearray:
        """A buffer that begins with the content of a frame; `ValueError` if that is damaged or of another size."""
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = bytearray()
        if len(buffer) < size:
            buffer = bytearray(size)
        zstd = getattr(self._local, "zstd", None)
        if zstd is None:
            zstd = self._local.zstd = ZstdDecompressor()
        decompress_into(memoryview(buffer)[:size], stored, zstd)
        return buffer

    def give_back(self, buffer: bytearray) -> None:
        """Take a buffer that nobody reads from any more."""
        self._free.append(buffer)


class Frame:
    """A frame of a volume, decompressed by the first thread that opens it or asks for its content.

    Whoever reads from that keeps the frame meanwhile: its memory is used again once nobody does.

    Parameters
    ----------
    parts
        From where to where its content is wanted, rising: only that is kept, joined. All of it without.

    Attributes
    ----------
    places
        Where in what is kept each part begins, by where it begins in the content; `None` when all is kept.
    """

    __slots__ = (
        "_buffer",
        "_failure",
        "_number",
        "_opening",
        "_parts",
        "_room",
        "_size",
        "_tape",
        "places",
    )

    def __init__(
        self, tape: Tape, number: int, size: int, room: Room, parts: Sequence[Part] | None = None
    ) -> None:
        self._tape, self._number, self._size, self._room = tape, number, size, room
        self._parts = parts
        self.places: dict[int, int] | None = None
        if parts is not None:
            ends = accumulate((last - first for first, last in parts), initial=0)
            self.places = {first: place for (first, _), place in zip(parts, ends, strict=False)}
        self._opening = threading.Lock()
        self._buffer: bytearray | bytes | None = None
        self._failure: OpskitError | None = None

    def __del__(self) -> None:
        if isinstance(self._buffer, bytearray):
            self._room.give_back(self._buffer)

    def open(self) -> None:
        """Decompress it, if nobody has; a failure is told to who asks for the content."""
        with suppress(OpskitError):
            self.content()

    def content(self) -> memoryview:
        """Its content, or the parts of it that are wanted; `IntegrityError` if it is damaged."""
        with self._opening:
            if self._failure is not None:
                raise self._failure
            if self._buffer is None:
                try:
                    self._buffer = self._decompressed()
                except OpskitError as error:
                    self._failure = error
                    raise
            return memoryview(self._buffer)[: self._size]

    def _decompressed(self) -> bytearray | bytes:
        try:
            buffer = self._room.filled(self._tape.frame(self._number), self._size)
        except ValueError as error:
            raise damaged(self._tape.volume, str(error)) from None
        if self._parts is None:
            return buffer
        kept = b"".join([memoryview(buffer)[first:last] for first, last in self._parts])
        self._room.give_back(buffer)
        return kept


# A run of bytes: of what is kept of which frame, from where to where; of zeros without a frame. A chain has a million
# of these, and a plain tuple takes half of a NamedTuple's time.
Piece = tuple[Frame | None, int, int]


class Stretch(NamedTuple):
    """Bytes of a file from `at` on; the first one of a file has the frame of its header, and the place in that."""

    number: int
    at: int
    length: int
    pieces: Sequence[Piece]
    head: tuple[Frame, int] | None


class Frames:
    """The frames of a chain's volumes; those that were used last are kept."""

    def __init__(self, content: Content, read: ReadStored, working: Executor, threads: int) -> None:
        self._content, self._read, self._working = content, read, working
        # In each backup the files that are being written are in one frame of one volume, or come to the next.
        self._most = len(content.chain) + 2 * threads + 4
        self._frames: OrderedDict[tuple[int, int, int], Frame] = OrderedDict()
        self._current: dict[int, tuple[int, int, int]] = {}
        self._starts: dict[tuple[int, int], Sequence[int]] = {}
        self._tapes: dict[tuple[int, int], Tape] = {}
        self._open: OrderedDict[tuple[int, int], Tape] = OrderedDict()
        self._finishing: list[Future[None]] = []
        self._room = Room()
        self._wanted = Wanted(content)

    def volume(self, backup: int, number: int) -> Volume:
        """The volume that `frame` reads from."""
        return self._content.indexes[backup][number]

    def at(self, backup: int, volume: int, begin: int) -> tuple[int, int, Frame]:
        """The frame with the byte `begin` of a volume's tar, and from where to where it reaches: start, stop, frame."""
        number, start, stop = self.reach(backup, volume, begin)
        key = (backup, volume, number)
        self._current[backup] = key
        frame = self._frames.get(key)
        if frame is not None:
            self._frames.move_to_end(key)
            return start, stop, frame
        tape = self._tape(backup, volume)
        tape.expect(number)
        parts = self._wanted.parts(backup, volume, start, stop)
        frame = self._frames[key] = Frame(tape, number, stop - start, self._room, parts)
        if backup + 1 < len(self._content.chain):
            # Several stretches want it, and would wait for the first of them.
            self._working.submit(frame.open)
        if len(self._frames) > self._most:
            for used in self._current.values():  # also by those who do not ask again
                if used in self._frames:
                    self._frames.move_to_end(used)
            self._frames.popitem(last=False)
        return start, stop, frame

    def reach(self, backup: int, volume: int, begin: int) -> tuple[int, int, int]:
        """The frame with the byte `begin` of a volume's tar, as its number, and from where to where it reaches."""
        source = self.volume(backup, volume)
        starts = self._starts.get((backup, volume))
        if starts is None:
            starts = self._starts[backup, volume] = source.frame_starts()
        number = bisect_right(starts, begin) - 1
        stop = starts[number + 1] if number + 1 < len(starts) else source.tar_bytes
        if number < 0 or begin >= stop:
            raise damaged(source, f"its index leads to byte {begin}")
        return number, starts[number], stop

    def finish(self) -> list[Future[None]]:
        """Have the newest backup's volumes, and all that are being read, held against their checksums."""
        for number in range(len(self._content.indexes[0])):
            self._tape(0, number)
        while self._open:
            self._finish_oldest()
        return self._finishing

    def _tape(self, backup: int, number: int) -> Tape:
        key = (backup, number)
        tape = self._tapes.get(key)
        if tape is None:
            volume = self.volume(backup, number)
            tape = Tape(volume, partial(self._read, backup, volume))
            self._tapes[key] = self._open[key] = tape
            if len(self._open) > self._most:
                self._finish_oldest()
        elif key in self._open:
            self._open.move_to_end(key)
        return tape

    def _finish_oldest(self) -> None:
        _, tape = self._open.popitem(last=False)
        self._finishing.append(self._working.submit(tape.finish))


class Cutter:
    """Tells what stretches of files consist of."""

    def __init__(self, files: Iterable[MergedFile], frames: Frames) -> None:
        self._files, self._frames = files, frames
        self._current: dict[int, tuple[int, int, int, Frame | None]] = {}

    def stretches(self) -> Iterator[Stretch]:
        """All of all files."""
        for number, file in enumerate(self._files):
            backup, volume, member = file.head
            offset = self._frames.volume(backup, volume).members[member].offset
            start, _, frame = self._frames.at(backup, volume, offset)
            head: tuple[Frame, int] | None = (frame, offset - start)
            at, length, pieces, most = 0, 0, list[Piece](), self._first_bytes(file)
            for piece in self._pieces(file):
                source, begin, end = piece
                while length + end - begin > most:
                    part = most - length
                    pieces.append((source, begin, begin + part))
                    yield Stretch(number, at, most, pieces, head)
                    at, length, pieces, head, most = at + most, 0, [], None, STRETCH_BYTES
                    begin += part
                    piece = source, begin, end
                pieces.append(piece)
                length += end - begin
            if pieces or head is not None:
                yield Stretch(number, at, length, pieces, head)

    def _first_bytes(self, file: MergedFile) -> int:
        """How long the first stretch is: up to the end of a frame of the backup that most comes from.

        The others then end where a frame ends, too, and are written by the thread that has just decompressed it.
        """
        if not file.file_bytes or not file.sources:
            return STRETCH_BYTES
        backup, volume, begin, _, _ = file.sources[-1]
        _, _, stop = self._frames.reach(backup, volume, begin)
        return min(stop - begin, STRETCH_BYTES)

    def _pieces(self, file: MergedFile) -> Iterator[Piece]:
        """A file's bytes in their order, cut where frames are; what no backup has is zeros."""
        position = 0
        current, nowhere = self._current, (-1, 0, 0, None)
        for at, length, backup, volume, begin in file.runs():
            if at > position:
                yield None, 0, at - position
            position = at + length
            in_volume, start, stop, frame = current.get(backup, nowhere)
            if in_volume == volume and start <= begin and begin + length <= stop:
                first = begin - start
                if frame is not None and frame.places is not None:
                    first = frame.places[first]
                yield frame, first, first + length
                continue
            while length:
                start, stop, frame = self._frames.at(backup, volume, begin)
                part = min(length, stop - begin)
                first = begin - start if frame.places is None else frame.places[begin - start]
                yield frame, first, first + part
                begin, length = begin + part, length - part
            current[backup] = volume, start, stop, frame
        if file.file_bytes > position:
            yield None, 0, file.file_bytes - position
