"""Files on their way to the disk: large ones go there while they are written, and a sync sees what went wrong."""

import ctypes
import os
from pathlib import Path
from typing import Self

from opskit.errors import ErrorKind, StoreError

# Less is too little for the disk to have taken by then; more is memory for nothing.
_BEHIND_BYTES = 16 << 20


def write_behind(descriptor: int, begin: int, end: int) -> None:
    """Have the disk take what has just been written of a large file from `begin` to `end`, and do not wait for it.

    Linux would let it gather until somebody syncs, who then waits while the processors idle. What the disk has taken
    leaves the memory, where it would take the place of what the machine's servers read; the file's last pages stay.

    It makes nothing durable; a failure of the disk is told to who syncs.
    """
    begin = max(0, begin - _BEHIND_BYTES)
    # Pages that are to be written are sent to the disk; only those that have been are forgotten (mm/fadvise.c).
    os.posix_fadvise(descriptor, begin, end - begin, os.POSIX_FADV_DONTNEED)


class FileSystem:
    """The file system that a folder is on; to be opened before anything is written that it is to sync.

    Since Linux 5.8 ``syncfs`` tells of every failure to write since its descriptor was opened.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def sync(self) -> None:
        """Force all that was written to it to the disk, by one call instead of one a file.

        Raises
        ------
        StoreError
            It could not be written, now or since this was opened.
        """
        if ctypes.CDLL(None, use_errno=True).syncfs(self._descriptor) != 0:
            raise StoreError(
                f"{str(self._folder)!r} could not be written to the disk: {os.strerror(ctypes.get_errno())}",
                ErrorKind.STORE_FAILED,
                "Look at the disk.",
            )
