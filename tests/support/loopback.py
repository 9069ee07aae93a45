"""Servers on loopback that answer inside ``with``."""

import socketserver
import threading
from types import TracebackType
from typing import Self

_POLL_SECONDS = 0.02


class OnLoopback:
    """Serves in a thread from the beginning of a ``with`` block to its end."""

    def __init__(self, server: socketserver.BaseServer) -> None:
        self._server = server

    def __enter__(self) -> Self:
        threading.Thread(
            target=self._server.serve_forever, args=(_POLL_SECONDS,), daemon=True
        ).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
