"""The wish that a run should end: noted when a signal brings it, and fulfilled in order."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

# So long a cell may take to stop servers and cancel operations.
GRACE = 30.0
# A cell that has been announced is running its own code by then.
BEGUN = 0.2


class Stopped(Exception):
    """Somebody asked for the end, and no further cell is begun."""


class StopRequest:
    """Ends a run in order: the cell that runs is interrupted, and none is begun after it.

    `asked` is the signal that asked first. `kernel` is the process that leads the kernel's group, once there is one.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self.kernel: int | None = None
        self._cell_runs = False

    def ask(self, number: int, _frame: FrameType | None = None) -> None:
        """Note the wish; a handler of signals."""
        if self.asked is None:
            self.asked = signal.Signals(number)
            self._later(GRACE, signal.SIGTERM)
            if self._cell_runs:
                self._later(BEGUN, signal.SIGINT)
        elif number == signal.SIGINT and self.kernel is not None:  # Ctrl-C once more: at once
            self._tell(self.kernel, signal.SIGTERM)

    def cell_begins(self) -> None:
        """The kernel says that it runs a cell now: a signal sent before was lost on it (ipykernel ignores it)."""
        self._cell_runs = True
        if self.asked is not None:
            self._later(BEGUN, signal.SIGINT)

    def cell_ends(self) -> None:
        """No cell runs."""
        self._cell_runs = False

    def check(self) -> None:
        """Go on, unless somebody asked for the end."""
        if self.asked is not None:
            raise Stopped

    def _later(self, seconds: float, number: signal.Signals) -> None:
        if self.kernel is not None:
            later = threading.Timer(seconds, self._tell, (self.kernel, number))
            later.daemon = True
            later.start()

    def _tell(self, leader: int, number: signal.Signals) -> None:
        # The operation for which a cell waits is in the kernel's process group, so it is told, too. The cell ends with
        # KeyboardInterrupt, its context managers stop what they started, and papermill writes the rest.
        if leader == self.kernel and (self._cell_runs or number != signal.SIGINT):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(leader, number)


@contextlib.contextmanager
def stop_by_signals(*numbers: signal.Signals) -> Iterator[StopRequest]:
    """Have `numbers` ask for the end; afterwards the one that did is handed on to whom it was for.

    Signals can be handled in the main thread only: in another one nothing asks.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    heard = [n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop.ask) for number in heard}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if stop.asked is not None:
            signal.raise_signal(stop.asked)
