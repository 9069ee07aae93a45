"""The files of an increment, put together of all that it is based on: each written once, from its beginning to its end.

The calling thread works out which runs of which frames a stretch of a file consists of. Some threads read, decompress,
join and sum up; others wait for the disk.
"""

import mmap
import os
import queue
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from typing import NamedTuple, TypeVar

from crc32c import crc32c

from opskit.model.manifest import checksum_text
from opskit.repository.content import Content
from opskit.repository.extract import (
    Placement,
    cannot_write,
    expected_header,
    make_folders,
    make_other,
    opened,
    own,
)
from opskit.repository.frames import ReadStored
from opskit.repository.merge import MergedFile, Place, Source
from opskit.repository.stretches import STRETCH_BYTES, Cutter, Frame, Frames, Stretch
from opskit.repository.tar import BLOCK_BYTES, Header
from opskit.store.disk import WRITE_BYTES, write_all, write_large

_STRETCHES_AT_ONCE = 64  # small files that are handed over together
_WRITING_AT_ONCE = 2  # one to a file: the last one's and the next one's
_BEHIND = 3  # stretches
_ZEROS = memoryview(bytes(STRETCH_BYTES))

Result = TypeVar("Result")


def assemble(
    content: Content,
    placement: Placement,
    read: ReadStored,
    known: Callable[[MergedFile], str | None],
    *,
    advance: Callable[[int], None],
    check: Callable[[], None],
) -> list[str]:
    """Write all files of an increment to their places, and hold every volume that is read for them against its SHA-256.

    Parameters
    ----------
    read
        The stored bytes of a volume.
    known
        The checksum of a file, where some manifest has it.
    advance
        Told how many bytes were written since the last call; called by the calling thread, as `check` is.

    Returns
    -------
    The CRC32C of each of `content.files`, as a manifest has it.

    Raises
    ------
    IntegrityError
        A volume is damaged or missing. Files have been written by then: the caller removes them.
    StoreError
        A file cannot be written.

    Effects
    -------
    Files are written but not synced.
    """
    # One more than there are processors: neighbours wait for each other's frames, and for the interpreter.
    threads = min(os.cpu_count() or 1, 8) + 1
    files = list(_files(content))
    make_folders((file.name for file in files), placement)
    checksums = [None if file.copy_of == 0 else known(file) for file in files]
    summed = [
        file.copy_of != 0 and text is None for file, text in zip(files, checksums, strict=True)
    ]
    sums = [0] * len(files)
    shifts: dict[int, Shift] = {}

    def written(stretches: list[Stretch], joined: Joined) -> None:
        for write in joined.writes:
            _result(write, check)
        for stretch, crc in zip(stretches, joined.sums, strict=True):
            if stretch.at:
                shift = shifts.get(stretch.length) or Shift(stretch.length)
                if stretch.length == STRETCH_BYTES:
                    shifts[stretch.length] = shift
                crc ^= shift.of(sums[stretch.number])
            sums[stretch.number] = crc
        advance(sum(stretch.length for stretch in stretches))

    with (
        ThreadPoolExecutor(_WRITING_AT_ONCE, thread_name_prefix="write") as writing,
        ThreadPoolExecutor(threads, thread_name_prefix="assemble") as working,
    ):
        frames = Frames(content, read, working, threads)
        joiner = _Joiner(content, files, summed, placement, writing, threads)
        pending: deque[tuple[list[Stretch], Future[Joined]]] = deque()
        try:
            for stretches in _behind(_batches(Cutter(files, frames).stretches())):
                pending.append((stretches, working.submit(joiner.join, stretches)))
                if len(pending) > threads + 1:
                    stretches, future = pending.popleft()
                    written(stretches, _result(future, check))
            for stretches, future in pending:
                written(stretches, _result(future, check))
            for tape in frames.finish():
                _result(tape, check)
        except BaseException:
            working.shutdown(wait=False, cancel_futures=True)
            raise
    return [
        checksum or checksum_text(crc)
        for file, checksum, crc in zip(files, checksums, sums, strict=True)
        if file.copy_of != 0
    ]


def _files(content: Content) -> Iterator[MergedFile]:
    """All that an increment restores to, in its order; what it has whole comes of itself."""
    merged = {file.head: file for file in content.files}
    for number, source in enumerate(content.sources):
        for index, member in enumerate(source.selection.volume.members):
            place = Place(0, number, index)
            if place in merged:
                yield merged[place]
            elif index not in source.selection.left_out:
                whole = Source(0, number, member.offset + BLOCK_BYTES, member.size, None)
                yield MergedFile(
                    name=member.name,
                    file_bytes=member.size,
                    head=place,
                    sources=(whole,),
                    copy_of=0,
                )


