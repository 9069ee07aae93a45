"""A connection that the kernel sends files to: their bytes never come into this process. Knows no HTTP."""

import asyncio
import errno
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import closing, suppress
from functools import partial
from ipaddress import ip_address
from typing import BinaryIO

from opskit.errors import ErrorKind, IntegrityError, StoreError

_AT_ONCE_BYTES = 16 << 20
_PIECE_BYTES = 4 << 20
_PAUSE = struct.pack("ll", 0, 5_000)  # seconds and microseconds, as the kernel reads them
_LOCAL_QUEUE_BYTES = 1 << 20
_UNPACED = b"reno"  # in every Linux, and allowed to everybody
_LINGER_SECONDS = 5.0
_GONE = {errno.ENOTCONN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN}
_NOT_SENDABLE = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


class Gone(Exception):
    """The client is no longer there."""


class Outlet:
    """What is sent on a connected socket, from a running loop.

    A thread of `threads` waits for the disk, and hardly for the client: when the connection has taken nothing for some
    milliseconds the thread is given back. So the loop is not held up by a disk, and a client that is slow holds no
    thread; for one that is quick megabytes go in one call, for which nobody needs the interpreter.
    """

    def __init__(self, connection: socket.socket, threads: Executor) -> None:
        self._connection, self._threads = connection, threads
        connection.setblocking(True)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _PAUSE)
        if _is_local(connection):
            _tune_for_here(connection)

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
        while begin < end:
            count = await self._offer(partial(_hand_over, self._connection, file, begin, end))
            yield count
            begin += count

    async def send(self, piece: memoryview) -> bool:
        """Send a piece; false when the connection has ended."""
        try:
            while piece:
                piece = piece[await self._offer(partial(self._connection.send, piece)) :]
        except OSError:
            return False
        return True

    def cut(self) -> None:
        """End the connection at once, from the loop's thread."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    async def close(self) -> None:
        """End our side, wait for the client to end its own, for some seconds at most, and close the connection.

        To close at once would take back what is still on its way if the client sent anything (RFC 9112, section 9.6).
        """
        with closing(self._connection), suppress(OSError):
            self._connection.setblocking(False)
            self._connection.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(_LINGER_SECONDS):
                while await asyncio.get_running_loop().sock_recv(self._connection, 1 << 16):
                    pass

    async def _offer(self, hand_over: Callable[[], int]) -> int:
        """Have a thread send as much as the connection takes; how much that was, when it takes some."""
        loop = asyncio.get_running_loop()
        while True:
            with suppress(BlockingIOError):
                return await loop.run_in_executor(self._threads, hand_over)
            await self._wait()

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


def _tune_for_here(connection: socket.socket) -> None:
    # Nothing is under way for long, and what queues up beyond the processor's cache costs more than it gives.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LOCAL_QUEUE_BYTES)
    # BBR, which many machines have set for the network, paces what it sends: half of the time would go to its timers.
    with suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _UNPACED)


def _hand_over(connection: socket.socket, file: BinaryIO, begin: int, end: int) -> int:
    """Send as much as the connection takes without a pause, some megabytes at most; errors as `Outlet.send_file`.

    Returns
    -------
    How many bytes that were, at least one.

    Raises
    ------
    BlockingIOError
        It takes none.
    """
    try:
        count = _send(connection, file, begin, min(end - begin, _AT_ONCE_BYTES))
    except BlockingIOError:
        raise
    except OSError as error:
        if isinstance(error, ConnectionError | TimeoutError) or error.errno in _GONE:
            raise Gone from error
        raise StoreError(
            f"a stored file cannot be read: {error.strerror}",
            ErrorKind.STORE_FAILED,
            "Look at the storage under the repository.",
        ) from error
    if count == 0:
        raise IntegrityError(
            f"a stored file ended at byte {begin}, expected {end}",
            ErrorKind.TRUNCATED,
            "Look at the storage under the repository.",
        )
    return count


def _send(connection: socket.socket, file: BinaryIO, begin: int, count: int) -> int:
    try:
        return os.sendfile(connection.fileno(), file.fileno(), begin, count)
    except OSError as error:
        if error.errno not in _NOT_SENDABLE:
            raise
    # Some network disks and user space file systems cannot.
    piece = os.pread(file.fileno(), min(count, _PIECE_BYTES), begin)
    return connection.send(piece) if piece else 0
