"""What clients may do with a connection, and how many may be there: old protocols, kept connections, a crowd."""

import http.client
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from opskit.model.operation import OperationStatus
from tests.notebooks.downloads import LATEST, WAYS, Place, on_ways
from tests.notebooks.panels import wait_until
from tests.notebooks.serving import BASE, Jupyter, running_jupyter
from tests.support.archives import archived_backup

_CROWD = 20  # more than the server has threads that read
_LARGE = {
    "volumes": 4,
    "volume_bytes": 4_000_000,
}  # more than a connection takes that nobody reads from
_STOP_SECONDS = 15.0


@on_ways("address")
@pytest.mark.parametrize("header", ["", "Connection: keep-alive"])
def test_a_client_of_an_old_protocol(jupyter: Jupyter, place: Place, header: str) -> None:
    """By HTTP/1.0, as many proxies ask, all of it comes, and the connection goes on only where the answer says so."""
    archived_backup(place.store)
    path, whole = jupyter.led(LATEST), place.whole()
    asked = _request(jupyter, path, "HTTP/1.0", header)
    with jupyter.way.connect() as connection:
        connection.sendall(asked)
        headers, body = _answer(connection)
        assert body == whole
        if headers.get("Connection", "close").lower() == "close":
            assert connection.recv(1) == b""
        else:
            connection.sendall(asked)
            assert _answer(connection)[1] == whole


@on_ways("address")
def test_one_connection_for_several_requests(jupyter: Jupyter, place: Place) -> None:
    """A connection goes on after what has no body; where a download ends it, its answer says so."""
    archived_backup(place.store)
    path, whole = jupyter.led(LATEST), place.whole()
    with closing(jupyter.connect()) as connection:
        for method, headers, status in (
            ("HEAD", {}, 200),
            ("GET", {"If-Match": '"another"'}, 412),
            ("GET", {"Range": f"bytes={len(whole)}-"}, 416),
        ):
            answer = jupyter.begin(connection, path, headers, method=method)
            answer.read()
            assert answer.status == status
            assert connection.sock is not None, "it is kept"
        for _ in range(2):
            answer = jupyter.begin(connection, path)
            assert answer.read() == whole
            assert (connection.sock is None) == (answer.headers["Connection"] == "close")


@pytest.mark.parametrize(
    "jupyter", ["address", pytest.param("IPv6", marks=pytest.mark.sweep)], indirect=True
)
def test_who_asks_for_more_at_once(jupyter: Jupyter, place: Place) -> None:
    """A request that comes behind that for a download does not take away what the client has not read yet."""
    archived_backup(place.store, volumes=1, volume_bytes=300_000)
    path, whole = jupyter.led(LATEST), place.whole()
    with jupyter.way.connect() as connection:
        connection.sendall(_request(jupyter, path))
        with closing(http.client.HTTPResponse(connection)) as answer:
            answer.begin()
            wait_until(lambda: _done(place) == len(whole), "the server has handed over all")
            connection.sendall(_request(jupyter, path))
            assert answer.read() == whole


@on_ways("address")
def test_a_crowd(jupyter: Jupyter, place: Place) -> None:
    """Twenty that do not read hold up nobody, have no thread that reads, and get all of it when they go on."""
    archived_backup(place.store, **_LARGE)
    path, whole = jupyter.led(LATEST), place.whole()
    with _crowd(jupyter, path) as crowd:
        began = time.monotonic()
        assert jupyter.ask(path).body == whole
        assert time.monotonic() - began < 10
        assert {o.status for o in place.operations()[1:]} == {OperationStatus.RUNNING}
        for answer in crowd:
            assert answer.read() == whole[1000:]
    ended = place.all_ended(_CROWD + 1)
    assert {operation.status for operation in ended} == {OperationStatus.COMPLETE}


@pytest.mark.sweep
@pytest.mark.parametrize("jupyter", ["address", "encrypted"], indirect=True)
def test_who_reads_nothing_for_long(jupyter: Jupyter, place: Place) -> None:
    """After more than a minute, when a process that tells nothing counts as dead, the rest comes as at once."""
    archived_backup(place.store, **_LARGE)
    path, whole = jupyter.led(LATEST), place.whole()
    with _crowd(jupyter, path) as crowd:
        threads = jupyter.threads()
        until = time.monotonic() + 70
        while time.monotonic() < until:
            assert jupyter.ask("api", token=False).status == 200
            assert jupyter.threads() <= threads
            assert {o.status for o in place.operations()} == {OperationStatus.RUNNING}
            time.sleep(1)
        for answer in crowd:
            assert answer.read() == whole[1000:]
    assert {o.status for o in place.all_ended(_CROWD)} == {OperationStatus.COMPLETE}


@pytest.mark.parametrize(
    "way",
    [pytest.param(name, marks=[] if name == "address" else pytest.mark.sweep) for name in WAYS],
)
def test_a_server_that_is_stopped(way: str, tmp_path: Path) -> None:
    """SIGTERM in the middle of downloads ends the server promptly, cuts them, and they are recorded as cancelled."""
    with running_jupyter(tmp_path / "home", WAYS[way](tmp_path / "way")) as jupyter:
        place = Place(jupyter, tmp_path)
        archived_backup(place.store, **_LARGE)
        path = jupyter.led(LATEST)
        with _crowd(jupyter, path) as crowd:
            assert jupyter.process is not None
            jupyter.process.send_signal(signal.SIGTERM)
            jupyter.process.wait(_STOP_SECONDS)
            for answer in crowd:
                with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
                    answer.read()
        for operation in place.operations():
            assert operation.status is OperationStatus.CANCELLED
            assert operation.error is not None
            assert operation.error["message"] == "the Jupyter server was stopped"
        assert len(place.operations()) == _CROWD
        place.main.catalog.close()


@contextmanager
def _crowd(jupyter: Jupyter, path: str) -> Iterator[list[http.client.HTTPResponse]]:
    """Many who have begun a download, each of whom has read the first 1000 bytes."""
    with ExitStack() as stack:
        crowd = []
        for _ in range(_CROWD):
            connection = stack.enter_context(closing(jupyter.connect()))
            crowd.append(stack.enter_context(closing(jupyter.begin(connection, path))))
            assert len(crowd[-1].read(1000)) == 1000
        yield crowd


def _done(place: Place) -> int:
    [operation] = place.operations()
    return operation.progress.bytes_done


def _request(jupyter: Jupyter, path: str, protocol: str = "HTTP/1.1", *headers: str) -> bytes:
    lines = [
        *(f"GET {BASE}{path} {protocol}", f"Host: {jupyter.host}"),
        *(f"Authorization: token {jupyter.token}", *filter(None, headers)),
    ]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def _answer(connection: socket.socket) -> tuple[Mapping[str, str], bytes]:
    with closing(http.client.HTTPResponse(connection)) as answer:
        answer.begin()
        assert answer.status == 200
        return dict(answer.headers), answer.read()
