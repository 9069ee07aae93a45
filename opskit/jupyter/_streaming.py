"""A request that is answered by a stream: read in threads, sent as fast as the client takes it. Knows no backup."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import islice
from typing import Any, TypeVar, cast

from jupyter_server.base.handlers import JupyterHandler
from tornado import web
from tornado.http1connection import HTTP1Connection

_T = TypeVar("_T")
_PIECES_AT_ONCE = 4  # a turn of a thread costs as much as reading one


class StreamingHandler(JupyterHandler):
    """Authenticated as Jupyter does it, but for programs: what is refused is a sentence, and no login page."""

    def initialize(self, threads: Executor) -> None:
        """Take the threads that read."""
        self._threads = threads
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

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

        def read() -> list[memoryview]:
            return list(islice(pieces, _PIECES_AT_ONCE))

        ahead = self._threads.submit(read)
        while run := await asyncio.wrap_future(ahead):
            ahead = self._threads.submit(read)
            if not self._headers_written:
                self.flush()
            for piece in run:
                if not await self._sent(connection, piece):
                    return len(piece)
                took(len(piece))
            self.settings["api_last_activity"] = datetime.now(UTC)  # else an idle server is ended
        return 0

    async def _sent(self, connection: HTTP1Connection, piece: memoryview) -> bool:
        # Not by `write` and `flush`, which take bytes alone: that would be one more copy of everything.
        sending = connection.write(cast(bytes, piece))
        # Tornado forgets that future when the connection is closed meanwhile.
        await asyncio.wait({sending, self._gone}, return_when=asyncio.FIRST_COMPLETED)
        return not self._gone.done() and sending.exception() is None

    def cut(self) -> None:
        """Close the connection: that an answer ends too early is all that its client can be told any more."""
        connection = self.request.connection
        if isinstance(connection, HTTP1Connection) and connection.stream is not None:
            connection.stream.close()
        self.on_connection_close()
