"""The archive of an increment: the tar that a full backup of that moment would have had, put together on the fly.

Stored bytes cannot be concatenated here, so the archive is compressed anew, and its exact length is not known before.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import zstandard

from opskit.repository.archive import END_FRAME
from opskit.repository.content import Content
from opskit.repository.frames import FrameReader
from opskit.repository.members import WholeMembers
from opskit.repository.merge import MergedFile
from opskit.repository.parts import Part
from opskit.repository.volumes import FRAME_BYTES, LEVEL


class MergedArchive:
    """One increment with all that it is based on, as a single ``.tar.zst`` in the order of its own members.

    Every frame that is read is held against its checksum, and every file that is as an older backup has it against the
    server's. The checksums of the files that are put together go into the manifest, which comes last.

    Parameters
    ----------
    content, manifest
        The increment's, and its manifest.
    reader
        Reads the volumes of its chain.
    known
        The checksum of a file that some backup has whole.
    wal
        What comes behind the snapshot.
    """

    def __init__(
        self,
        content: Content,
        manifest: bytes,
        reader: FrameReader,
        known: Callable[[MergedFile], str | None],
        wal: Sequence[Part] = (),
    ) -> None:
        self._members = WholeMembers(content, manifest, reader, known)
        self._wal = wal
        self.done_bytes = 0
        self.length = self._members.tar_bytes + sum(part.stored_bytes for part in wal)

    def read(self) -> Iterator[memoryview]:
        """The archive's bytes. `done_bytes` tells how far that is of about `length`.

        Raises
        ------
        IntegrityError
            A volume is damaged or missing.
        """
        yield from self._compressed(self._tar())
        for part in self._wal:
            yield from part.read(0, part.stored_bytes)
            self.done_bytes += part.stored_bytes
        yield memoryview(END_FRAME)

    def _compressed(self, tar: Iterator[memoryview]) -> Iterator[memoryview]:
        """Frames like a volume's, a few of them compressed at once."""
        threads = min(os.cpu_count() or 1, 8)
        pending: deque[Future[bytes]] = deque()
        with ThreadPoolExecutor(threads, thread_name_prefix="compress") as working:
            for frame in _cut(tar):
                pending.append(working.submit(_frame, frame))
                self.done_bytes += len(frame)
                if len(pending) > 2 * threads:
                    yield memoryview(pending.popleft().result())
            while pending:
                yield memoryview(pending.popleft().result())

    def _tar(self) -> Iterator[memoryview]:
        for member in self._members:
            yield memoryview(member.header)
            for piece in member.pieces:
                yield piece.content


def _cut(tar: Iterator[memoryview]) -> Iterator[bytearray]:
    frame = bytearray()
    for piece in tar:
        while len(frame) + len(piece) >= FRAME_BYTES:
            part = FRAME_BYTES - len(frame)
            frame += piece[:part]
            piece = piece[part:]
            yield frame
            frame = bytearray()
        frame += piece
    if frame:
        yield frame


def _frame(content: bytearray) -> bytes:
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    compressed: bytes = compressor.compress(content)
    return compressed
