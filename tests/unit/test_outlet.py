"""A connection that the kernel sends files to."""

import asyncio
import random
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from opskit.errors import ErrorKind, IntegrityError
from opskit.jupyter._outlet import Gone, Outlet

FILE_BYTES = 8 << 20  # many times what a connection holds


@contextmanager
def loopback() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection within this machine: the server's and the client's."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname(), timeout=30) as client,
        closing(listening.accept()[0]) as server,
    ):
        yield server, client


def drain(client: socket.socket) -> bytes:
    """All that comes, up to the end, to which the client then puts its own."""
    pieces = []
    while piece := client.recv(1 << 20):
        pieces.append(piece)
    client.shutdown(socket.SHUT_WR)
    return b"".join(pieces)


async def sent(outlet: Outlet, path: Path, begin: int, end: int) -> int:
    """How many bytes of a file went."""
    with path.open("rb") as file:
        return sum([count async for count in outlet.send_file(file, begin, end)])


def test_a_part_of_a_file_arrives(tmp_path: Path, seed: random.Random) -> None:
    """The client gets the part that was asked for, byte for byte, though the connection holds far less."""
    told = seed.randbytes(FILE_BYTES)
    (tmp_path / "file").write_bytes(told)
    with ThreadPoolExecutor(2) as threads, loopback() as (server, client):

        async def serve() -> bytes:
            received = asyncio.get_running_loop().run_in_executor(threads, drain, client)
            outlet = Outlet(server, threads)
            assert await sent(outlet, tmp_path / "file", 1001, FILE_BYTES - 7) == FILE_BYTES - 1008
            await outlet.close()
            return await received

        assert asyncio.run(serve()) == told[1001:-7]


def test_an_end_is_noticed(tmp_path: Path) -> None:
    """A client that leaves ends the sending, and so does a file that is shorter than it was said to be."""
    (tmp_path / "file").write_bytes(bytes(1000))
    with ThreadPoolExecutor(1) as threads, loopback() as (server, client):
        outlet = Outlet(server, threads)
        with pytest.raises(IntegrityError, match="ended at byte 1000, expected 1001") as raised:
            asyncio.run(sent(outlet, tmp_path / "file", 0, 1001))
        assert raised.value.kind is ErrorKind.TRUNCATED
        with (tmp_path / "file").open("ab") as file:
            file.truncate(FILE_BYTES)
        client.close()
        with pytest.raises(Gone):
            asyncio.run(sent(outlet, tmp_path / "file", 0, FILE_BYTES))


def test_what_stays_on_this_machine_is_not_paced() -> None:
    """A connection within the machine does not wait for timers that are there for a network's sake."""
    with ThreadPoolExecutor(1) as threads, loopback() as (server, _):
        Outlet(server, threads)
        used = server.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
    assert used.rstrip(b"\0") == b"reno"
