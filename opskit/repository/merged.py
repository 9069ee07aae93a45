"""The archive of an increment: the tar that a full backup of that moment would have had, put together on the fly.

Stored bytes cannot be concatenated here, so the archive is compressed anew, and its exact length is not known before.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import zstandard
from crc32c import crc32c

from opskit.errors import IntegrityError
from opskit.model.manifest import ManifestFile, checksum_text, with_files
from opskit.repository.archive import END_FRAME
from opskit.repository.content import LABEL, MANIFEST, Content, increment_path, manifest_path
from opskit.repository.frames import FrameReader
from opskit.repository.merge import MergedFile, Place
from opskit.repository.parts import Part
from opskit.repository.snapshot import backup_folder
from opskit.repository.tar import BLOCK_BYTES, padded, resized
from opskit.repository.volumes import FRAME_BYTES, LEVEL, Member, Volume

_ZEROS = memoryview(bytes(FRAME_BYTES))


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
        self._content, self._manifest, self._reader = content, manifest, reader
        self._known, self._wal = known, wal
        self._files = {file.head: file for file in content.files}
        self._root = f"{backup_folder(content.chain[0].name)}/snapshot/data"
        self.done_bytes = 0
        more = sum(file.file_bytes for file in content.files)
        self.length = (
            more
            + sum(volume.tar_bytes for volume in content.indexes[0])
            + sum(part.stored_bytes for part in wal)
        )

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
        changed: dict[str, ManifestFile] = {}
        for number, volume in enumerate(self._content.indexes[0]):
            for index, member in enumerate(volume.members):
                file = self._files.get(Place(0, number, index))
                if file is not None:
                    checksum = yield from self._merged(volume, member, file)
                    changed[increment_path(file)] = ManifestFile(
                        path=manifest_path(file.name), file_bytes=file.file_bytes, checksum=checksum
                    )
                elif member.name == f"{self._root}/{LABEL}":
                    label = self._content.label
                    checksum = checksum_text(crc32c(label))
                    changed[LABEL] = ManifestFile(
                        path=LABEL, file_bytes=len(label), checksum=checksum
                    )
                    yield from self._made(volume, member, label)
                elif member.name == f"{self._root}/{MANIFEST}":
                    yield from self._made(volume, member, with_files(self._manifest, changed))
                else:
                    end = member.offset + BLOCK_BYTES + padded(member.size)
                    yield from self._reader.tar(0, volume, member.offset, end)

    def _merged(
        self, volume: Volume, member: Member, file: MergedFile
    ) -> Generator[memoryview, None, str]:
        yield self._header(volume, member, file.file_bytes, file.name)
        checksum = 0
        for piece in self._pieces(file):
            checksum = crc32c(piece, checksum)
            yield piece
        yield _ZEROS[: padded(file.file_bytes) - file.file_bytes]
        text = checksum_text(checksum)
        if self._known(file) not in (None, text):
            raise IntegrityError(
                f"{manifest_path(file.name)!r} has the CRC32C {text}, the manifest says {self._known(file)}",
                hint="Restore from another backup, and look at the storage under the repository.",
            )
        return text

    def _pieces(self, file: MergedFile) -> Iterator[memoryview]:
        """The content of a file, in its order; what no backup has is zeros."""
        runs = []
        for place, wanted in file.sources:
            volume = self._content.indexes[place.backup][place.volume]
            member = volume.members[place.member]
            if wanted is None:
                runs.append((0, member.size, 0, place))
            else:
                runs += [
                    (at, length, content, place)
                    for content, length, at in zip(
                        wanted.content, wanted.length, wanted.at, strict=True
                    )
                ]
        position = 0
        for at, length, content, place in sorted(runs):
            yield from _zeros(at - position)
            volume = self._content.indexes[place.backup][place.volume]
            yield from self._reader.content(
                place.backup, volume, volume.members[place.member], content, content + length
            )
            position = at + length
        yield from _zeros(file.file_bytes - position)

    def _made(self, volume: Volume, member: Member, content: bytes) -> Iterator[memoryview]:
        yield self._header(volume, member, len(content), member.name)
        yield memoryview(content.ljust(padded(len(content)), b"\0"))

    def _header(self, volume: Volume, member: Member, size: int, name: str) -> memoryview:
        """A member's header with another size, and the last part of another name."""
        stored = self._reader.tar(0, volume, member.offset, member.offset + BLOCK_BYTES)
        return memoryview(resized(b"".join(stored), size, name))


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


def _zeros(count: int) -> Iterator[memoryview]:
    while count > 0:
        yield _ZEROS[:count]
        count -= len(_ZEROS)
