"""Log sequence numbers: byte positions in the write-ahead log."""

import re
from typing import Self

from opskit.errors import InputError

_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")


class Lsn(int):
    """A byte position in the WAL, written as PostgreSQL writes it: ``Lsn(0x3000028)`` is ``0/3000028``.

    An `int` with a notation, so that differences are bytes and order is that of the log
    (PostgreSQL manual, "pg_lsn Type").
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read PostgreSQL's notation.

        Raises
        ------
        InputError
            `text` is not two hexadecimal numbers of up to eight digits with a slash between.
        """
        match = _LSN.fullmatch(text)
        if match is None:
            raise InputError(f"lsn {text!r} is not of the form '16/B374D848'")
        return cls(int(match[1], 16) << 32 | int(match[2], 16))

    def __str__(self) -> str:
        return f"{self >> 32:X}/{self & 0xFFFFFFFF:X}"

    def __repr__(self) -> str:
        return f"Lsn('{self}')"
