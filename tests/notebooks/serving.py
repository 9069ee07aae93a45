"""A Jupyter Server of a test's own with the extension in it, and requests to it."""

import http.client
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import opskit
from tests.notebooks.process import JupyterProcess, Way, by_address

# As JupyterHub has it, for a user whose name has to be quoted.
BASE = "/user/ada%40example.org/"
_FOLDER = Path(opskit.__file__).parent / "jupyter" / "lab"
_OTHERS = ("jupyterlab", "jupyter_lsp", "jupyter_server_terminals", "notebook_shim")
_AUTHORIZER = """
from jupyter_server.auth import Authorizer

class Refusing(Authorizer):
    def is_authorized(self, handler, user, action, resource):
        return handler.request.headers.get("Refuse") != f"{action} {resource}"
"""


@dataclass(frozen=True)
class Answer:
    """What a server answered; `body` ends early where the connection did."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body in words."""
        return self.body.decode()


class Jupyter(JupyterProcess):
    """A running server.

    Its configuration of opskit is `configuration`, which a test may write anew at any time. A request with a header
    ``Refuse: <action> <resource>`` is one that its authorizer refuses.
    """

    def __init__(self, home: Path, way: Way, options: Mapping[str, Any]) -> None:
        super().__init__(home, BASE, way)
        self.configuration = home / "opskit.toml"
        self._options = options

    def start(self) -> None:
        """Start it and wait until it answers."""
        (self.home / "config").mkdir()
        (self.home / "refusing.py").write_text(_AUTHORIZER)
        settings = {
            "ServerApp": {
                "authorizer_class": "refusing.Refusing",
                "jpserver_extensions": dict.fromkeys(_OTHERS, False),
            },
            "OpskitExtension": {"configuration": str(self.configuration), **self._options},
        }
        (self.home / "config" / "jupyter_server_config.json").write_text(json.dumps(settings))
        environment = {
            "PYTHONPATH": os.pathsep.join([str(self.home), *sys.path]),
            "JUPYTER_CONFIG_PATH": str(_FOLDER),
        }
        self.run("jupyter_server", self.home, environment)

    def ask(
        self,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        token: bool = True,
    ) -> Answer:
        """One request, below the base URL; redirects are not followed."""
        connection = self.connect()
        try:
            response = self.begin(connection, path, headers, method=method, token=token)
            try:
                body = response.read()
            except http.client.IncompleteRead as error:
                body = error.partial
            return Answer(response.status, dict(response.headers), body)
        finally:
            connection.close()

    def begin(
        self,
        connection: http.client.HTTPConnection,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        token: bool = True,
    ) -> http.client.HTTPResponse:
        """Send a request, and read the head of its answer."""
        given = {"Authorization": f"token {self.token}"} if token else {}
        connection.putrequest(method, BASE + path, skip_accept_encoding=True)
        for name, value in {**given, **(headers or {})}.items():
            connection.putheader(name, value)
        connection.endheaders()
        return connection.getresponse()

    def led(self, path: str) -> str:
        """Where a request is redirected to, below the base URL."""
        answer = self.ask(path)
        assert answer.status == 302, answer.text
        return urljoin(BASE + path, answer.headers["Location"]).removeprefix(BASE)


@contextmanager
def running_jupyter(home: Path, way: Way | None = None, **options: Any) -> Iterator[Jupyter]:
    """A server for the length of a ``with`` block; `options` are the extension's."""
    home.mkdir(parents=True)
    jupyter = Jupyter(home, way or by_address(), options)
    try:
        jupyter.start()
        yield jupyter
    finally:
        jupyter.stop()
