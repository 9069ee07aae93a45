"""Files on their way to the disk: large ones go there while they are written, and a sync sees what went wrong."""

import errno
import fcntl
import os
from pathlib import Path
from typing import Self

from opskit.errors import ErrorKind, StoreError

# Less is too little for the disk to have taken by then; more is memory for nothing.
_BEHIND_BYTES = 16 << 20
# Linux looks for a contiguous run of memory as long as a write to a file is; from 2 MiB on that takes longer than
# all the rest of a restore (docs/adr/0030).
WRITE_BYTES = 1 << 20
_PAGE_BYTES = 4096
_NOT_AROUND = {errno.EINVAL, errno.EOPNOTSUPP}


def write_all(descriptor: int, content: memoryview, at: int) -> None:
    """Write all of `content` at an offset of a file."""
    while content:
        written = os.pwrite(descriptor, content[:WRITE_BYTES], at)
        content, at = content[written:], at + written


def write_large(descriptor: int, content: memoryview, at: int) -> None:
    """Write a part of a large file, and have the disk take it without a stay in memory.

    Whole pages go around the memory (``O_DIRECT``), which costs a fifth of the processor's time: none are looked for,
    filled, and written later. Where the file system or the buffer's place does not allow it, the bytes go the usual
    way, and on to the disk at once. Either way it takes a sync to make them durable.

    The descriptor writes around the memory afterwards, so the caller writes nothing small by it any more.
    """
    begin = min(-at % _PAGE_BYTES, len(content))
    end = max(len(content) - (at + len(content)) % _PAGE_BYTES, begin)
    write_all(descriptor, content[:begin], at)
    write_all(descriptor, content[end:], at + end)
    if not _written_around(descriptor, content[begin:end], at + begin):
        write_all(descriptor, content[begin:end], at + begin)
        write_behind(descriptor, at, at + len(content))


def _written_around(descriptor: int, content: memoryview, at: int) -> bool:
    """Whether whole pages could be written around the memory; if not, some may have been."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
        while content:
            written = os.pwrite(descriptor, content, at)
            content, at = content[written:], at + written
    except OSError as error:
        if error.errno not in _NOT_AROUND:
            raise
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)
        return False
    return True


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
        import ctypes  # every command that reads a repository would wait for it

        if ctypes.CDLL(None, use_errno=True).syncfs(self._descriptor) != 0:
            raise StoreError(
                f"{str(self._folder)!r} could not be written to the disk: {os.strerror(ctypes.get_errno())}",
                ErrorKind.STORE_FAILED,
                "Look at the disk.",
            )
