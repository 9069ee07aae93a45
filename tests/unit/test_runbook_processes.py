"""The processes of a run are found however they moved."""

import os
import signal
import subprocess
import sys
import time

from opskit.runbooks._processes import descendants

# Its first thread ends, another goes on: a zombie with a child, as a process is for a moment that is being killed.
HALF_DEAD = (
    "import ctypes, subprocess, threading, time\n"
    "print(subprocess.Popen(['sleep', '61'], start_new_session=True).pid, flush=True)\n"
    "threading.Thread(target=time.sleep, args=(61,)).start()\n"
    "ctypes.CDLL(None).pthread_exit(None)\n"
)


def test_the_children_of_a_dying_process_are_found() -> None:
    """Nobody may take them for gone: who is handed to another parent a moment later would be left behind."""
    with subprocess.Popen([sys.executable, "-c", HALF_DEAD], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            deadline = time.monotonic() + 20
            while parent.pid in descendants(os.getpid()) and time.monotonic() < deadline:
                time.sleep(0.02)
            found = descendants(os.getpid())
            assert parent.pid not in found and child in found
        finally:
            os.kill(child, signal.SIGKILL)
            parent.kill()
