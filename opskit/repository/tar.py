"""Tar headers: read from the server's archives, given their final names, and made for files of our own.

POSIX ustar, as PostgreSQL writes it: 512-byte blocks, names of up to 99 bytes, sizes beyond 8 GiB in base 256. Our
prefix goes into the header's prefix field, so the server's name stays as it is and always fits.
"""

import tarfile
from dataclasses import dataclass

from opskit.errors import ErrorKind, ServerError

BLOCK_BYTES = 512
END_OF_ARCHIVE = bytes(2 * BLOCK_BYTES)

_NAME = slice(0, 100)
_CHECKSUM = slice(148, 156)
_LINK_NAME = slice(157, 257)
_PREFIX = slice(345, 500)


@dataclass(frozen=True, slots=True)
class Header:
    """One member's header block and what it says. `size` is the content's, without padding."""

    block: bytes
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
    if not any(block):
        return None
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise ServerError(
            f"the server's archive holds a broken tar header: {error}", ErrorKind.SERVER_REFUSED
        ) from None
    return Header(
        block,
        info.name,
        info.size if info.isreg() else 0,
        info.isdir(),
        info.issym(),
        info.mode,
        info.linkname,
    )


def owner_of(header: Header) -> Owner:
    """The numeric owner that the header names."""
    info = tarfile.TarInfo.frombuf(header.block, "utf-8", "surrogateescape")
    return Owner(info.uid, info.gid)


def below(header: Header, prefix: str, name: str | None = None) -> bytes:
    """The header's block for the same member as ``<prefix>/<name>``; the name defaults to the member's own."""
    block = bytearray(header.block)
    if name is not None:
        block[_NAME] = _field(name, 100)
    block[_PREFIX] = _field(prefix, 155)
    return _sealed(block)


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


def _sealed(block: bytearray) -> bytes:
    block[_CHECKSUM] = b" " * 8
    block[_CHECKSUM] = b"%06o\0 " % sum(block)
    return bytes(block)
