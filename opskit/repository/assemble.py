"""The files of an increment, put together of all that it is based on: each written once, from its beginning to its end.

The calling thread works out which runs of which frames a stretch of a file consists of; others read, decompress, join,
write and sum up, each a stretch while its processor has it at hand.
"""

import mmap
import os
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from crc32c import crc32c

from opskit.model.manifest import checksum_text
from opskit.repository.content import Content
from opskit.repository.extract import (
    Placement,
    cannot_write,
    expected_header,
    make_folders,
    opened,
    own,
)
from opskit.repository.frames import ReadStored
from opskit.repository.merge import MergedFile
from opskit.repository.stretches import STRETCH_BYTES, Cutter, Frame, Frames, Stretch
from opskit.repository.tar import BLOCK_BYTES
from opskit.store.disk import WRITE_BYTES, write_all, write_large

_STRETCHES_AT_ONCE = 64  # small files that are handed over together
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
    """Write `content.files` to their places, and hold every volume that is read for them against its SHA-256.

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
    The CRC32C of each file, as a manifest has it.

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
    cores = min(os.cpu_count() or 1, 8)
    count = cores + 1  # one of them waits for the disk
    make_folders((file.name for file in content.files), placement)
    checksums = [known(file) for file in content.files]
    sums = [0] * len(checksums)
    shifts: dict[int, Shift] = {}

    def written(stretches: list[Stretch], found: list[int]) -> None:
        for stretch, crc in zip(stretches, found, strict=True):
            if stretch.at:
                shift = shifts.get(stretch.length) or Shift(stretch.length)
                if stretch.length == STRETCH_BYTES:
                    shifts[stretch.length] = shift
                crc ^= shift.of(sums[stretch.number])
            sums[stretch.number] = crc
        advance(sum(stretch.length for stretch in stretches))

    with ThreadPoolExecutor(count, thread_name_prefix="assemble") as working:
        frames = Frames(content, read, working, cores)
        writer = _Writer(content, placement, checksums)
        pending: deque[tuple[list[Stretch], Future[list[int]]]] = deque()
        try:
            for stretches in _batches(Cutter(content, frames).stretches()):
                pending.append((stretches, working.submit(writer.write, stretches)))
                if len(pending) > count:
                    stretches, future = pending.popleft()
                    written(stretches, _result(future, check))
            for stretches, future in pending:
                written(stretches, _result(future, check))
            for tape in frames.finish():
                _result(tape, check)
        except BaseException:
            working.shutdown(wait=False, cancel_futures=True)
            raise
    return [checksum or checksum_text(crc) for checksum, crc in zip(checksums, sums, strict=True)]


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


class _Writer:
    """Puts stretches of files together and writes them; what working threads do."""

    def __init__(
        self, content: Content, placement: Placement, checksums: Sequence[str | None]
    ) -> None:
        self._content, self._placement, self._checksums = content, placement, checksums
        # A file takes one writer at a time, and in the kernel the other would spin.
        self._turns: defaultdict[int, threading.Lock] = defaultdict(threading.Lock)
        self._local = threading.local()

    def write(self, stretches: Sequence[Stretch]) -> list[int]:
        """Write them, and give the CRC32C of each, or 0 where the file's is known."""
        return [self._write(stretch) for stretch in stretches]

    def _write(self, stretch: Stretch) -> int:
        file = self._content.files[stretch.number]
        path = self._placement.path(file.name)
        joined = self._joined(stretch)
        if path is None:
            return 0
        try:
            descriptor = opened(path)
            try:
                if stretch.head is not None:
                    self._prepare(descriptor, file, *stretch.head)
                if stretch.length < WRITE_BYTES:
                    write_all(descriptor, joined, stretch.at)
                else:
                    with self._turns[stretch.number]:
                        write_large(descriptor, joined, stretch.at)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise cannot_write(path, error) from error
        return 0 if self._checksums[stretch.number] is not None else crc32c(joined)

    def _joined(self, stretch: Stretch) -> memoryview:
        """Its bytes behind each other, in a buffer of this thread, in which pages begin where those of the file do."""
        local = self._local
        if getattr(local, "buffer", None) is None:
            local.buffer = memoryview(mmap.mmap(-1, STRETCH_BYTES + mmap.PAGESIZE))
        begin = stretch.at % mmap.PAGESIZE
        joined: memoryview = local.buffer[begin : begin + stretch.length]
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

    def _prepare(self, descriptor: int, file: MergedFile, frame: Frame, begin: int) -> None:
        backup, volume, member = file.head
        source = self._content.indexes[backup][volume]
        block = bytes(frame.content()[begin : begin + BLOCK_BYTES])
        header = expected_header(source, source.members[member], block)
        own(descriptor, header, self._placement)


def _result(future: Future[Result], check: Callable[[], None]) -> Result:
    while not wait([future], timeout=0.1).done:
        check()
    check()
    return future.result()
