"""A proxy on loopback that cuts the first download that goes through it, at half, as a bad network does."""

import http.client
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opskit.postgres.server import free_port
from tests.support.loopback import OnLoopback

_PIECE_BYTES = 1 << 16


class Cutting(OnLoopback):
    """Passes ``GET`` on to a server on this machine inside ``with``.

    `downloads` has the headers of each request for one, and the status of its answer.
    """

    def __init__(self, behind: str) -> None:
        self._behind = behind
        self.downloads: list[tuple[Mapping[str, str], int]] = []
        self.port = free_port()
        server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        server.daemon_threads = True
        super().__init__(server)

    def pass_on(self, request: BaseHTTPRequestHandler) -> None:
        """Answer a request as the server behind does; the first download up to its half."""
        request.close_connection = True
        connection = http.client.HTTPConnection(self._behind, timeout=60)
        try:
            connection.request("GET", request.path, headers=dict(request.headers))
            answer = connection.getresponse()
            request.send_response_only(answer.status)
            for name, value in answer.headers.items():
                request.send_header(name, value)
            request.end_headers()
            left = int(answer.headers["Content-Length"])
            if "Content-Disposition" in answer.headers:
                self.downloads.append((dict(request.headers), answer.status))
                if len(self.downloads) == 1:
                    left //= 2
            while piece := answer.read(min(_PIECE_BYTES, left)):
                request.wfile.write(piece)
                left -= len(piece)
            answer.close()
        finally:
            connection.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        cutting = self

        class Handler(BaseHTTPRequestHandler):
            # An older one has no entity tags, so that Chromium would begin again.
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                cutting.pass_on(self)

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        return Handler
