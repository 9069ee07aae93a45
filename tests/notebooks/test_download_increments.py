"""Downloads of increments, which are put together on the way: without a length, whole or visibly broken."""

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from opskit.cluster import Cluster
from opskit.model.backup import BackupKind
from opskit.model.operation import Operation, OperationKind, OperationStatus
from opskit.postgres.server import LocalServer
from opskit.store import open_store
from tests.conftest import SettingsFactory
from tests.notebooks.downloads import LATEST
from tests.notebooks.panels import wait_until
from tests.notebooks.serving import BASE, Jupyter
from tests.servers import ServerFactory
from tests.support.backups import ASKED, mark
from tests.support.by_hand import run_program, started_by_hand, unpacked
from tests.support.incremental import SUMMARIZING

_ROWS = 8000
# 25 MB that hardly compress: more than a connection takes that nobody reads from
_MANY = f"""
    SELECT i, (SELECT string_agg(md5((i * 100 + k)::text), '') FROM generate_series(1, 100) k) t
    FROM generate_series(1, {_ROWS}) i
"""
pytestmark = pytest.mark.parametrize("programs", [18], indirect=True)


@pytest.fixture
def marked(server: ServerFactory) -> LocalServer:
    """A server that can be asked for what was in it."""
    running = server(SUMMARIZING)
    mark(running)
    return running


@pytest.fixture
def source(marked: LocalServer, settings: SettingsFactory, jupyter: Jupyter) -> Iterator[Cluster]:
    """Its cluster, of which there is an increment, behind the Jupyter server."""
    made = settings(marked)
    cluster = Cluster("main", made)
    cluster.create_backup()
    marked.query(f"CREATE TABLE many AS {_MANY}")
    assert cluster.create_backup().kind is BackupKind.INCREMENTAL
    assert made.file is not None
    absolute = f"sqlite:///{made.file.parent}/opskit.db"
    jupyter.configuration.write_text(made.file.read_text().replace("sqlite:///opskit.db", absolute))
    yield cluster
    cluster.catalog.close()


def test_an_increment_is_downloaded(source: Cluster, jupyter: Jupyter, scratch: Path) -> None:
    """It is what `opskit download` writes, in one piece; of a damaged one the answer lacks its end, for all to see."""
    written = source.download("latest", scratch).read_bytes()
    told = jupyter.ask(LATEST, method="HEAD")
    answer = jupyter.ask(LATEST, {"Range": "bytes=7-"})
    for given in (told, answer):
        assert given.status == 200
        assert given.headers["Accept-Ranges"] == "none"
        assert not {"Content-Length", "Etag", "Content-Range"} & set(given.headers)
        name = f"main-{source.backup().name}.tar.zst"
        assert given.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert told.body == b""
    assert answer.body == written
    taken = _ended(source, 2)
    assert (taken.status, taken.jupyter_user) == (OperationStatus.COMPLETE, "anonymous")
    assert taken.result == {"bytes": len(written), "first_byte": 0, "of_bytes": len(written)}
    assert jupyter.ask(f"{LATEST}?version=0-0-0-{'0' * 32}").status == 404
    assert _status_of_old_protocol(jupyter) == 505
    _damage_the_end(source)
    connection = jupyter.connect()
    broken = jupyter.begin(connection, LATEST)
    with broken, pytest.raises(http.client.IncompleteRead):
        broken.read()
    connection.close()
    failed = _ended(source, 3)
    assert failed.status is OperationStatus.FAILED
    assert failed.error is not None
    assert "is damaged" in failed.error["message"]


@pytest.mark.sweep
def test_the_download_of_an_increment_starts(
    source: Cluster, marked: LocalServer, jupyter: Jupyter, scratch: Path
) -> None:
    """The downloaded file unpacks, PostgreSQL's own tool finds nothing in it, and it starts and answers."""
    archive = scratch / "increment.tar.zst"
    archive.write_bytes(jupyter.ask(LATEST).body)
    snapshot = unpacked(archive, scratch / "unpacked") / "snapshot"
    verified = run_program(marked.programs, "pg_verifybackup", str(snapshot / "data"))
    assert verified.exit_code == 0, verified.output
    with started_by_hand(marked.programs, snapshot) as copy:
        assert copy.query(ASKED) == marked.query(ASKED)
        assert copy.query("SELECT count(*) FROM many").rows == [(_ROWS,)]


@pytest.mark.sweep
def test_who_leaves_gets_nothing_more(source: Cluster, jupyter: Jupyter) -> None:
    """When the client of an increment goes, the download ends at once: nobody can go on with it."""
    connection = jupyter.connect()
    response = jupyter.begin(connection, LATEST)
    response.read(1000)
    response.close()
    connection.close()
    left = _ended(source, 1)
    assert left.status is OperationStatus.CANCELLED
    assert left.error is not None
    assert "the connection was cut" in left.error["message"]


def _ended(source: Cluster, downloads: int) -> Operation:
    """The last of so many downloads, when all have ended."""

    def ended() -> bool:
        made = source.catalog.operations(kind=OperationKind.DOWNLOAD)
        return len(made) == downloads and all(operation.ended_at for operation in made)

    wait_until(ended, f"{downloads} downloads have ended")
    return source.catalog.operations(kind=OperationKind.DOWNLOAD)[0]


def _status_of_old_protocol(jupyter: Jupyter) -> int:
    """The answer to a client that cannot tell where what has no length ends."""
    asked = f"GET {BASE}{LATEST} HTTP/1.0\r\nAuthorization: token {jupyter.token}\r\n\r\n"
    with jupyter.way.connect() as connection:
        connection.sendall(asked.encode())
        return int(connection.recv(100).split()[1])


def _damage_the_end(source: Cluster) -> None:
    backup = source.backup()
    last = source.repository.volumes(backup)[-1]
    store = open_store(source.settings.repository_url)
    name = f"main/backups/{backup.name}/{last.name}"
    content = bytearray(b"".join(store.get(name)))
    end = 0
    for size in reversed(last.frames[-4:]):  # the very last may be of what is made anew
        content[end - size // 2] ^= 1
        end -= size
    store.put(name, [bytes(content)], replace=True)
