"""What a request asks for of an archive, and what of it has been handed over. Pure; RFC 9110 is the source."""

import re
from bisect import bisect_left

_ONE_RANGE = re.compile(r"bytes=\s*([0-9]{0,19})-([0-9]{0,19})\s*", re.IGNORECASE)
_TAG = re.compile(r'(W/)?"([^"]*)"')


class Unsatisfiable(Exception):
    """The range that is asked for begins behind the end."""


def asked_range(header: str | None, length: int) -> tuple[int, int] | None:
    """The bytes that a ``Range`` header asks for, from the first up to but not including the last.

    `None` is for the whole: without a header, with one that is malformed, and with several ranges at once, which a
    server may answer so (section 14.2).

    Raises
    ------
    Unsatisfiable
        There are no such bytes.
    """
    match = _ONE_RANGE.fullmatch(header or "")
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":  # the last so many
        start, stop = max(length - int(match[2]), 0), length
    else:
        start = int(match[1])
        stop = min(int(match[2]) + 1, length) if match[2] else length
        if match[2] and int(match[2]) < start:
            return None
    if start >= stop:
        raise Unsatisfiable
    return start, stop


def names_tag(header: str, tag: str, *, strongly: bool) -> bool:
    """Whether a list of entity tags has `tag` (without its quotation marks), or is ``*``."""
    if header.strip() == "*":
        return True
    return any(name == tag and not (strongly and weak) for weak, name in _TAG.findall(header))


class Coverage:
    """Which bytes have been handed over, in whatever order and however often."""

    def __init__(self) -> None:
        self._spans: list[tuple[int, int]] = []  # apart from each other, rising

    def add(self, start: int, stop: int) -> None:
        """Count the bytes from `start` up to but not including `stop`."""
        first = bisect_left(self._spans, start, key=lambda span: span[1])
        last = first
        while last < len(self._spans) and self._spans[last][0] <= stop:
            start, stop = min(start, self._spans[last][0]), max(stop, self._spans[last][1])
            last += 1
        self._spans[first:last] = [(start, stop)]

    @property
    def total(self) -> int:
        """How many bytes they are."""
        return sum(stop - start for start, stop in self._spans)

    def is_whole(self, start: int, stop: int) -> bool:
        """Whether these bytes are among them."""
        return any(first <= start and stop <= last for first, last in self._spans)
