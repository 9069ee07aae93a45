"""The segment that is being filled from a stream, and those behind it that a thread is storing.

What must stay true: segments become durable in their order, and `Filling.durable` never passes one that is not.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from opskit.errors import ConflictError, ErrorKind, OpskitError, ServerError, StoreError
from opskit.model.lsn import Lsn
from opskit.model.wal import WalSegment, check_segment
from opskit.operations.wal_place import Place
from opskit.repository.wal import WalArchive

_log = logging.getLogger(__name__)

_STORING_AT_ONCE = 2
_WAIT_SECONDS = 0.25


class Filling:
    """Takes the bytes of one timeline, from the place where a stream begins.

    Parameters
    ----------
    check
        Called while waiting for the storage; what it raises passes.
    """

    def __init__(
        self,
        archive: WalArchive,
        place: Place,
        system_identifier: str,
        check: Callable[[], None],
    ) -> None:
        self.durable = place.durable
        self._archive = archive
        self._segment = place.segment
        self._system_identifier = system_identifier
        self._check = check
        self._stored_before = place.partial
        size = place.segment.size
        self._free = deque(bytearray(size) for _ in range(_STORING_AT_ONCE + 1))
        self._buffer = self._free.popleft()
        self._filled = 0
        self._stored_filled = 0
        self._failed = threading.Event()
        self._storing = ThreadPoolExecutor(1, thread_name_prefix="wal")
        self._pending: deque[tuple[Future[None], WalSegment, bytearray]] = deque()

    def add(self, data: memoryview) -> None:
        """Append what the server sent; a segment that becomes full is handed over to be stored.

        Raises
        ------
        OpskitError
            What storing an earlier one raised.
        """
        while data:
            part = data[: self._segment.size - self._filled]
            self._buffer[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            data = data[len(part) :]
            if self._filled == self._segment.size:
                self._hand_over()

    def store_partial(self) -> None:
        """Make the beginning of the segment durable, if it has grown; errors as `add`."""
        self._await_all()
        if self._filled <= self._stored_filled:
            return
        content = memoryview(self._buffer)[: self._filled]
        if not self._stored_filled:
            check_segment(self._segment, content, self._system_identifier)
        self._compare_with_stored(self._segment, content)
        end = Lsn(self._segment.start + self._filled)
        if end > self.durable:
            self._archive.put_partial(self._segment, content)
            self.durable = end
        self._stored_filled = self._filled

    def take_note(self) -> bool:
        """Take note of segments that have become durable; whether there were any. Errors as `add`."""
        before = self.durable
        while self._pending and self._pending[0][0].done():
            self._take_oldest()
        return self.durable != before

    def finish(self, confirm: Callable[[Lsn], None] | None) -> None:
        """Store what there is, as far as the storage lets us, and `confirm` it where somebody is there to be told."""
        self._check = _go_on
        try:
            if not self._failed.is_set():
                self.store_partial()
        except (ServerError, StoreError) as error:
            _log.warning("the last partial segment is not stored: %s", error.message)
        finally:
            self._storing.shutdown()
        if confirm is not None:
            try:
                confirm(self.durable)
            except ServerError:  # gone: it is told after the next start
                return

    def _hand_over(self) -> None:
        future = self._storing.submit(self._store, self._segment, self._buffer)
        self._pending.append((future, self._segment, self._buffer))
        if not self._free:
            self._take_oldest()
        self._buffer = self._free.popleft()
        self._segment = self._segment.next()
        self._filled = self._stored_filled = 0

    def _store(self, segment: WalSegment, content: bytearray) -> None:
        """In the thread. Behind a segment that could not be stored none is: that would be a gap."""
        if self._failed.is_set():
            raise StoreError(
                f"WAL segment {segment.name} waits for an earlier one", permanent=False
            )
        try:
            check_segment(segment, content, self._system_identifier)
            self._compare_with_stored(segment, content)
            self._archive.put_segment(segment, content)
        except BaseException:
            self._failed.set()
            raise

    def _compare_with_stored(self, segment: WalSegment, content: bytearray | memoryview) -> None:
        """A server that was set back in time, and went on from there, sends something else than it did before."""
        before = self._stored_before
        if before is None or before.segment != segment or len(content) < len(before.content):
            return
        if memoryview(content)[: len(before.content)] != before.content:
            raise ConflictError(
                f"the server sends other WAL for segment {segment.name} than the archive has of it",
                ErrorKind.OBJECT_EXISTS,
                "The server went back in time: give the restored cluster a name of its own.",
            )
        self._stored_before = None

    def _await_all(self) -> None:
        while self._pending:
            self._take_oldest()

    def _take_oldest(self) -> None:
        future, segment, buffer = self._pending[0]
        while not future.done():
            wait([future], timeout=_WAIT_SECONDS)
            self._check()
        self._pending.popleft()
        self._free.append(buffer)
        try:
            future.result()
        except OpskitError:
            self._failed.set()
            raise
        self.durable = max(self.durable, segment.end)


def _go_on() -> None:
    """The check of those who have been asked to end already."""
