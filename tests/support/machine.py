"""What the machine can be made to do to a process: a disk that is small, and rights that are few."""

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from opskit.postgres.account import server_account


@contextmanager
def small_disk(directory: Path, kilobytes: int) -> Iterator[Path]:
    """A new directory that takes about that much.

    Root gets a file system of that size. Nobody else may mount one: then this process may write no longer file, which
    fails in the same place, for want of the same room.
    """
    directory.mkdir()
    if os.geteuid() == 0 and _mounted(directory, kilobytes):
        try:
            yield directory
        finally:
            subprocess.run(["umount", "--lazy", str(directory)], check=True)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes << 10, hard))
    try:
        yield directory
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def ordinary_user(*owned: Path) -> Iterator[None]:
    """Have no rights above those of the account that runs servers, which owns the directories `owned`.

    Root lays its rights down for the length of the block; modules that it imports lazily must have been imported.
    """
    account = server_account()
    if account is None:
        yield
        return
    for directory in owned:
        os.chown(directory, account.uid, account.gid)
    os.setegid(account.gid)
    os.seteuid(account.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def _mounted(directory: Path, kilobytes: int) -> bool:
    """Whether a container's root was allowed to mount."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k,mode=0755", "none", str(directory)],
        check=False,
        capture_output=True,
    )
    return done.returncode == 0
