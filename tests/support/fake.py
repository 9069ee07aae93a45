"""A server that says it is of a version that cannot be had here."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_ENCRYPTION_REQUESTS = (80877103, 80877104)  # TLS and GSSAPI, manual "Message Formats"


@contextmanager
def fake_server(version: str, port: int) -> Iterator[str]:
    """Speak just enough of the protocol on loopback for a client to learn the version; its conninfo."""
    with socket.create_server(("127.0.0.1", port)) as listening:
        listening.settimeout(0.1)
        ended = threading.Event()
        thread = threading.Thread(target=_serve, args=(listening, version, ended))
        thread.start()
        try:
            yield f"host=127.0.0.1 port={port} user=focker dbname=postgres"
        finally:
            ended.set()
            thread.join()


def _serve(listening: socket.socket, version: str, ended: threading.Event) -> None:
    while not ended.is_set():
        try:
            client, _ = listening.accept()
        except TimeoutError:
            continue
        with client:
            client.settimeout(5)
            _greet(client, version)


def _greet(client: socket.socket, version: str) -> None:
    while True:
        head = client.recv(4, socket.MSG_WAITALL)
        if len(head) < 4:
            return
        body = client.recv(struct.unpack("!I", head)[0] - 4, socket.MSG_WAITALL)
        if struct.unpack("!I", body[:4])[0] not in _ENCRYPTION_REQUESTS:
            break
        client.sendall(b"N")
    told = {
        "server_version": version,
        "client_encoding": "UTF8",
        "standard_conforming_strings": "on",
    }
    client.sendall(
        _message(b"R", struct.pack("!I", 0))
        + b"".join(_message(b"S", f"{key}\0{value}\0".encode()) for key, value in told.items())
        + _message(b"K", struct.pack("!II", 1, 1))
        + _message(b"Z", b"I")
    )
    while client.recv(4096):  # until the client has had enough
        pass


def _message(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("!I", len(content) + 4) + content
