"""WAL segments and their names.

The write-ahead log is one sequence of bytes per timeline, addressed by LSN and kept in segments of a size that is fixed
when a cluster is made (manual, "WAL Internals"). A segment's name is 24 hexadecimal digits: the timeline, then the two
halves of its number, whose lower half counts the segments in 4 GiB.
"""

import re
import struct
from dataclasses import dataclass

from opskit.errors import ErrorKind, InputError, IntegrityError
from opskit.model.lsn import Lsn

SEGMENT_NAME_LENGTH = 24
_SEGMENT = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})")
_HISTORY = re.compile(r"([0-9A-F]{8})\.history")
_LOG_BYTES = 1 << 32
_LONG_HEADER = struct.Struct("<HHIQI4xQII")
_PAGE_HEADER = struct.Struct("<HHIQ")
_LONG_HEADER_FLAG = 0x0002
# XLOG_PAGE_MAGIC (PostgreSQL, ``xlog_internal.h``) changes with the major version, and only then.
_MAJORS = {0xD110: 15, 0xD113: 16, 0xD116: 17, 0xD118: 18}


@dataclass(frozen=True, slots=True, order=True)
class WalSegment:
    """One segment of one timeline; segments of a timeline are counted from 0 at LSN 0/0."""

    timeline: int
    number: int
    size: int

    @classmethod
    def holding(cls, lsn: int, timeline: int, size: int) -> "WalSegment":
        """The segment that holds the byte at `lsn`."""
        return cls(timeline, lsn // size, size)

    @classmethod
    def ending_at(cls, lsn: int, timeline: int, size: int) -> "WalSegment":
        """The segment that holds the last byte before `lsn`: an end on a boundary belongs to the earlier segment."""
        return cls(timeline, max(lsn - 1, 0) // size, size)

    @classmethod
    def parse(cls, name: str, size: int) -> "WalSegment":
        """The segment of that name.

        Raises
        ------
        InputError
            It is no name of a segment of `size` bytes.
        """
        match = _SEGMENT.fullmatch(name)
        in_log = _LOG_BYTES // size
        if match is None or int(match[3], 16) >= in_log:
            raise InputError(f"{name!r} is not the name of a WAL segment of {size} bytes")
        return cls(int(match[1], 16), int(match[2], 16) * in_log + int(match[3], 16), size)

    @property
    def name(self) -> str:
        """PostgreSQL's file name of it."""
        in_log = _LOG_BYTES // self.size
        return f"{self.timeline:08X}{self.number // in_log:08X}{self.number % in_log:08X}"

    @property
    def start(self) -> Lsn:
        """The address of its first byte."""
        return Lsn(self.number * self.size)

    @property
    def end(self) -> Lsn:
        """The address behind its last byte."""
        return Lsn((self.number + 1) * self.size)

    def next(self) -> "WalSegment":
        """The segment behind it, of the same timeline."""
        return WalSegment(self.timeline, self.number + 1, self.size)


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What the long header of a segment's first page tells (PostgreSQL, ``XLogLongPageHeaderData``).

    `timeline` is the one that the page was written on: in the first segment of a new timeline, an earlier one.
    `postgresql_major` is `None` for a version that opskit does not know.
    """

    timeline: int
    start: Lsn
    system_identifier: str
    segment_bytes: int
    postgresql_major: int | None


def is_segment_name(name: str) -> bool:
    """Whether `name` has the form of a segment's name."""
    return _SEGMENT.fullmatch(name) is not None


def history_timeline(name: str) -> int | None:
    """The timeline of a history file by its name, ``00000002.history``; `None` for other names."""
    match = _HISTORY.fullmatch(name)
    return int(match[1], 16) if match else None


def read_segment_header(content: bytes | bytearray | memoryview) -> SegmentHeader:
    """The header at the beginning of a segment.

    Raises
    ------
    IntegrityError
        It is no WAL segment's.
    """
    if len(content) < _LONG_HEADER.size:
        raise IntegrityError("a WAL segment is cut off in its header", ErrorKind.TRUNCATED)
    magic, info, timeline, address, _, system, size, _ = _LONG_HEADER.unpack_from(content)
    if not info & _LONG_HEADER_FLAG or size < 1 << 20 or size & (size - 1):
        raise IntegrityError(
            "a file does not begin like a WAL segment", ErrorKind.CHECKSUM_MISMATCH
        )
    return SegmentHeader(timeline, Lsn(address), str(system), size, _MAJORS.get(magic))


def written_bytes(content: bytes | bytearray | memoryview) -> int:
    """How much of a segment's file has been written: behind that it holds zeros, or what it held before it was reused.

    Raises
    ------
    IntegrityError
        It is no WAL segment.
    """
    start = read_segment_header(content).start
    magic, page_bytes = _LONG_HEADER.unpack_from(content)[0::7]
    end = page_bytes
    while end + _PAGE_HEADER.size <= len(content):
        seen, _, _, address = _PAGE_HEADER.unpack_from(content, end)
        if (seen, address) != (magic, start + end):
            break
        end += page_bytes
    return len(bytes(content[:end]).rstrip(b"\0"))


def check_segment(
    segment: WalSegment, content: bytes | bytearray | memoryview, system_identifier: str
) -> None:
    """Hold what `content` says of itself against the segment that it is to be.

    Raises
    ------
    IntegrityError
        It belongs to another cluster, another place in the log, a later timeline, or has another size.
    """
    header = read_segment_header(content)
    wrong = [
        f"{what} {seen}, expected {expected}"
        for what, seen, expected, fits in (
            (
                "system identifier",
                header.system_identifier,
                system_identifier,
                header.system_identifier == system_identifier,
            ),
            ("address", header.start, segment.start, header.start == segment.start),
            ("timeline", header.timeline, segment.timeline, header.timeline <= segment.timeline),
            (
                "segment size",
                header.segment_bytes,
                segment.size,
                header.segment_bytes == segment.size,
            ),
        )
        if not fits
    ]
    if wrong:
        raise IntegrityError(
            f"WAL segment {segment.name} has {'; '.join(wrong)}",
            hint="It is of another cluster or damaged; nothing was stored.",
        )
