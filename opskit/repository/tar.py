"""Tar headers: read from the server's archives, given their final names, and made for files of our own.

POSIX ustar, as PostgreSQL writes it: 512-byte blocks, names of up to 99 bytes, sizes beyond 8 GiB in base 256. Our
prefix goes into the header's prefix field, so the server's name stays as it is and always fits.
"""

import tarfile
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from opskit.errors import ErrorKind, ServerError

BLOCK_BYTES = 512
END_OF_ARCHIVE = bytes(2 * BLOCK_BYTES)

_NAME = slice(0, 100)
_MODE = slice(100, 108)
_SIZE = slice(124, 136)
_CHECKSUM = slice(148, 156)
_KIND = slice(156, 157)
_LINK_NAME = slice(157, 257)
_PREFIX = slice(345, 500)


class Header(NamedTuple):
    """One member's header block and what it says. `size` is the content's, without padding.

    `total` is the sum of the block's bytes with blanks for its checksum: what the checksum says.
    """

    block: bytes
    total: int
    name: str
    size: int
    is_folder: bool
    is_link: bool
    mode: int
    link: str


@dataclass(frozen=True, slots=True)
class Owner:
    """The numeric owner and group of the server's files."""

    uid: int
    gid: int


def padded(size: int) -> int:
    """`size` rounded up to whole blocks."""
    return (size + BLOCK_BYTES - 1) // BLOCK_BYTES * BLOCK_BYTES


def read_header(block: bytes) -> Header | None:
    """The header in `block`, or `None` for the zero block that ends an archive.

    Raises
    ------
    ServerError
        It is not a tar header.
    """
    if not block or (block[0] == 0 and not any(block)):
        return None
    try:
        return _parsed(block)
    except ValueError as error:
        raise ServerError(
            f"the server's archive holds a broken tar header: {error}", ErrorKind.SERVER_REFUSED
        ) from None


def owner_of(header: Header) -> Owner:
    """The numeric owner that the header names."""
    info = tarfile.TarInfo.frombuf(header.block, "utf-8", "surrogateescape")
    return Owner(info.uid, info.gid)


def below(header: Header, prefix: str, name: str | None = None) -> bytes:
    """The header's block for the same member as ``<prefix>/<name>``; the name defaults to the member's own."""
    old = header.block
    if name is not None:
        block = bytearray(old)
        block[_NAME] = _field(name, 100)
        block[_PREFIX] = _field(prefix, 155)
        return _sealed(block)
    # Nearly every member comes this way: only what changes is summed up again.
    field, added = _prefix_field(prefix)
    total = header.total + added - (sum(old[_PREFIX]) if old[_PREFIX.start] else 0)
    return b"%b%06o\0 %b%b%b" % (
        old[: _CHECKSUM.start],
        total,
        old[_CHECKSUM.stop : _PREFIX.start],
        field,
        old[_PREFIX.stop :],
    )


def resized(block: bytes, size: int, name: str) -> bytes:
    """A file's header block with another size, and with another name below the same prefix; `name` has both."""
    new = bytearray(block)
    new[_NAME] = _field(name.removeprefix(f"{_text(block[_PREFIX])}/"), 100)
    new[_SIZE] = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    return _sealed(new)


def as_link(header: Header, prefix: str, target: str) -> bytes:
    """The header's block as a symbolic link to `target`."""
    info = tarfile.TarInfo.frombuf(header.block, "utf-8", "surrogateescape")
    return _made(info, prefix, info.name, tarfile.SYMTYPE, 0o777, 0, target)


def file_header(prefix: str, name: str, size: int, mtime: float, owner: Owner) -> bytes:
    """A header for a regular file of ours, mode 0600."""
    info = tarfile.TarInfo()
    info.mtime, info.uid, info.gid = mtime, owner.uid, owner.gid
    return _made(info, prefix, name, tarfile.REGTYPE, 0o600, size, "")


def folder_header(prefix: str, name: str, mtime: float, owner: Owner) -> bytes:
    """A header for a folder of ours, mode 0700."""
    info = tarfile.TarInfo()
    info.mtime, info.uid, info.gid = mtime, owner.uid, owner.gid
    return _made(info, prefix, name + "/", tarfile.DIRTYPE, 0o700, 0, "")


def _parsed(block: bytes) -> Header:
    """What ``tarfile`` would read, in a quarter of its time: crowded clusters have hundreds of thousands of members."""
    if len(block) != BLOCK_BYTES:
        raise ValueError(f"it has {len(block)} bytes")
    promised = block[_CHECKSUM]
    total = sum(block) - sum(promised) + 8 * ord(" ")
    if int(promised.strip(b" \0"), 8) != total:
        raise ValueError("its checksum is wrong")
    name, kind = _text(block[_NAME]), block[_KIND]
    is_folder, is_link = kind == tarfile.DIRTYPE, kind == tarfile.SYMTYPE
    if block[_PREFIX.start]:
        name = f"{_text(block[_PREFIX])}/{name}"
    return Header(
        block,
        total,
        name.rstrip("/") if is_folder else name,
        _number(block[_SIZE]) if kind in (tarfile.REGTYPE, tarfile.AREGTYPE) else 0,
        is_folder,
        is_link,
        _number(block[_MODE]),
        _text(block[_LINK_NAME]) if is_link else "",
    )


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _number(field: bytes) -> int:
    """A number in octal, or in base 256 where its first bit says so."""
    if field[0] & 0x80:
        return int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
    return int(field.strip(b" \0") or b"0", 8)


def _made(
    info: tarfile.TarInfo, prefix: str, name: str, kind: bytes, mode: int, size: int, link: str
) -> bytes:
    info.name, info.type, info.mode, info.size, info.linkname = "x", kind, mode, size, link
    info.uname = info.gname = "postgres"  # as the server's own members say
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape"))
    block[_NAME] = _field(name, 100)
    block[_PREFIX] = _field(prefix, 155)
    return _sealed(block)


def _field(text: str, width: int) -> bytes:
    raw = text.encode("utf-8", "surrogateescape")
    if len(raw) > width:
        raise ValueError(f"{text!r} is longer than {width} bytes")
    return raw.ljust(width, b"\0")


@lru_cache(maxsize=64)
def _prefix_field(prefix: str) -> tuple[bytes, int]:
    """The header's field for a prefix, and the sum of its bytes."""
    field = _field(prefix, 155)
    return field, sum(field)


def _sealed(block: bytearray) -> bytes:
    block[_CHECKSUM] = b" " * 8
    block[_CHECKSUM] = b"%06o\0 " % sum(block)
    return bytes(block)