class Shift:
    """What becomes of a CRC32C when so many bytes follow: of theirs alone, the sum of both is that of all bytes."""

    def __init__(self, count: int) -> None:
        self._zeros = _ZEROS[:count]
        self._none = crc32c(self._zeros)
        self._bits: list[int] | None = None
        self._asked = 0

    def of(self, crc: int) -> int:
        """The CRC32C of some bytes, moved by the count of the others."""
        # Linear in its bits, since crc32c(zeros, a ^ b) is crc32c(zeros, a) ^ crc32c(zeros, b) ^ crc32c(zeros, 0).
        self._asked += 1
        if self._bits is None and self._asked > 32:
            self._bits = [crc32c(self._zeros, 1 << bit) ^ self._none for bit in range(32)]
        if self._bits is None:
            return crc32c(self._zeros, crc) ^ self._none
        moved = 0
        for bit in self._bits:
            if crc & 1:
                moved ^= bit
            crc >>= 1
        return moved


def _batches(stretches: Iterator[Stretch]) -> Iterator[list[Stretch]]:
    """Several small files at a time."""
    batch, length = list[Stretch](), 0
    for stretch in stretches:
        batch.append(stretch)
        length += stretch.length
        if length >= STRETCH_BYTES or len(batch) == _STRETCHES_AT_ONCE:
            yield batch
            batch, length = [], 0
    if batch:
        yield batch


def _behind(batches: Iterator[list[Stretch]]) -> Iterator[list[Stretch]]:
    """The same, a few later: those who decompress what several of them share are ahead of them by then."""
    held: deque[list[Stretch]] = deque()
    for batch in batches:
        held.append(batch)
        if len(held) > _BEHIND:
            yield held.popleft()
    yield from held


class Joined(NamedTuple):
    """Stretches that were put together: the CRC32C of each, or 0 where none is needed, and what is being written."""

    sums: list[int]
    writes: list[Future[None]]


class _Joiner:
    """Puts stretches of files together; what working threads do. Long ones are then written by those for the disk."""

    def __init__(
        self,
        content: Content,
        files: Sequence[MergedFile],
        summed: Sequence[bool],
        placement: Placement,
        writing: Executor,
        threads: int,
    ) -> None:
        self._content, self._files, self._summed = content, files, summed
        self._placement, self._writing = placement, writing
        # A file takes one writer at a time, and in the kernel the other would spin.
        self._turns: defaultdict[int, threading.Lock] = defaultdict(threading.Lock)
        self._free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        for _ in range(threads + 2 * _WRITING_AT_ONCE):
            self._free.put(memoryview(mmap.mmap(-1, STRETCH_BYTES + mmap.PAGESIZE)))

    def join(self, stretches: Sequence[Stretch]) -> Joined:
        """Put them together, and write those that are short."""
        joined = Joined([], [])
        for stretch in stretches:
            buffer = self._free.get()  # waits while the disk is slower
            try:
                header = None if stretch.head is None else self._header(stretch, *stretch.head)
                content = _filled(buffer, stretch)
                summed = self._summed[stretch.number]
                joined.sums.append(crc32c(content) if summed else 0)
            except BaseException:
                self._free.put(buffer)
                raise
            if stretch.length < WRITE_BYTES:
                self._write(stretch, header, content, buffer)
            else:
                write = self._writing.submit(self._write, stretch, header, content, buffer)
                joined.writes.append(write)
        return joined

    def _header(self, stretch: Stretch, frame: Frame, begin: int) -> Header:
        backup, volume, member = self._files[stretch.number].head
        source = self._content.indexes[backup][volume]
        block = bytes(frame.content()[begin : begin + BLOCK_BYTES])
        return expected_header(source, source.members[member], block)

    def _write(
        self, stretch: Stretch, header: Header | None, content: memoryview, buffer: memoryview
    ) -> None:
        path = self._placement.path(self._files[stretch.number].name)
        try:
            if path is None:
                return
            if header is not None and (header.is_folder or header.is_link):
                make_other(self._files[stretch.number].name, header, path, self._placement)
            else:
                self._write_part(stretch, header, content, path)
        except OSError as error:
            raise cannot_write(str(path), error) from error
        finally:
            self._free.put(buffer)

    def _write_part(
        self, stretch: Stretch, header: Header | None, content: memoryview, path: str
    ) -> None:
        descriptor = opened(path)
        try:
            if header is not None:
                own(descriptor, header, self._placement)
            if stretch.length < WRITE_BYTES:
                write_all(descriptor, content, stretch.at)
            else:
                with self._turns[stretch.number]:
                    write_large(descriptor, content, stretch.at)
        finally:
            os.close(descriptor)


def _filled(buffer: memoryview, stretch: Stretch) -> memoryview:
    """The bytes of a stretch behind each other, where pages begin in the buffer as they do in the file."""
    begin = stretch.at % mmap.PAGESIZE
    joined = buffer[begin : begin + stretch.length]
    contents: dict[Frame, memoryview] = {}
    position = 0
    for frame, first, last in stretch.pieces:
        end = position + last - first
        if frame is None:
            joined[position:end] = _ZEROS[: last - first]
        else:
            content = contents.get(frame)
            if content is None:
                content = contents[frame] = frame.content()
            joined[position:end] = content[first:last]
        position = end
    return joined


def _result(future: Future[Result], check: Callable[[], None]) -> Result:
    while not wait([future], timeout=0.1).done:
        check()
    check()
    return future.result()
