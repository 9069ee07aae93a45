"""Fetch the segments that a recovery asks for next, into its spool.

It runs beside the recovery, in a process of its own, for as long as its segments are taken. It decides nothing: what it
cannot fetch, the call that needs it meets, and tells.
"""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress

from opskit.errors import OpskitError
from opskit.model.wal import WalSegment, check_segment
from opskit.operations.wal_spool import SpoolLead, most_segments
from opskit.repository.wal import WalArchive

_AT_ONCE = 2
_POLL_SECONDS = 0.02
_IDLE_SECONDS = 2.0


def fetch_ahead(
    archive: WalArchive, system_identifier: str, first: WalSegment, spool: SpoolLead
) -> None:
    """Keep the spool full of the segments from `first` on, on its timeline.

    Ends where the archive does, when a segment cannot be fetched, when none has been taken for two seconds, and when
    the server has ended or the spool has been removed. Raises nothing for what goes wrong with a segment. A spool that
    is empty in the end is removed.
    """
    ahead = _Ahead(archive, system_identifier, first, spool)
    if spool.has_room(first.size):
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="ahead") as threads:
            _fill(ahead, threads)
            ahead.withdraw()
    else:
        ahead.withdraw()
    if not spool.is_wanted() or not spool.whole():
        spool.remove()


def _fill(ahead: "_Ahead", threads: ThreadPoolExecutor) -> None:
    fetching: deque[Future[bool]] = deque()
    while ahead.is_of_use():
        while fetching and fetching[0].done():
            ahead.has_ended |= not fetching.popleft().result()
        if ahead.has_ended and not fetching:
            return
        segment = ahead.begin() if len(fetching) < _AT_ONCE else None
        if segment is not None:
            fetching.append(threads.submit(ahead.fetch, segment))
        elif fetching:
            wait(fetching, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
        else:
            time.sleep(_POLL_SECONDS)


class _Ahead:
    """What to fetch next, and how."""

    def __init__(
        self, archive: WalArchive, system_identifier: str, first: WalSegment, spool: SpoolLead
    ) -> None:
        self.has_ended = False
        self._archive, self._system_identifier, self._spool = archive, system_identifier, spool
        self._next = first
        announced = set(spool.names()) - set(spool.whole())
        self._is_announced = first.name in announced
        for name in announced - {first.name}:
            spool.give_up(name)  # see `Spool.lead`
        self._left = len(spool.names())
        self._taken_at = time.monotonic()

    def is_of_use(self) -> bool:
        """Whether somebody takes what is fetched."""
        left = len(self._spool.names())
        if left < self._left:
            self._taken_at = time.monotonic()
        self._left = left
        return time.monotonic() - self._taken_at < _IDLE_SECONDS and self._spool.is_wanted()

    def begin(self) -> WalSegment | None:
        """The next segment, if there is room for it.

        What follows it is announced by then: who takes a segment finds the next one here, or coming.
        """
        self._announce()
        if self.has_ended or not self._is_announced:
            return None
        segment, self._next, self._is_announced = self._next, self._next.next(), False
        self._announce()
        return segment

    def withdraw(self) -> None:
        """Take back what was announced and not begun."""
        if self._is_announced:
            self._is_announced = False
            with suppress(OSError):
                self._spool.give_up(self._next.name)

    def _announce(self) -> None:
        if self.has_ended or self._is_announced or self._left >= most_segments(self._next.size):
            return
        try:
            self._spool.announce(self._next.name)
        except OSError:  # the spool is gone, or the disk is full
            self.has_ended = True
            return
        self._is_announced = True
        self._left += 1

    def fetch(self, segment: WalSegment) -> bool:
        """Fetch a segment that was announced, in a thread; whether it is there."""
        try:
            self._spool.put(segment.name, self._checked(segment))
        except (OpskitError, OSError):
            with suppress(OSError):
                self._spool.give_up(segment.name)
            return False
        return True

    def _checked(self, segment: WalSegment) -> Iterator[bytes]:
        """Its pieces, of which the first one has its header."""
        is_checked = False
        for piece in self._archive.pieces(segment):
            if not is_checked:
                check_segment(segment, piece, self._system_identifier)
                is_checked = True
            yield piece
