"""The thread that looks, again and again, while a panel is open."""

import threading
from collections.abc import Callable


class Watch:
    """Calls `look` in a thread of its own until it is stopped, or the process ends.

    Parameters
    ----------
    look
        Must not raise and must not print: what a thread prints lands in whichever cell runs. Returns the seconds until
        the next time.
    """

    def __init__(self, look: Callable[[], float]) -> None:
        self._look = look
        self._nudge = threading.Event()
        self._looked = threading.Event()
        self._shows = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="opskit panel", daemon=True)

    def start(self, patience: float = 0) -> None:
        """Begin with a look, and wait at most `patience` seconds until it ends or `shows` something."""
        self._thread.start()
        self._shows.wait(patience)

    def shows(self) -> None:
        """Tell, in a look, that there is something to be seen already."""
        self._shows.set()

    @property
    def has_looked(self) -> bool:
        """Whether the first look has ended."""
        return self._looked.is_set()

    def wake(self) -> None:
        """Look at once."""
        self._nudge.set()

    def stop(self) -> None:
        """Look no more; a look that is under way ends by itself."""
        self._stopped = True
        self._nudge.set()

    def join(self, timeout: float) -> None:
        """Wait, in seconds, for the end of a watch that was stopped."""
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopped:
            pause = self._look()
            self._looked.set()
            self._shows.set()
            self._nudge.wait(pause)
            self._nudge.clear()
