"""Processes while they work: their memory, looked at again and again, and what a server works. By Linux's /proc."""

import os
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_LOOK_SECONDS = 0.04
_KILOBYTE = 1024


class Watch:
    """Looks at the processes of a command, and at those that a server has for it, until it is left.

    `tree_bytes` is the largest sum of the resident memory of all the command's processes: pages that they share count
    for each, and a command that is over at once has none. `server_bytes` is the largest memory of its own of a process
    that the server has started meanwhile: the one that serves the command. Without a server it is `None`.
    """

    def __init__(self, pid: int, server_pid: int | None) -> None:
        self.tree_bytes = 0
        self.server_bytes: int | None = None if server_pid is None else 0
        self._pid, self._server_pid = pid, server_pid
        self._before = set(_children(server_pid)) if server_pid else set[int]()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(
            _LOOK_SECONDS
        ):  # at once it would still be a copy of this process
            self.tree_bytes = max(self.tree_bytes, _tree_bytes(self._pid))
            if self._server_pid is not None:
                serving = set(_children(self._server_pid)) - self._before
                own = (_memory(pid, "RssAnon:") for pid in serving)
                self.server_bytes = max(self.server_bytes or 0, *own, 0)


def worked_seconds(server_pid: int) -> float:
    """What a server's processes have worked since its start, those that have ended included."""
    own = sum(_stat(server_pid)[11:15])
    living = sum(sum(_stat(child)[11:13]) for child in _children(server_pid))
    return (own + living) / os.sysconf("SC_CLK_TCK")


def process_seconds(pid: int) -> float:
    """What one process has worked."""
    return sum(_stat(pid)[11:13]) / os.sysconf("SC_CLK_TCK")


def _tree_bytes(pid: int) -> int:
    return _memory(pid, "VmRSS:") + sum(_tree_bytes(child) for child in _children(pid))


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):  # it has ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


def _memory(pid: int, key: str) -> int:
    with suppress(OSError):
        said = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").partition(key)[2].split()
        return int(said[0]) * _KILOBYTE if said else 0  # one that has ended has no memory
    return 0


def _stat(pid: int) -> list[int]:
    """The numbers behind a process's name and state (proc_pid_stat(5): the first one, of the parent, is number 1)."""
    with suppress(OSError):
        words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return [0, *(int(word) for word in words[1:])]
    return [0] * 15
