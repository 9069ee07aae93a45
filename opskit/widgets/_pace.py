"""How fast an operation goes, from what its progress was some seconds ago."""

from collections import deque
from datetime import timedelta

from opskit.model.operation import Progress

_WINDOW_SECONDS = 8.0
_LEAST_SECONDS = 1.0


class Pace:
    """Rate and time left of one operation, over the last seconds of its present phase."""

    def __init__(self) -> None:
        self._phase = ""
        self._seen: deque[tuple[float, int]] = deque()
        self._expected: int | None = None

    def saw(self, progress: Progress, at: float) -> None:
        """Note the progress that was seen at `at`, in seconds of a clock that never goes back."""
        if progress.phase != self._phase:
            self._phase = progress.phase
            self._seen.clear()
        self._expected = progress.bytes_expected
        self._seen.append((at, progress.bytes_done))
        while len(self._seen) > 2 and self._seen[1][0] <= at - _WINDOW_SECONDS:
            self._seen.popleft()

    @property
    def rate(self) -> float | None:
        """Bytes a second; `None` until there is something to tell."""
        if len(self._seen) < 2:
            return None
        (first_at, first), (last_at, last) = self._seen[0], self._seen[-1]
        if last_at - first_at < _LEAST_SECONDS or last <= first:
            return None
        return (last - first) / (last_at - first_at)

    @property
    def left(self) -> timedelta | None:
        """The time left at this rate; `None` while it cannot be told."""
        rate = self.rate
        if rate is None or self._expected is None or self._expected <= self._seen[-1][1]:
            return None
        return timedelta(seconds=(self._expected - self._seen[-1][1]) / rate)
