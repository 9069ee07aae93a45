"""Pieces of an archive that is downloaded: stored objects, and bytes that were made for it."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

import zstandard

from opskit.model.backup import BaseBackup
from opskit.model.wal import WalSegment, check_segment
from opskit.repository.snapshot import backup_folder
from opskit.repository.tar import Owner, file_header, padded
from opskit.repository.wal import StoredSegment, WalArchive

_LEVEL = 1


@dataclass(frozen=True, slots=True)
class Part:
    """A run of the archive's bytes: how many, how those from one offset up to another are read, and a digest.

    `digest` tells them from any others: the SHA-256 of the bytes, or of the name and size of what never changes under
    its name. `file` opens what they are all of, where that is a file; nobody has looked at what is in it.
    """

    stored_bytes: int
    read: Callable[[int, int], Iterator[memoryview]]
    digest: bytes
    file: Callable[[], BinaryIO | None] = lambda: None


def made(content: bytes) -> Part:
    """A part that is in memory."""
    view = memoryview(content)
    digest = hashlib.sha256(view).digest()
    return Part(len(view), lambda begin, end: iter([view[begin:end]]), digest)


def segment_parts(
    archive: WalArchive, backup: BaseBackup, owner: Owner, stored: StoredSegment
) -> list[Part]:
    """The tar member of a segment: a frame with its header, then its frames as they are stored."""
    segment = stored.segment

    def read(begin: int, end: int) -> Iterator[memoryview]:
        if (begin, end) != (0, stored.stored_bytes):
            yield from archive.stored_pieces(segment, begin, end)
            return
        # A frame is checked by being read; nothing else would notice the damage before a recovery does.
        check_segment(segment, archive.segment(segment), backup.system_identifier)
        yield from archive.stored_pieces(segment, begin, end)

    header = _header(backup, owner, segment.name, segment.size, stored.stored_at.timestamp())
    digest = hashlib.sha256(f"{segment.name} {stored.stored_bytes}".encode()).digest()
    file = partial(archive.stored_file, segment)
    return [made(_frame(header)), Part(stored.stored_bytes, read, digest, file)]


def partial_part(
    backup: BaseBackup, owner: Owner, segment: WalSegment, content: bytes, stored_at: float
) -> Part:
    """The tar member of a segment of which there is the beginning: it is filled up with zeros, as PostgreSQL does."""
    header = _header(backup, owner, segment.name, segment.size, stored_at)
    padding = bytes(segment.size - len(content))
    return made(_frame(header) + _frame(content) + (_frame(padding) if padding else b""))


def history_part(backup: BaseBackup, owner: Owner, timeline: int, content: bytes) -> Part:
    """The tar member of a timeline's history file."""
    header = _header(
        backup, owner, f"{timeline:08X}.history", len(content), backup.stopped_at.timestamp()
    )
    return made(_frame(header + content.ljust(padded(len(content)), b"\0")))


def _header(backup: BaseBackup, owner: Owner, name: str, size: int, mtime: float) -> bytes:
    return file_header(f"{backup_folder(backup.name)}/wal", name, size, float(int(mtime)), owner)


def _frame(content: bytes) -> bytes:
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    compressed: bytes = compressor.compress(content)
    return compressed
