"""``INCREMENTAL.`` files: which blocks of a relation's file they hold, and which the file takes from older backups.

The server's format: three numbers of four bytes in its byte order (a mark, how many blocks follow, the truncation
block length), the blocks' numbers, zeros up to a whole block if there is any, then the blocks.
"""

import struct
from array import array
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

PREFIX = "INCREMENTAL."
_MARK = 0xD3AE1F0D
_START = struct.Struct("<III")
_NUMBER_BYTES = 4


class Blocks(NamedTuple):
    """The blocks of an ``INCREMENTAL.`` file by their numbers, rising.

    Blocks below `truncation` that are not among them are taken from older backups. `block_bytes` is a block's size.
    """

    numbers: Sequence[int]
    truncation: int
    block_bytes: int

    @property
    def content_offset(self) -> int:
        """Where in the ``INCREMENTAL.`` file the first block begins."""
        return _header_bytes(len(self.numbers), self.block_bytes)

    @property
    def stored_bytes(self) -> int:
        """The size of the ``INCREMENTAL.`` file."""
        return self.content_offset + len(self.numbers) * self.block_bytes

    @property
    def file_bytes(self) -> int:
        """The size of the file that is put together."""
        last = self.numbers[-1] + 1 if self.numbers else 0
        return max(self.truncation, last) * self.block_bytes


class HeaderReader:
    """Reads the header of an ``INCREMENTAL.`` file from its content as it passes by."""

    def __init__(self, block_bytes: int) -> None:
        self._block_bytes = block_bytes
        self._header = bytearray()
        self._needed = _START.size

    def feed(self, content: memoryview) -> Blocks | None:
        """What the file holds, as soon as that is known.

        Raises
        ------
        ValueError
            It is no ``INCREMENTAL.`` file.
        """
        content = self._take(content)
        if len(self._header) < self._needed:
            return None
        mark, count, truncation = _START.unpack_from(self._header)
        if mark != _MARK:
            raise ValueError(f"it begins with {mark:#x}, expected {_MARK:#x}")
        self._needed = _START.size + _NUMBER_BYTES * count
        self._take(content)
        if len(self._header) < self._needed:
            return None
        numbers = array("I", bytes(self._header[_START.size :]))
        if any(a >= b for a, b in pairwise(numbers)):
            raise ValueError("its block numbers do not rise")
        return Blocks(numbers, truncation, self._block_bytes)

    def _take(self, content: memoryview) -> memoryview:
        taken = content[: self._needed - len(self._header)]
        self._header += taken
        return content[len(taken) :]


def may_be_increment(path: str) -> bool:
    """Whether a file of an incremental backup is an ``INCREMENTAL.`` file, by its path below the data directory.

    Outside of the folders of relations a file may be called so by whoever put it there.
    """
    folder, _, name = path.rpartition("/")
    return name.startswith(PREFIX) and (
        folder == "global" or folder.startswith(("base/", "pg_tblspc/"))
    )


def _header_bytes(count: int, block_bytes: int) -> int:
    size = _START.size + _NUMBER_BYTES * count
    return size + -size % block_bytes if count else size
