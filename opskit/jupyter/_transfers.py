"""Downloads as operations: one for a whole download, however many requests it takes.

A browser that goes on after a cut, and a program that fetches four ranges at once, send many requests for one download.
So a transfer is looked up by who asks for what, and stays open for a while when no request is under way.
"""

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opskit.errors import Cancelled, OpskitError
from opskit.jupyter._ranges import Coverage
from opskit.model.format import format_bytes
from opskit.model.operation import OperationKind, Progress

if TYPE_CHECKING:
    from opskit.cluster import Cluster
    from opskit.operations.recorder import Recorder

_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Who downloads which archive, of how many bytes; `name` is the file's.

    What is made on the way has no length before the end, no version and no parts: it cannot be gone on with.
    """

    user: str
    cluster: str
    backup: str
    version: str | None
    name: str
    length: int | None


class Transfer:
    """One person's download of one archive.

    A thread of its own holds its operation open, from the first request until all of the archive has been handed over,
    somebody cancels it, or no request comes for `patience` seconds. `recorded` is done when the catalog has it.

    Parameters
    ----------
    cut, start
        The first request; see `join`.
    """

    def __init__(
        self,
        source: "Cluster",
        wanted: Wanted,
        patience: float,
        cut: Callable[[], None],
        start: int,
    ) -> None:
        self._source, self.wanted, self._patience = source, wanted, patience
        self._changed = threading.Condition()
        self._covered = Coverage()
        self._in_doubt: list[tuple[int, int]] = []
        self._lowest = start
        self._length = wanted.length
        self._requests = [cut]
        self._idle_since = time.monotonic()
        self._failure: OpskitError | None = None
        self._has_ended = False
        self.recorded: Future[None] = Future()
        self._thread = threading.Thread(target=self._hold, name="opskit transfer", daemon=True)
        self._thread.start()

    def join(self, cut: Callable[[], None], start: int) -> bool:
        """Begin a request for the bytes from `start` on, which `cut` ends; false when the transfer has ended.

        Who goes on from there has what was under way before when the connection ended.
        """
        with self._changed:
            if not self._has_ended:
                self._requests.append(cut)
                self._lowest = min(self._lowest, start)
                for first, last in self._in_doubt:
                    if first < start <= last:
                        self._covered.add(first, start)
            return not self._has_ended

    def leave(
        self, cut: Callable[[], None], in_doubt: tuple[int, int], failure: OpskitError | None
    ) -> None:
        """End a request; with a `failure` the operation ends, and all its other requests.

        `in_doubt` are the bytes, up to but not including the last, that were under way when its connection ended.
        """
        with self._changed:
            self._requests.remove(cut)
            self._in_doubt.append(in_doubt)
            self._failure = self._failure or failure
            self._idle_since = time.monotonic()
            self._changed.notify()

    def handed_over(self, start: int, stop: int) -> None:
        """Count bytes that the client's connection took."""
        with self._changed:
            self._covered.add(start, stop)

    def has_all(self, length: int) -> None:
        """Tell the length of what was made on the way, when its end has been handed over."""
        with self._changed:
            self._length = length

    def end(self, failure: OpskitError) -> None:
        """End the operation with `failure`, and cut all its requests."""
        with self._changed:
            self._failure = self._failure or failure
            self._changed.notify()

    @property
    def has_ended(self) -> bool:
        """Whether no request can join any more."""
        return self._has_ended

    def wait(self, timeout: float) -> None:
        """Wait, in seconds, until the end is recorded."""
        self._thread.join(timeout)

    def _hold(self) -> None:
        wanted = self.wanted
        try:
            # Loaded when somebody downloads: every Jupyter server where opskit is installed waits for this module.
            from opskit.cluster._opened import actor_name
            from opskit.operations.recorder import recorded

            with recorded(
                lambda: self._source.catalog,
                kind=OperationKind.DOWNLOAD,
                cluster=wanted.cluster,
                parameters={
                    "through": "Jupyter Server",
                    "path": wanted.name,
                    **({} if wanted.version is None else {"version": wanted.version}),
                },
                actor=actor_name(),
                jupyter_user=wanted.user,
                id=uuid.uuid4().hex,  # nobody gets a backup from here unrecorded
            ) as recorder:
                recorder.backup = wanted.backup
                self.recorded.set_result(None)
                try:
                    self._watch(recorder)
                finally:
                    self._cut()  # before the end is written, which may take a while
        except BaseException as error:
            # Its row tells of it, or the request that began it: that one's connection is not cut.
            self._has_ended = True
            if not self.recorded.done():
                self.recorded.set_exception(error)

    def _watch(self, recorder: "Recorder") -> None:
        while True:
            with self._changed:
                self._changed.wait(_LOOK_SECONDS)
                progress = self._progress()
                is_over = self._is_over()
                self._has_ended = is_over or self._failure is not None
            recorder.report(progress)
            recorder.check()
            if self._failure is not None:
                raise self._failure
            if is_over:
                self._conclude(recorder, progress)
                return

    def _is_over(self) -> bool:
        if self._requests:
            return False
        if self.wanted.length is None or self._covered.is_whole(0, self.wanted.length):
            return True
        return time.monotonic() - self._idle_since > self._patience

    def _conclude(self, recorder: "Recorder", progress: Progress) -> None:
        """Complete is what was handed over from the first byte that was asked for up to the archive's end."""
        length = self._length
        told = {"bytes": progress.bytes_done, "first_byte": self._lowest, "of_bytes": length}
        recorder.result = told
        done = format_bytes(progress.bytes_done)
        if length is None:
            raise Cancelled(f"the connection was cut at {done}")
        if not self._covered.is_whole(self._lowest, length):
            whole = format_bytes(length)
            raise Cancelled(f"the connection was cut, and not taken up again, at {done} of {whole}")

    def _progress(self) -> Progress:
        phase = "sending" if self._requests else "waiting for the browser"
        done = self._covered.total
        return Progress(phase=phase, bytes_done=done, bytes_expected=self.wanted.length)

    def _cut(self) -> None:
        with self._changed:
            self._has_ended = True
            requests = list(self._requests)
        for cut in requests:
            cut()


class Transfers:
    """The transfers of a server. Safe to use from several threads at once.

    Parameters
    ----------
    patience
        For how many seconds one stays open without a request.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._open: list[Transfer] = []

    def request(
        self,
        source: "Cluster",
        wanted: Wanted,
        cut: Callable[[], None],
        part: tuple[int, int] | None,
    ) -> Transfer:
        """The transfer that a request belongs to, joined: one for a part goes on with what is open, if anything is.

        Parameters
        ----------
        cut
            Ends the request; called from any thread.
        part
            The bytes that are asked for, from the first up to but not including the last; `None` for all.
        """
        start = 0 if part is None else part[0]
        with self._lock:
            self._open = [transfer for transfer in self._open if not transfer.has_ended]
            for transfer in reversed(self._open if part is not None else []):
                if transfer.wanted == wanted and transfer.join(cut, start):
                    return transfer
            begun = Transfer(source, wanted, self._patience, cut, start)
            self._open.append(begun)
            return begun

    def stop(self, reason: OpskitError, timeout: float) -> None:
        """End all, and wait until that is recorded, each in seconds at most `timeout`."""
        with self._lock:
            ending = list(self._open)
        for transfer in ending:
            transfer.end(reason)
        for transfer in ending:
            transfer.wait(timeout)
