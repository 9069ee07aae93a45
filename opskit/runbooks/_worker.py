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

# Exit codes: every cell was run; one of them raised; the kernel was lost; the notebook could not be run at all.
COMPLETE, RAISED, KERNEL_DIED, NOT_RUN = 0, 1, 4, 5
GRACE = 10.0


def main() -> int:
    """Run the notebook that the first line of standard input orders; end when that input ends."""
    order = json.loads(first_line())
    become_subreaper()
    signal.signal(signal.SIGTERM, _interrupt_kernel)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    return _run(order)


def first_line() -> bytes:
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(0, 1)):
        line += byte
    return line


def _interrupt_kernel(_signal: int, _frame: Any) -> None:
    # The kernel is our only child, and leads a process group: so the operation it waits for is told, too. The cell
    # then ends with KeyboardInterrupt, its context managers stop what they started, and papermill files the rest.
    for pid in children(os.getpid()):
        os.killpg(pid, signal.SIGINT)


def _end_with_supervisor() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    end_descendants(grace=1)
    os._exit(NOT_RUN)


def _run(order: dict[str, Any]) -> int:
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
            progress_bar=False,
        )
    except papermill.PapermillExecutionError:
        return RAISED
    except DeadKernelError:
        return KERNEL_DIED
    return COMPLETE


def _literally(path: str) -> str:
    """`path`, so that papermill's formatting of paths gives it back."""
    return path.replace("{", "{{").replace("}", "}}")


if __name__ == "__main__":
    sys.exit(main())
