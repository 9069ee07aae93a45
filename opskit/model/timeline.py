"""Timelines: which one branched off which other, and where.

Whenever a recovery ends, or a standby is promoted, the cluster goes on on a new timeline, and a history file tells how
it came there (manual, "Timelines").
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from opskit.errors import ErrorKind, IntegrityError
from opskit.model.lsn import Lsn

_LINE = re.compile(r"\s*(\d+)\s+([0-9A-Fa-f]+/[0-9A-Fa-f]+)\s*(.*)")


@dataclass(frozen=True, slots=True)
class Stretch:
    """What a path takes of one timeline: from `start` up to `end`, `None` for the last one, which is open."""

    timeline: int
    start: Lsn
    end: Lsn | None

    def holds(self, lsn: int) -> bool:
        """Whether `lsn` lies on it; the switch point itself belongs to both sides."""
        return self.start <= lsn and (self.end is None or lsn <= self.end)


@dataclass(frozen=True, slots=True)
class TimelineHistory:
    """How the log leads to `timeline`: the stretches of its ancestors, and its own."""

    timeline: int
    stretches: tuple[Stretch, ...]

    @classmethod
    def alone(cls, timeline: int) -> "TimelineHistory":
        """The history of a timeline of which nothing is known."""
        return cls(timeline, (Stretch(timeline, Lsn(0), None),))

    def stretch_of(self, timeline: int) -> Stretch | None:
        """What the path takes of `timeline`; `None` when it is no ancestor."""
        return next((s for s in self.stretches if s.timeline == timeline), None)

    def passes(self, timeline: int, lsn: int) -> bool:
        """Whether the path goes through `lsn` on `timeline`."""
        stretch = self.stretch_of(timeline)
        return stretch is not None and stretch.holds(lsn)

    def at(self, lsn: int) -> Stretch:
        """The stretch that holds the byte at `lsn`."""
        return next(s for s in self.stretches if s.end is None or lsn < s.end)


def first_timeline() -> TimelineHistory:
    """The history of timeline 1, which has no file."""
    return TimelineHistory(1, (Stretch(1, Lsn(0), None),))


def read_history(timeline: int, content: bytes) -> TimelineHistory:
    """Read a history file.

    Raises
    ------
    IntegrityError
        A line is not ``<timeline> <LSN> <reason>``, or timelines do not rise.
    """
    switches = list(_switches(content))
    order = [switch[0] for switch in switches] + [timeline]
    if order != sorted(set(order)):
        raise IntegrityError(
            f"the history of timeline {timeline} lists the timelines {order[:-1]}, expected rising ones",
            ErrorKind.CHECKSUM_MISMATCH,
        )
    stretches: list[Stretch] = []
    start = Lsn(0)
    for ancestor, end in switches:
        stretches.append(Stretch(ancestor, start, end))
        start = end
    return TimelineHistory(timeline, (*stretches, Stretch(timeline, start, None)))


def _switches(content: bytes) -> Iterator[tuple[int, Lsn]]:
    for line in content.decode("utf-8", "replace").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise IntegrityError(
                f"the line {line!r} of a history file is not '<timeline> <LSN> <reason>'",
                ErrorKind.CHECKSUM_MISMATCH,
            )
        yield int(match[1]), Lsn.parse(match[2])
