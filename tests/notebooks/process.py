"""Servers of Jupyter's in processes of their own, and the ways that lead to one."""

import http.client
import os
import secrets
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from opskit.postgres.server import free_port
from tests.notebooks.panels import wait_until
from tests.support.certificates import self_signed

_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a server listens, by `options`, and how a client connects, which calls it `host`."""

    options: tuple[str, ...]
    host: str
    connect: Callable[[], socket.socket]


def by_address(address: str = "127.0.0.1") -> Way:
    """By a port of an address of this machine."""
    port = free_port()
    return Way(
        options=(f"--ServerApp.ip={address}", f"--ServerApp.port={port}"),
        host=f"[{address}]:{port}" if ":" in address else f"{address}:{port}",
        connect=lambda: socket.create_connection((address, port), _TIMEOUT),
    )


def encrypted(directory: Path) -> Way:
    """By a port where the server itself encrypts, with a certificate that its clients check."""
    plain = by_address()
    certificate, key = self_signed(directory, "127.0.0.1")
    context = ssl.create_default_context(cafile=certificate)
    return Way(
        options=(
            *plain.options,
            f"--ServerApp.certfile={certificate}",
            f"--ServerApp.keyfile={key}",
        ),
        host=plain.host,
        connect=lambda: context.wrap_socket(plain.connect(), server_hostname="127.0.0.1"),
    )


def by_socket(path: Path) -> Way:
    """By a Unix socket."""
    path.parent.mkdir(exist_ok=True)

    def connect() -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(_TIMEOUT)
            connection.connect(str(path))
        except BaseException:
            connection.close()
            raise
        return connection

    return Way(options=(f"--ServerApp.sock={path}",), host="localhost", connect=connect)


class JupyterProcess:
    """A server that reads and writes nothing of this machine's Jupyter.

    Parameters
    ----------
    home
        Where it keeps its own things.
    base
        Its base URL, as JupyterHub gives one.
    """

    def __init__(self, home: Path, base: str, way: Way) -> None:
        self.home, self.base, self.way = home, base, way
        self.token = secrets.token_hex(16)
        self.log = home / "server.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        """What stands in a URL between the scheme and the path."""
        return self.way.host

    def run(
        self, module: str, root: Path, environment: Mapping[str, str], options: Sequence[str] = ()
    ) -> None:
        """Run a module of Jupyter's on the files below `root`, and wait until it answers."""
        command = [
            *(sys.executable, "-m", module, "--no-browser", "--allow-root", *self.way.options),
            *("--ServerApp.port_retries=0", f"--ServerApp.root_dir={root}"),
            *(f"--IdentityProvider.token={self.token}", f"--ServerApp.base_url={self.base}"),
            *options,
        ]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**self._variables(), **environment},
                start_new_session=True,
            )
        wait_until(self._answers, f"{module} answers")

    def stop(self) -> None:
        """Stop it as a person does, by SIGTERM, with its kernels."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)

    def connect(self) -> http.client.HTTPConnection:
        """A new connection, made when it is used."""
        return _Connection(self.way)

    def logged(self) -> list[str]:
        """The lines of its log."""
        return self.log.read_text(errors="replace").splitlines()

    def memory(self) -> int:
        """The memory that it has now, in bytes."""
        return int(self._status("VmRSS:")) * 1024

    def threads(self) -> int:
        """How many threads it has now."""
        return int(self._status("Threads:"))

    def _status(self, key: str) -> str:
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return status.partition(key)[2].split()[0]

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError("it ended:\n" + "\n".join(self.logged()))
        with suppress(OSError), closing(self.connect()) as connection:
            connection.request("GET", f"{self.base}api")
            return connection.getresponse().status == 200
        return False

    def _variables(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
        own = {
            "HOME": "",
            "IPYTHONDIR": "ipython",
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "user-settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        }
        return {**kept, **{name: str(self.home / folder) for name, folder in own.items()}}


class _Connection(http.client.HTTPConnection):
    def __init__(self, way: Way) -> None:
        super().__init__(way.host, timeout=_TIMEOUT)
        self._way = way

    def connect(self) -> None:
        self.sock = self._way.connect()
