"""A Jupyter Server of a test's own with the extension in it, and requests to it."""

import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import opskit
from opskit.postgres.server import free_port
from tests.notebooks.panels import wait_until

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


class Jupyter:
    """A running server.

    Its configuration of opskit is `configuration`, which a test may write anew at any time. A request with a header
    ``Refuse: <action> <resource>`` is one that its authorizer refuses.
    """

    def __init__(self, home: Path, options: Mapping[str, Any]) -> None:
        self._home = home
        self.configuration = home / "opskit.toml"
        self.token = secrets.token_hex(16)
        self.port = free_port()
        self.log = home / "server.log"
        self._options = options
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        (self._home / "config").mkdir()
        (self._home / "refusing.py").write_text(_AUTHORIZER)
        settings = {
            "ServerApp": {
                "base_url": BASE,
                "root_dir": str(self._home),
                "authorizer_class": "refusing.Refusing",
                "jpserver_extensions": dict.fromkeys(_OTHERS, False),
            },
            "OpskitExtension": {"configuration": str(self.configuration), **self._options},
        }
        (self._home / "config" / "jupyter_server_config.json").write_text(json.dumps(settings))
        command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root"]
        command += ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={self.port}"]
        command += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={self.token}"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._variables(),
                start_new_session=True,
            )
        wait_until(self._answers, "Jupyter Server answers")

    def stop(self) -> None:
        """Stop it as a person does, by SIGTERM."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(30)

    def connect(self) -> http.client.HTTPConnection:
        """A new connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

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

    def logged(self) -> list[str]:
        """The lines of its log."""
        return self.log.read_text(errors="replace").splitlines()

    def memory(self) -> int:
        """The memory that it has now, in bytes."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"it ended:\n{self.log.read_text(errors='replace')}")
        try:
            return self.ask("api", token=False).status == 200
        except OSError:
            return False

    def _variables(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
        return {
            **kept,
            "HOME": str(self._home),
            "PYTHONPATH": os.pathsep.join([str(self._home), *sys.path]),
            "JUPYTER_CONFIG_PATH": str(_FOLDER),
            "JUPYTER_CONFIG_DIR": str(self._home / "config"),
            "JUPYTER_DATA_DIR": str(self._home / "data"),
            "JUPYTER_RUNTIME_DIR": str(self._home / "runtime"),
        }


@contextmanager
def running_jupyter(home: Path, **options: Any) -> Iterator[Jupyter]:
    """A server for the length of a ``with`` block; `options` are the extension's."""
    home.mkdir(parents=True)
    jupyter = Jupyter(home, options)
    try:
        jupyter.start()
        yield jupyter
    finally:
        jupyter.stop()
