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

from opskit.runbooks import _filing
from opskit.runbooks._imports import lighten
from opskit.runbooks._processes import become_subreaper, end_descendants
from opskit.runbooks._stop import StopRequest

# Exit codes: every cell was run; the run did not pass; it was asked to end; the kernel was lost; the supervisor
# was; the disk is full.
# Python itself ends with 1 on an error that nobody caught, so 1 is none of them.
COMPLETE, RAISED, STOPPED, KERNEL_DIED, ORPHANED, NO_ROOM = 0, 10, 11, 12, 13, 14
ENGINE = "opskit"
GRACE = 10.0
# Twenty runs may begin at once.
START_TIMEOUT = 600


def main() -> int:
    """Run the notebook that the first line of standard input orders; end when that input ends."""
    order = json.loads(first_line())
    become_subreaper()
    stop = StopRequest()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop.ask)
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    return _run(order, stop)


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


def _run(order: dict[str, object], stop: StopRequest) -> int:
    lighten()
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.engines import papermill_engines

    from opskit.runbooks._engine import OpskitEngine

    papermill_engines.register(ENGINE, OpskitEngine)  # whatever is installed under that name
    try:
        papermill.execute_notebook(
            _literally(str(order["master"])),
            _literally(str(order["output"])),
            parameters=order["parameters"],
            engine_name=ENGINE,
            progress_bar=False,
            start_timeout=START_TIMEOUT,
            stop=stop,
        )
    except Exception as error:
        if stop.asked:
            return STOPPED
        if isinstance(error, DeadKernelError):
            return KERNEL_DIED
        if isinstance(error, papermill.exceptions.PapermillException):
            return RAISED
        if isinstance(error, OSError) and error.errno in _filing.NO_ROOM:
            return NO_ROOM
        raise
    return COMPLETE


def _literally(path: str) -> str:
    """`path`, so that papermill's formatting of paths gives it back."""
    return path.replace("{", "{{").replace("}", "}}")


if __name__ == "__main__":
    sys.exit(main())
