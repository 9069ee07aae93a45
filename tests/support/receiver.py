"""Where alarms arrive: a webhook and a mail server on loopback."""

import json
import socketserver
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from opskit.postgres.server import free_port
from tests.support.loopback import OnLoopback

SECRET = "geheim-tok3n"


class Webhook(OnLoopback):
    """Takes what is posted inside ``with``, or answers with another `status` than 204."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.status = 204
        port = free_port()
        self.url = f"json://anna:{SECRET}@127.0.0.1:{port}/{SECRET}/hook"
        super().__init__(HTTPServer(("127.0.0.1", port), self._handler()))

    @property
    def titles(self) -> list[str]:
        """The title lines of what was taken."""
        return [str(message["title"]) for message in self.taken]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if webhook.status == 204:
                    webhook.taken.append(message)
                self.send_response(webhook.status)
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
                """Say nothing."""

        return Handler


class MailServer(OnLoopback):
    """Takes one mail after the other inside ``with`` (SMTP, RFC 5321, as little of it as it needs)."""

    def __init__(self) -> None:
        self.mails: list[str] = []
        port = free_port()
        self.url = (
            f"mailto://127.0.0.1:{port}?from=opskit@example.com&to=anna@example.com&mode=insecure"
        )
        super().__init__(socketserver.TCPServer(("127.0.0.1", port), self._handler()))

    def _handler(self) -> type[socketserver.StreamRequestHandler]:
        mails = self.mails

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(b"220 here\r\n")
                for line in self.rfile:
                    word = line[:4].upper()
                    if word == b"DATA":
                        self.wfile.write(b"354 go on\r\n")
                        lines = iter(self.rfile.readline, b".\r\n")
                        mails.append(b"".join(lines).decode())
                    self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 well\r\n")
                    if word == b"QUIT":
                        return

        return Handler
