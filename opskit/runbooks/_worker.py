"""The process that runs one notebook by papermill: started by the supervisor with the order on its standard input.

It knows nothing of reports. Its exit code tells the supervisor how it went; what the notebook came to is read from the
working copy, which is written after every cell, whole or not at all.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from opskit.runbooks._processes import become_subreaper, children, end_descendants

# Exit codes: every cell was run; one of them raised; it was asked to end; the kernel was lost; the supervisor was.
# Python itself ends with 1 on an error that nobody caught, so 1 is none of them.
COMPLETE, RAISED, STOPPED, KERNEL_DIED, ORPHANED = 0, 10, 11, 12, 13
GRACE = 10.0


def main() -> int:
    """Run the notebook that the first line of standard input orders; end when that input ends."""
    order = json.loads(first_line())
    become_subreaper()
    stop = _Stop()
    signal.signal(signal.SIGTERM, stop.ask)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    return _run(order, stop)


class Stopped(Exception):
    """Somebody asked for the end, and no further cell is begun."""


class _Stop:
    """Ends the run in order: the cell that runs is interrupted, and none is begun after it."""

    def __init__(self) -> None:
        self.asked = False

    def ask(self, _signal: int, _frame: Any) -> None:
        # The kernel is our only child, and leads a process group: so the operation it waits for is told, too. The
        # cell ends with KeyboardInterrupt, its context managers stop what they started, and papermill writes the rest.
        # A kernel that runs no cell ignores the signal (ipykernel does so between cells).
        if not self.asked:
            self.asked = True
            for pid in children(os.getpid()):
                os.killpg(pid, signal.SIGINT)

    def before_cell(self, **_: Any) -> None:
        if self.asked:
            raise Stopped


def first_line() -> bytes:
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(0, 1)):
        line += byte
    return line


def _end_with_supervisor() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    end_descendants(grace=1)
    os._exit(ORPHANED)


def _run(order: dict[str, Any], stop: _Stop) -> int:
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.iorw import LocalHandler, papermill_io

    from opskit.runbooks._kernel import OwnKernelManager

    class WholeFiles(LocalHandler):  # type: ignore[misc]
        """papermill's handler of local files, but a crash in the middle of a write loses nothing."""

        def write(self, buf: str, path: str) -> None:
            part = Path(path + ".part")
            part.write_text(buf, encoding="utf-8")
            part.replace(path)

    papermill_io.register("/", WholeFiles())
    try:
        papermill.execute_notebook(
            _literally(order["master"]),
            _literally(order["output"]),
            parameters=order["parameters"],
            kernel_name="python3",
            kernel_manager_class=OwnKernelManager,
            on_cell_execute=stop.before_cell,
            progress_bar=False,
        )
    except papermill.PapermillExecutionError:
        return RAISED
    except Stopped:
        return STOPPED
    except DeadKernelError:
        return KERNEL_DIED
    return COMPLETE


def _literally(path: str) -> str:
    """`path`, so that papermill's formatting of paths gives it back."""
    return path.replace("{", "{{").replace("}", "}}")


if __name__ == "__main__":
    sys.exit(main())
