"""Operations that take their time, as on a busy machine."""

import os
import signal
import time
from contextlib import suppress

from opskit.catalog import Catalog
from opskit.model.operation import OperationStatus


def crawl(catalog: Catalog, operation: str) -> None:
    """Let the process of an operation run for some of the time only, until it has ended."""
    running = catalog.get(operation)
    with suppress(ProcessLookupError):
        try:
            while catalog.get(operation).status is OperationStatus.RUNNING:
                for number, seconds in ((signal.SIGCONT, 0.03), (signal.SIGSTOP, 0.3)):
                    os.kill(running.pid, number)
                    time.sleep(seconds)
        finally:
            os.kill(running.pid, signal.SIGCONT)
