"""A request that is answered by a stream: read in threads, sent as fast as the client takes it. Knows no backup."""

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterator
from concurrent.futures import Executor, Future, wait
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import islice
from typing import Any, TypeVar, cast

from jupyter_server.base.handlers import JupyterHandler
from tornado import web
from tornado.http1connection import HTTP1Connection
from tornado.iostream import SSLIOStream

from opskit.jupyter._outlet import Gone, Outlet
from opskit.repository.parts import Part

_T = TypeVar("_T")
_PIECES_AT_ONCE = 4  # a turn of a thread costs as much as reading one


class StreamingHandler(JupyterHandler):
    """Authenticated as Jupyter does it, but for programs: what is refused is a sentence, and no login page."""

    def initialize(self, threads: Executor) -> None:
        """Take the threads that read."""
        self._threads = threads
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outlet: Outlet | None = None

    def set_default_headers(self) -> None:
        """Let nobody keep or change what is sent."""
        super().set_default_headers()
        self.set_header("Cache-Control", "private, no-store, no-transform")

    def get_login_url(self) -> str:
        """Refuse whoever has not logged in: a program that downloads fills in no form."""
        raise web.HTTPError(403)

    def on_connection_close(self) -> None:
        """Notice that the client is gone."""
        if not self._gone.done():
            self._gone.set_result(None)

    def check_foreign(self) -> None:
        """Refuse requests that another site's page had a browser make, as Jupyter does for files.

        Raises
        ------
        HTTPError
            403.
        """
        if not self.check_origin():
            raise web.HTTPError(403)
        self.check_xsrf_cookie()

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Say what was refused; of a fault, only that there is one."""
        error = kwargs.get("exc_info", (None, None))[1]
        told = getattr(error, "log_message", None) if status_code < 500 else None
        self.say(status_code, told or HTTPStatus(status_code).phrase)

    def say(self, status_code: int, *sentences: str) -> None:
        """Answer in words."""
        self.set_status(status_code)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish("\n".join(filter(None, sentences)) + "\n")

    async def off_loop(self, work: Callable[[], _T]) -> _T:
        """Do in a thread what blocks."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def stream(self, pieces: Iterator[memoryview], took: Callable[[int], None]) -> int:
        """Send `pieces`, each a buffer of its own, until they or the connection end; `took` is told how much went.

        While some are sent the next are read, and no more: memory does not grow with a client that is slow.

        Returns
        -------
        How many bytes were under way when the connection ended: the client may have some of them.
        """
        connection = self.request.connection
        assert isinstance(connection, HTTP1Connection)

        async def send(piece: memoryview) -> bool:
            if not self._headers_written:
                self.flush()
            # Not by `write` and `flush`, which take bytes alone: that would be one more copy of everything.
            return await self._went(connection.write(cast(bytes, piece)))

        return await self._pass_on(pieces, send, took)

    async def _pass_on(
        self,
        pieces: Iterator[memoryview],
        send: Callable[[memoryview], Awaitable[bool]],
        took: Callable[[int], None],
    ) -> int:
        def read() -> list[memoryview]:
            return list(islice(pieces, _PIECES_AT_ONCE))

        ahead = self._threads.submit(read)
        try:
            while run := await asyncio.wrap_future(ahead):
                ahead = self._threads.submit(read)
                for piece in run:
                    if not await send(piece):
                        return len(piece)
                    took(len(piece))
                self._note_activity()
        finally:
            self._threads.submit(_close, pieces, ahead)
        return 0

    @property
    def is_gone(self) -> bool:
        """Whether the client has gone, as far as is known."""
        return self._gone.done()

    @property
    def takes_files(self) -> bool:
        """Whether the kernel can send to the connection: not where this process encrypts it."""
        connection = self.request.connection
        assert isinstance(connection, HTTP1Connection)
        return not isinstance(connection.stream, SSLIOStream)

    async def hand_over(
        self, spans: Iterator[tuple[Part, int, int]], took: Callable[[int], None]
    ) -> int:
        """Send parts, each from one offset up to another, and end the connection; otherwise as `stream`.

        What is a file goes from the disk to the connection in the kernel: nobody looks at its bytes here.
        """
        try:
            with suppress(Gone):
                for part, begin, end in spans:
                    with await self.off_loop(part.file) or nullcontext() as file:
                        outlet = await self._taken_over()
                        if file is not None:
                            async for count in outlet.send_file(file, begin, end):
                                took(count)
                                self._note_activity()
                        elif left := await self._pass_on(part.read(begin, end), outlet.send, took):
                            return left
        finally:
            if self._outlet is not None:
                await self._outlet.close()
                self.application.log_request(self)
        return 0

    async def _taken_over(self) -> Outlet:
        """The connection, which is Tornado's until the head of the answer has gone."""
        if self._outlet is None:
            self.set_header("Connection", "close")
            # Else Tornado tells a client of HTTP/1.0 that its wish to keep it is granted.
            self.request.headers["Connection"] = "close"
            if not await self._went(self.flush()):
                raise Gone
            stream = self.detach()
            # Another descriptor, as Tornado closes its own while a thread may be sending.
            self._outlet = Outlet(stream.socket.dup(), self._threads)
            stream.close()
        return self._outlet

    async def _went(self, sending: "asyncio.Future[None]") -> bool:
        # Tornado forgets that future when the connection is closed meanwhile.
        await asyncio.wait({sending, self._gone}, return_when=asyncio.FIRST_COMPLETED)
        return not self._gone.done() and sending.exception() is None

    def _note_activity(self) -> None:
        self.settings["api_last_activity"] = datetime.now(UTC)  # else an idle server is ended

    def cut(self) -> None:
        """Close the connection: that an answer ends too early is all that its client can be told any more."""
        connection = self.request.connection
        if self._outlet is not None:
            self._outlet.cut()
        elif isinstance(connection, HTTP1Connection) and connection.stream is not None:
            connection.stream.close()
        self.on_connection_close()


def _close(pieces: Iterator[memoryview], reading: "Future[list[memoryview]]") -> None:
    """End what is left of a generator, which may wait for threads of its own, when nobody reads from it any more."""
    wait([reading])
    if isinstance(pieces, Generator):
        pieces.close()
