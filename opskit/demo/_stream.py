"""The process that streams the demo's WAL: started, found again, stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from opskit.demo._place import write_whole

_PARTIAL_SECONDS = 5
_STOP_SECONDS = 15.0


def ensure_stream(home: Path, configuration: Path) -> int:
    """See to it that ``opskit wal stream main`` runs, with its log in `home`; its process id.

    It outlives this process, and ends by itself when the configuration is removed.
    """
    pid = running_stream(home)
    if pid is not None:
        return pid
    with (home / "wal-stream.log").open("a") as log:
        child = _Detached(
            [
                *(sys.executable, "-m", "opskit", "--config", str(configuration)),
                *("wal", "stream", "main", f"--partial-seconds={_PARTIAL_SECONDS}"),
                f"--while={configuration}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    mark = {"format": 1, "pid": child.pid, "started": _started(child.pid)}
    write_whole(home / "wal-stream.json", json.dumps(mark) + "\n")
    return child.pid


def stop_stream(home: Path) -> bool:
    """End the process, which stores what it has; whether it ran."""
    pid = running_stream(home)
    if pid is None:
        return False
    deadline = time.monotonic() + _STOP_SECONDS
    os.kill(pid, signal.SIGTERM)
    while running_stream(home) is not None:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            break
        time.sleep(0.05)
    return True


def running_stream(home: Path) -> int | None:
    """The id of the process that streams; `None` when there is none."""
    try:
        mark = json.loads((home / "wal-stream.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    pid: int = mark["pid"]
    with suppress(ChildProcessError):  # it is another's child
        os.waitpid(pid, os.WNOHANG)
    return pid if _started(pid) == mark["started"] else None


def _started(pid: int) -> str | None:
    """When a process started, in the kernel's ticks, as pids are used again; `None` when it does not run."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


class _Detached(subprocess.Popen[bytes]):
    """A child that outlives this process on purpose, so that it is no leak."""

    def __del__(self) -> None:
        """Leave it."""
