"""The members of an increment as a full backup of that moment would have had them, in the increment's order.

Files are put together while they pass by, from frames that are held against their checksums; nothing is staged. Who
takes them, to compress or to keep, is told where a whole frame comes as it is stored.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from crc32c import crc32c

from opskit.errors import IntegrityError
from opskit.model.manifest import ManifestFile, checksum_text, with_files
from opskit.repository.content import LABEL, MANIFEST, Content, increment_path, manifest_path
from opskit.repository.frames import FramePart, FrameReader
from opskit.repository.merge import MergedFile, Place
from opskit.repository.snapshot import backup_folder
from opskit.repository.tar import BLOCK_BYTES, padded, resized
from opskit.repository.volumes import FRAME_BYTES, Member, Volume

_ZEROS = memoryview(bytes(FRAME_BYTES))


class WholeMember(NamedTuple):
    """A tar member: its final name, its header, its content's size, and its content with padding, to be read once."""

    name: str
    header: bytes
    size: int
    pieces: Iterator[FramePart]


class WholeMembers:
    """One increment with all that it is based on. Each member is read to its end before the next is asked for.

    Every file that is as an older backup has it is held against the server's checksum. The checksums of the files that
    are put together go into the manifest, which comes last.

    Parameters
    ----------
    content, manifest
        The increment's, and its manifest.
    reader
        Reads the volumes of its chain.
    known
        The checksum of a file that some backup has whole.

    Attributes
    ----------
    manifest
        The manifest of the whole backup, once its member was given.
    """

    def __init__(
        self,
        content: Content,
        manifest: bytes,
        reader: FrameReader,
        known: Callable[[MergedFile], str | None],
    ) -> None:
        self.manifest = b""
        self._content, self._manifest = content, manifest
        self._reader, self._known = reader, known
        self._files = {file.head: file for file in content.files}
        self._changed: dict[str, ManifestFile] = {}
        self._root = f"{backup_folder(content.chain[0].name)}/snapshot/data"

    @property
    def tar_bytes(self) -> int:
        """About how many bytes of tar they are."""
        indexes = self._content.indexes
        heads = [
            indexes[0][file.head.volume].members[file.head.member] for file in self._files.values()
        ]
        own = sum(volume.tar_bytes for volume in indexes[0]) - sum(head.size for head in heads)
        return own + sum(file.file_bytes for file in self._content.files)

    def __iter__(self) -> Iterator[WholeMember]:
        """The members.

        Raises
        ------
        IntegrityError
            A volume is damaged or missing; also while pieces are read.
        """
        for number, volume in enumerate(self._content.indexes[0]):
            for index, member in enumerate(volume.members):
                file = self._files.get(Place(0, number, index))
                if file is not None:
                    header = self._header(volume, member, file.file_bytes, file.name)
                    yield WholeMember(file.name, header, file.file_bytes, self._merged(file))
                elif member.name == f"{self._root}/{LABEL}":
                    label = self._content.label
                    self._changed[LABEL] = ManifestFile(
                        path=LABEL, file_bytes=len(label), checksum=checksum_text(crc32c(label))
                    )
                    yield self._made(volume, member, label)
                elif member.name == f"{self._root}/{MANIFEST}":
                    self.manifest = with_files(self._manifest, self._changed)
                    yield self._made(volume, member, self.manifest)
                else:
                    begin = member.offset + BLOCK_BYTES
                    pieces = self._reader.parts(0, volume, begin, begin + padded(member.size))
                    header = self._stored_header(volume, member)
                    yield WholeMember(member.name, header, member.size, pieces)

    def _merged(self, file: MergedFile) -> Iterator[FramePart]:
        checksum = 0
        for piece in self._pieces(file):
            checksum = crc32c(piece.content, checksum)
            yield piece
        yield FramePart(_ZEROS[: padded(file.file_bytes) - file.file_bytes], None)
        path, text = manifest_path(file.name), checksum_text(checksum)
        if self._known(file) not in (None, text):
            raise IntegrityError(
                f"{path!r} has the CRC32C {text}, the manifest says {self._known(file)}",
                hint="Restore from another backup, and look at the storage under the repository.",
            )
        self._changed[increment_path(file)] = ManifestFile(
            path=path, file_bytes=file.file_bytes, checksum=text
        )

    def _pieces(self, file: MergedFile) -> Iterator[FramePart]:
        """The content of a file, in its order; what no backup has is zeros."""
        position = 0
        for at, length, backup, number, begin in file.runs():
            yield from _zeros(at - position)
            volume = self._content.indexes[backup][number]
            yield from self._reader.parts(backup, volume, begin, begin + length)
            position = at + length
        yield from _zeros(file.file_bytes - position)

    def _made(self, volume: Volume, member: Member, content: bytes) -> WholeMember:
        header = self._header(volume, member, len(content), member.name)
        piece = FramePart(memoryview(content.ljust(padded(len(content)), b"\0")), None)
        return WholeMember(member.name, header, len(content), iter([piece]))

    def _header(self, volume: Volume, member: Member, size: int, name: str) -> bytes:
        """A member's header with another size, and the last part of another name."""
        return resized(self._stored_header(volume, member), size, name)

    def _stored_header(self, volume: Volume, member: Member) -> bytes:
        stored = self._reader.tar(0, volume, member.offset, member.offset + BLOCK_BYTES)
        return b"".join(stored)


def _zeros(count: int) -> Iterator[FramePart]:
    while count > 0:
        yield FramePart(_ZEROS[:count], None)
        count -= len(_ZEROS)
