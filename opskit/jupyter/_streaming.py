"""A request that is answered by a stream: read in threads, sent as fast as the client takes it. Knows no backup."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, TypeVar

from jupyter_server.base.handlers import JupyterHandler
from tornado import web
from tornado.http1connection import HTTP1Connection
from tornado.iostream import StreamClosedError

_T = TypeVar("_T")


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
        """Send `pieces` until they or the connection end; `took` is told how many bytes the connection took.

        While one is sent the next is read, and no more: memory does not grow with a client that is slow.

        Returns
        -------
        How many bytes were under way when the connection ended: the client may have some of them.
        """

        def read() -> bytes | None:
            piece = next(pieces, None)
            return None if piece is None else bytes(piece)

        ahead = self._threads.submit(read)
        while (piece := await asyncio.wrap_future(ahead)) is not None:
            ahead = self._threads.submit(read)
            if not await self._sent(piece):
                return len(piece)
            took(len(piece))
            self.settings["api_last_activity"] = datetime.now(UTC)  # else an idle server is ended
        return 0

    async def _sent(self, piece: bytes) -> bool:
        self.write(piece)
        try:
            sending = self.flush()
        except StreamClosedError:
            return False
        # Tornado forgets the future of a flush when the connection is closed meanwhile.
        await asyncio.wait({sending, self._gone}, return_when=asyncio.FIRST_COMPLETED)
        return not self._gone.done() and sending.exception() is None

    def cut(self) -> None:
        """Close the connection: that an answer ends too early is all that its client can be told any more."""
        connection = self.request.connection
        if isinstance(connection, HTTP1Connection) and connection.stream is not None:
            connection.stream.close()
        self.on_connection_close()
