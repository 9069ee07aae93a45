"""The process between papermill and a kernel: whatever ends either of them, nothing that the kernel started is left.

It is the subreaper of everything below the kernel. When the kernel ends it ends what is left and ends as well, which is
how papermill hears of it; when papermill ends it interrupts the kernel and ends it, and puts right what the executed
notebook says, for nobody else is there to do it.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from opskit.runbooks._processes import become_subreaper, descendants, end_descendants, reap
from opskit.runbooks._scratch import clear

POLL = 0.5
# An interrupted cell stops its servers; then whoever is left is told, and killed.
INTERRUPTED_GRACE = 5.0
LEFT_BEHIND_GRACE = 5.0


def main() -> int:
    """Run ``PARENT-PID OUTPUT COMMAND…``; `OUTPUT` is empty where somebody else answers for the notebook."""
    parent, output, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    become_subreaper()
    signals = _Signals()
    # ipykernel ends by itself, should this process be killed
    kernel = subprocess.Popen(command, env=os.environ | {"JPY_PARENT_PID": str(os.getpid())})
    code = _watch(kernel.pid, parent, signals)
    kernel.returncode = code if code is not None else -signal.SIGKILL
    if code is None and not signals.terminated:
        _interrupt(kernel.pid)
    end_descendants(LEFT_BEHIND_GRACE)
    if os.getppid() != parent and output:
        _put_right(Path(output))
        clear(os.environ)
    return 128 - kernel.returncode if kernel.returncode < 0 else kernel.returncode


class _Signals:
    """Lets a wait end when a signal comes; SIGINT is meant for the kernel, which gets its own."""

    def __init__(self) -> None:
        self.terminated = False
        self._read, write = os.pipe()
        os.set_blocking(write, False)
        os.set_blocking(self._read, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)  # not ignored: the kernel would inherit that
        signal.signal(signal.SIGTERM, self._terminate)

    def wait(self, seconds: float) -> None:
        select.select([self._read], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 512)

    def _terminate(self, *_: object) -> None:
        self.terminated = True


def _watch(kernel: int, parent: int, signals: _Signals) -> int | None:
    """The kernel's exit code; `None` when it must be ended."""
    while True:
        ended = reap()
        if kernel in ended:
            return ended[kernel]
        if signals.terminated or os.getppid() != parent:
            return None
        signals.wait(POLL)


def _interrupt(kernel: int) -> None:
    deadline = time.monotonic() + INTERRUPTED_GRACE
    os.killpg(0, signal.SIGINT)
    while descendants(kernel) and time.monotonic() < deadline:
        time.sleep(0.1)


def _put_right(output: Path) -> None:
    from opskit.runbooks._execution import settle_lost

    with contextlib.suppress(OSError, ValueError):
        settle_lost(output)


if __name__ == "__main__":
    sys.exit(main())
