"""Processes of a run: found however they moved, and ended without leaving one behind.

A kernel, a PostgreSQL server and an operation each live in a session of their own, so no signal to one process group
reaches all of them, and who loses its parent is handed to init. Linux lets a process be the *subreaper* of everything
it started, directly or not (prctl(2), ``PR_SET_CHILD_SUBREAPER``): then the tree below it stays whole.
"""

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Have orphans below this process handed to it, not to init. Without effect where the system cannot."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """The processes below `pid`, each after its parent, zombies left out."""
    tree, found, waiting = _tree(), list[int](), [pid]
    while waiting:
        below = tree.get(waiting.pop(), [])
        found += [child for child, is_zombie in below if not is_zombie]
        # A process whose first thread has ended while others are ending is a zombie, and keeps its children until then.
        waiting += [child for child, _ in below]
    return found


def _tree() -> dict[int, list[tuple[int, bool]]]:
    """The children of each process, and whether each is a zombie."""
    tree: dict[int, list[tuple[int, bool]]] = {}
    for entry in Path("/proc").iterdir() if Path("/proc").is_dir() else ():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                # "pid (name) state ppid …"; the name may hold anything, parentheses too (proc(5))
                state, parent = (
                    (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[:2]
                )
                tree.setdefault(int(parent), []).append((int(entry.name), state in "ZX"))
    return tree


def reap() -> dict[int, int]:
    """Exit codes of the children that ended since the last call; those of orphans that came to us too."""
    ended: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended[pid] = os.waitstatus_to_exitcode(status)
    return ended


def end_descendants(grace: float) -> dict[int, int]:
    """End every process below this one: SIGTERM, and after `grace` seconds SIGKILL, until there is none.

    Returns the exit codes of those that were children of this process when they ended.
    """
    ended: dict[int, int] = {}
    told: set[int] = set()
    deadline = time.monotonic() + grace
    while True:
        ended |= reap()
        below = descendants(os.getpid())
        if not below:
            return ended
        late = time.monotonic() > deadline
        for pid in below:
            if late or pid not in told:
                told.add(pid)
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        time.sleep(0.05)
