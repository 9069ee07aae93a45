"""A connection that the kernel sends files to: their bytes never come into this process. Knows no HTTP."""

import asyncio
import errno
import os
import select
import socket
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import suppress
from ipaddress import ip_address
from typing import BinaryIO

from opskit.errors import ErrorKind, IntegrityError, StoreError

_AT_ONCE_BYTES = 16 << 20
_PAUSE_MILLISECONDS = 5
_LOCAL_QUEUE_BYTES = 256 << 10
_GONE = {errno.ENOTCONN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN}
_NOT_SENDABLE = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


class Gone(Exception):
    """The client is no longer there."""


class Outlet:
    """What is sent on a connected socket that does not block, from a running loop.

    A thread of `threads` waits for the disk, and hardly for the client: it hands over what the connection takes. So the
    loop is not held up by a disk, and a client that is slow holds no thread.
    """

    def __init__(self, connection: socket.socket, threads: Executor) -> None:
        self._connection, self._threads = connection, threads
        if _is_local(connection):
            # Nothing is under way for long, and what queues up costs more than what is taken at once.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LOCAL_QUEUE_BYTES)

    async def send_file(self, file: BinaryIO, begin: int, end: int) -> AsyncIterator[int]:
        """Send the bytes of a file from `begin` up to but not including `end`; how many went, each time some did.

        Raises
        ------
        Gone
            The connection has ended.
        IntegrityError
            The file ends before `end`.
        StoreError
            It cannot be read.
        """
        loop = asyncio.get_running_loop()
        while begin < end:
            count = await loop.run_in_executor(
                self._threads, hand_over, self._connection, file, begin, end
            )
            if count:
                yield count
            begin += count
            if not count:
                await self._wait()

    async def send(self, piece: memoryview) -> bool:
        """Send a piece; false when the connection has ended."""
        try:
            await asyncio.get_running_loop().sock_sendall(self._connection, piece)
        except OSError:
            return False
        return True

    def cut(self) -> None:
        """End the connection at once, from the loop's thread."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection; what was handed over still reaches the client."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)
        self._connection.close()

    async def _wait(self) -> None:
        """Wait until the connection takes more, or has ended."""
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_writer(self._connection, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_writer(self._connection)


def _is_local(connection: socket.socket) -> bool:
    """Whether the other end is on this machine, as a browser or a proxy may be."""
    with suppress(OSError, ValueError):
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            return ip_address(connection.getpeername()[0]).is_loopback
    return False


def hand_over(connection: socket.socket, file: BinaryIO, begin: int, end: int) -> int:
    """Send as much as the connection takes without a pause, some megabytes at most; errors as `Outlet.send_file`.

    Returns
    -------
    How many bytes that were: 0 when it takes none.
    """
    sent, most = 0, min(end - begin, _AT_ONCE_BYTES)
    writable = select.poll()
    writable.register(connection, select.POLLOUT)
    try:
        # Another turn of a thread costs more than a client that is quick takes to make room.
        while sent < most and writable.poll(_PAUSE_MILLISECONDS):
            count = _send(connection, file, begin + sent, most - sent)
            if count == 0:
                raise IntegrityError(
                    f"a stored file ended at byte {begin + sent}, expected {end}",
                    ErrorKind.TRUNCATED,
                    "Look at the storage under the repository.",
                )
            sent += count
    except OSError as error:
        if sent or isinstance(error, BlockingIOError):
            return sent  # what went is counted, and the next call meets the same
        if isinstance(error, ConnectionError | TimeoutError) or error.errno in _GONE:
            raise Gone from error
        raise StoreError(
            f"a stored file cannot be read: {error.strerror}",
            ErrorKind.STORE_FAILED,
            "Look at the storage under the repository.",
        ) from error
    return sent


def _send(connection: socket.socket, file: BinaryIO, begin: int, count: int) -> int:
    try:
        return os.sendfile(connection.fileno(), file.fileno(), begin, count)
    except OSError as error:
        if error.errno not in _NOT_SENDABLE:
            raise
    # Some network disks and user space file systems cannot.
    piece = os.pread(file.fileno(), min(count, 1 << 20), begin)
    return connection.send(piece) if piece else 0
