"""A Jupyter Server that serves downloads, and somebody who downloads from it while others ask it, too."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bench.measure import CommandFailed, Cost
from bench.place import PROJECT, Place
from opskit.model.backup import BackupKind, BaseBackup, Trigger
from opskit.model.lsn import Lsn
from opskit.postgres.postmaster import free_port
from opskit.repository import Repository
from opskit.repository.tar import Owner, file_header
from opskit.store import Store, open_store
from opskit.version import __version__

CLUSTER = "served"
_FILE_BYTES = 64 << 20
_PIECE_BYTES = 4 << 20
_BUFFER_BYTES = 1 << 20
_ASK_SECONDS = 0.02
_START_SECONDS = 60.0
_MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
_OTHERS = ("jupyterlab", "jupyter_lsp", "jupyter_server_terminals", "notebook_shim")


def incompressible_backup(place: Place, size: int) -> BaseBackup:
    """Store a backup that no server gave, of about so many bytes: what matters is that they are so many."""
    store: Store = open_store((place.directory / "repository").as_uri())
    repository = Repository(store)
    repository.claim_cluster(CLUSTER, "1", 18, 16 << 20)
    writer = repository.new_backup(CLUSTER, _MOMENT)
    piece = os.urandom(_PIECE_BYTES)
    for number in range(max(1, round(size / _FILE_BYTES))):
        name = f"data/backup/{writer.name}/snapshot/data"
        header = file_header(name, str(number), _FILE_BYTES, 0.0, Owner(0, 0))
        writer.volumes.begin_member(f"{name}/{number}", header, _FILE_BYTES)
        for _ in range(_FILE_BYTES // _PIECE_BYTES):
            writer.volumes.write(piece)
    volumes = writer.volumes.finish()
    stored = sum(volume.stored_bytes for volume in volumes)
    backup = BaseBackup(
        name=writer.name,
        cluster=CLUSTER,
        system_identifier="1",
        postgresql_version="18.0",
        kind=BackupKind.FULL,
        trigger=Trigger.ON_DEMAND,
        parent=None,
        started_at=_MOMENT,
        stopped_at=_MOMENT,
        start_lsn=Lsn(16 << 20),
        stop_lsn=Lsn(17 << 20),
        timeline=1,
        wal_segment_bytes=16 << 20,
        data_checksums=True,
        superuser="postgres",
        tablespaces=(),
        cluster_bytes=stored,
        stored_bytes=stored,
        volumes=len(volumes),
        index_sha256=writer.put_index(volumes),
        manifest_sha256=writer.put_manifest(b"{}"),
        note="",
        opskit_version=__version__,
    )
    writer.commit(backup)
    return backup


@dataclass(slots=True)
class Served:
    """A running server, and what was seen of it in each download."""

    process: "subprocess.Popen[bytes]"
    port: int
    token: str
    grown_bytes: list[int] = field(default_factory=list)
    slowest_seconds: list[float] = field(default_factory=list)

    def download(self, path: str, length: int) -> Cost:
        """Download into nothing what must be of that length, while another request is made every now and then."""
        ended = threading.Event()
        before, cpu = self._memory(), self._cpu_seconds()
        peak, slowest = [before], [0.0]

        def ask() -> None:
            while not ended.wait(_ASK_SECONDS):
                began = time.monotonic()
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api", timeout=60).close()
                slowest.append(time.monotonic() - began)
                peak.append(self._memory())

        asking = threading.Thread(target=ask, name="ask")
        asking.start()
        began = time.monotonic()
        try:
            received = _drain(self.port, path, self.token)
            seconds = time.monotonic() - began
        finally:
            ended.set()
            asking.join()
        if received != length:
            raise CommandFailed(f"{path} gave {received} bytes, expected {length}")
        self.grown_bytes.append(max(peak) - before)
        self.slowest_seconds.append(max(slowest))
        return Cost(seconds=seconds, cpu_seconds=self._cpu_seconds() - cpu, peak_bytes=max(peak))

    def _memory(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    def _cpu_seconds(self) -> float:
        words = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def jupyter_server(place: Place, home: Path) -> Iterator[Served]:
    """A server on the place's configuration, its root `home`, with nothing but opskit's extension."""
    own = home / "jupyter"
    own.mkdir(parents=True)
    settings = {
        "ServerApp": {"jpserver_extensions": dict.fromkeys(_OTHERS, False)},
        "OpskitExtension": {"configuration": str(place.configuration), "resume_seconds": 0},
    }
    (own / "jupyter_server_config.json").write_text(json.dumps(settings), encoding="utf-8")
    port, token = free_port(), secrets.token_hex(16)
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root"]
    command += [f"--ServerApp.port={port}", "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.root_dir={home}", "--ServerApp.port_retries=0"]
    folders = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")
    variables = {
        **os.environ,
        **{f"JUPYTER_{folder}": str(own) for folder in folders},
        "JUPYTER_CONFIG_PATH": str(PROJECT / "opskit" / "jupyter" / "lab"),
        "JUPYTER_TOKEN": token,
    }
    with (own / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=PROJECT, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        _wait_for(process, port, own / "log")
        yield Served(process, port, token)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _wait_for(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    raise CommandFailed(f"Jupyter Server did not start: {log.read_text(errors='replace')[-500:]}")


def _drain(port: int, path: str, token: str) -> int:
    """Follow redirects, and count the bytes of the answer: as little work beside the server's as can be."""
    while True:
        with socket.create_connection(("127.0.0.1", port), timeout=600) as connection:
            head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
            connection.sendall(f"{head}Authorization: token {token}\r\n\r\n".encode())
            answer = b""
            while b"\r\n\r\n" not in answer:
                more = connection.recv(65536)
                if not more:
                    raise CommandFailed(f"{path} was not answered")
                answer += more
            told, _, body = answer.partition(b"\r\n\r\n")
            lines = told.decode("latin-1").split("\r\n")
            if " 302 " in lines[0]:
                [location] = [line[10:] for line in lines if line.lower().startswith("location: ")]
                path = f"{path.rpartition('/')[0]}/{location}"
                continue
            if " 200 " not in lines[0]:
                raise CommandFailed(f"{path}: {lines[0]}: {body[:200]!r}")
            count, buffer = len(body), bytearray(_BUFFER_BYTES)
            while received := connection.recv_into(buffer):
                count += received
            return count
