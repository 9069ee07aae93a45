"""Downloads through a real Jupyter Server, by HTTP: what is sent, to whom, and what is recorded of it."""

import hashlib
import http.client
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from opskit.cluster import Cluster
from opskit.config import load_settings
from opskit.model.operation import Operation, OperationStatus
from opskit.model.wal import WalSegment
from opskit.repository import Repository
from opskit.store import Store, open_store
from tests.notebooks.panels import wait_until
from tests.notebooks.serving import BASE, Jupyter, running_jupyter
from tests.support.archives import (
    SEGMENT_NUMBER,
    archive_partial,
    archive_wal,
    archived_backup,
)
from tests.support.repositories import SEGMENT

RESUME_SECONDS = 1.0
LATEST = "opskit/download/main/latest"


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    """A server for all tests; each gives it a configuration of its own."""
    with running_jupyter(
        tmp_path_factory.mktemp("jupyter") / "home", resume_seconds=RESUME_SECONDS
    ) as running:
        yield running


class Place:
    """A repository that the server's configuration names."""

    def __init__(self, jupyter: Jupyter, directory: Path) -> None:
        self._jupyter, self._directory = jupyter, directory
        self.configure()
        settings = load_settings(jupyter.configuration)
        self.main = Cluster("main", settings)
        self.store: Store = open_store(settings.repository_url)
        self.repository = Repository(self.store)

    def configure(self, more: str = "") -> None:
        """Write the configuration; `more` is appended."""
        self._jupyter.configuration.write_text(
            f"[repository]\nurl = {json.dumps((self._directory / 'repository').as_uri())}\n"
            f'[catalog]\nurl = "sqlite:///{self._directory}/opskit.db"\n'
            f'[clusters.main]\nconninfo = "host={self._directory}"\n{more}'
        )

    def operations(self) -> list[Operation]:
        """What was recorded, the last one first."""
        return self.main.catalog.operations()

    def ended(self) -> Operation:
        """The only operation, when it has ended."""
        wait_until(
            lambda: [o.status for o in self.operations() if o.ended_at is None] == [],
            "the operation has ended",
        )
        [operation] = self.operations()
        return operation


@pytest.fixture
def place(jupyter: Jupyter, tmp_path: Path) -> Iterator[Place]:
    """A repository of a test's own behind the server."""
    made = Place(jupyter, tmp_path)
    yield made
    made.main.catalog.close()


def test_a_download_is_what_the_command_writes(
    jupyter: Jupyter, place: Place, tmp_path: Path
) -> None:
    """`latest` leads to a name and a version, whose bytes are those of `opskit download`; who took them is recorded."""
    backup = archived_backup(place.store)
    archive_wal(place.repository, SEGMENT_NUMBER)
    archive_partial(place.repository, SEGMENT_NUMBER + 1, 70_000)
    written = place.main.download("latest", tmp_path).read_bytes()
    [command] = place.operations()
    path = jupyter.led(LATEST)
    assert path.startswith(f"opskit/download/main/{backup.name}?version=")
    told = jupyter.ask(path, method="HEAD")
    assert (told.status, told.body) == (200, b"")
    assert place.operations() == [command], "nothing was taken"
    answer = jupyter.ask(path)
    assert answer.status == 200
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(written).digest()
    for headers in (told.headers, answer.headers):
        assert headers["Content-Length"] == str(len(written))
        assert headers["Content-Type"] == "application/zstd"
        assert headers["Accept-Ranges"] == "bytes"
        assert headers["Etag"] == f'"{path.partition("=")[2]}"'
        name = f"main-{backup.name}.tar.zst"
        assert headers["Content-Disposition"] == f'attachment; filename="{name}"'
        assert headers["Cache-Control"] == "private, no-store, no-transform"
    wait_until(lambda: len(place.main.audit()) == 2, "the end is entered in the audit log")
    recorded = place.operations()[0]
    assert (recorded.kind, recorded.status, recorded.backup) == (
        "download",
        "complete",
        backup.name,
    )
    assert recorded.jupyter_user == "anonymous"
    assert recorded.progress.bytes_done == len(written)
    [entry] = place.main.audit().head(1).to_dict("records")
    assert (entry["what"], entry["outcome"]) == ("download", "complete")
    assert entry["jupyter_user"] == "anonymous"
    archive = tmp_path / "downloaded.tar.zst"
    archive.write_bytes(answer.body)
    subprocess.run(["tar", "--zstd", "-xf", archive, "-C", tmp_path], check=True)
    assert len(list((tmp_path / f"data/backup/{backup.name}/wal").iterdir())) == 2


def test_a_cut_download_is_gone_on_with(jupyter: Jupyter, place: Place) -> None:
    """Cut at half and taken up by a range, the bytes are the same, and it is one operation."""
    archived_backup(place.store, volumes=8, volume_bytes=4_000_000)
    path = jupyter.led(LATEST)
    whole = _whole(place)
    half = len(whole) // 2
    connection = jupyter.connect()
    began = jupyter.begin(connection, path)
    first = began.read(half)
    began.close()
    connection.close()
    tag = began.headers["Etag"]
    rest = jupyter.ask(path, {"Range": f"bytes={half}-", "If-Range": tag})
    assert rest.status == 206
    assert rest.headers["Content-Range"] == f"bytes {half}-{len(whole) - 1}/{len(whole)}"
    assert rest.headers["Etag"] == tag
    assert first + rest.body == whole
    operation = place.ended()
    assert operation.status is OperationStatus.COMPLETE
    assert operation.result == {
        "bytes": len(whole),
        "first_byte": 0,
        "of_bytes": len(whole),
    }


def test_parts_are_fetched_at_once(jupyter: Jupyter, place: Place) -> None:
    """Four ranges in four connections, in whatever order, make the whole and one operation."""
    archived_backup(place.store, volumes=4, volume_bytes=1_500_000)
    path = jupyter.led(LATEST)
    whole = _whole(place)
    cuts = [0, 1, len(whole) // 3, len(whole) // 2 + 7, len(whole)]
    parts: dict[int, bytes] = {}

    def fetch(start: int, stop: int) -> None:
        parts[start] = jupyter.ask(path, {"Range": f"bytes={start}-{stop - 1}"}).body

    threads = [threading.Thread(target=fetch, args=span) for span in pairwise(cuts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert b"".join(parts[start] for start in cuts[:-1]) == whole
    assert place.ended().status is OperationStatus.COMPLETE


def test_what_a_range_may_be(jupyter: Jupyter, place: Place) -> None:
    """The end by a suffix; behind the end nothing; what cannot be read, or is of another version, gets the whole."""
    archived_backup(place.store)
    path = jupyter.led(LATEST)
    whole = _whole(place)
    length = len(whole)
    tag = f'"{path.partition("=")[2]}"'
    last = jupyter.ask(path, {"Range": "bytes=-10"})
    assert (last.status, last.body) == (206, whole[-10:])
    behind = jupyter.ask(path, {"Range": f"bytes={length}-"})
    assert (behind.status, behind.headers["Content-Range"]) == (416, f"bytes */{length}")
    for headers in (
        {"Range": "bytes=one-two"},
        {"Range": "bytes=0-1,5-6"},
        {"Range": "bytes=9-3"},
        {"Range": "bytes=0-9", "If-Range": '"another"'},
    ):
        given = jupyter.ask(path, headers)
        assert (given.status, given.body) == (200, whole), headers
    unversioned = path.partition("?")[0]
    given = jupyter.ask(unversioned, {"Range": "bytes=1-"})
    assert (given.status, given.body) == (200, whole)
    part = jupyter.ask(unversioned, {"Range": "bytes=1-", "If-Range": tag})
    assert (part.status, part.body) == (206, whole[1:])
    assert jupyter.ask(path, {"If-Match": '"another"'}).status == 412
    assert jupyter.ask(path, {"If-None-Match": tag}).status == 304
    wait_until(
        lambda: {o.status for o in place.operations()} <= {"complete", "cancelled"}, "all ended"
    )


def test_a_version_stays_while_wal_is_archived(jupyter: Jupyter, place: Place) -> None:
    """What was begun is the same to the byte after its last segment has become whole, also when nobody remembers it."""
    archived_backup(place.store)
    archive_wal(place.repository, SEGMENT_NUMBER)
    archive_partial(place.repository, SEGMENT_NUMBER + 1, 70_000)
    before = jupyter.led(LATEST)
    whole = jupyter.ask(before).body
    archive_wal(place.repository, SEGMENT_NUMBER + 1)
    archive_partial(place.repository, SEGMENT_NUMBER + 2, 40_000)
    place.configure(
        '[clusters.other]\nconninfo = "host=none"\n'
    )  # the server forgets what it knows
    assert jupyter.ask(before).body == whole
    assert jupyter.ask(before, {"Range": "bytes=99-"}).body == whole[99:]
    after = jupyter.led(LATEST)
    assert after != before
    longer = jupyter.ask(after).body
    assert len(longer) > len(whole)
    unversioned, tag = before.split("?version=")
    resumed = jupyter.ask(unversioned, {"Range": "bytes=99-", "If-Range": f'"{tag}"'})
    assert (resumed.status, resumed.body) == (206, whole[99:])


def test_a_version_that_is_gone_is_told(jupyter: Jupyter, place: Place, tmp_path: Path) -> None:
    """When WAL of a version was removed nobody gets other bytes for it: a sentence, or the whole of a new version."""
    archived_backup(place.store)
    archive_wal(place.repository, SEGMENT_NUMBER)
    archive_wal(place.repository, SEGMENT_NUMBER + 1)
    before = jupyter.led(LATEST)
    removed = WalSegment(1, SEGMENT_NUMBER + 1, SEGMENT)
    place.repository.wal("main", SEGMENT).remove(removed)
    place.configure('[clusters.other]\nconninfo = "host=none"\n')
    gone = jupyter.ask(before, {"Range": "bytes=99-"})
    assert gone.status == 404
    assert "cannot be had any more as it was" in gone.text
    unversioned, tag = before.split("?version=")
    anew = jupyter.ask(unversioned, {"Range": "bytes=99-", "If-Range": f'"{tag}"'})
    assert (anew.status, anew.body) == (200, place.main.download("latest", tmp_path).read_bytes())


def test_without_wal(jupyter: Jupyter, place: Place, tmp_path: Path) -> None:
    """A gap in the WAL is refused with the reason; without WAL the download is that of --no-wal."""
    archived_backup(place.store)
    archive_wal(place.repository, SEGMENT_NUMBER)
    archive_wal(place.repository, SEGMENT_NUMBER + 2)
    refused = jupyter.ask(LATEST)
    assert refused.status == 500
    assert "is missing between backup" in refused.text
    given = jupyter.ask(jupyter.led(f"{LATEST}?wal=no"))
    assert given.body == place.main.download("latest", tmp_path, wal=False).read_bytes()


def test_a_download_is_cancelled_from_elsewhere(jupyter: Jupyter, place: Place) -> None:
    """A request to cancel in the catalog cuts the connection within a second or so, however slow its client is."""
    archived_backup(place.store, volumes=8, volume_bytes=4_000_000)
    path = jupyter.led(LATEST)
    connection = jupyter.connect()
    response = jupyter.begin(connection, path)
    response.read(1000)
    [running] = place.operations()
    assert running.status is OperationStatus.RUNNING
    place.main.operation(running.id).cancel()
    assert place.ended().status is OperationStatus.CANCELLED
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        response.read()
    connection.close()


def test_a_client_that_does_not_come_back(jupyter: Jupyter, place: Place) -> None:
    """A connection that was cut ends as cancelled, with how far it came, when nobody goes on with it for a while."""
    archived_backup(place.store, volumes=8, volume_bytes=4_000_000)
    connection = jupyter.connect()
    response = jupyter.begin(connection, jupyter.led(LATEST))
    response.read(1000)
    response.close()
    connection.close()
    operation = place.ended()
    assert operation.status is OperationStatus.CANCELLED
    assert operation.error is not None
    assert "the connection was cut" in operation.error["message"]


def test_a_damaged_volume_ends_early(jupyter: Jupyter, place: Place) -> None:
    """The answer to who downloads a damaged volume is shorter than promised, and why is recorded and logged once."""
    backup = archived_backup(place.store, volume_bytes=5_000_000)
    name = f"main/backups/{backup.name}/snapshot-00002.tar.zst"
    content = bytearray(b"".join(place.store.get(name)))
    content[1000] ^= 1
    place.store.put(name, [bytes(content)], replace=True)
    lines = len(jupyter.logged())
    answer = jupyter.ask(jupyter.led(LATEST))
    assert len(answer.body) < int(answer.headers["Content-Length"])
    operation = place.ended()
    assert operation.status is OperationStatus.FAILED
    assert operation.error is not None
    assert operation.error["kind"] == "checksum mismatch"
    wait_until(lambda: len(jupyter.logged()) >= lines + 2, "it is logged")
    told = [line for line in jupyter.logged()[lines:] if " 302 " not in line]
    assert len(told) == 1
    assert "has the SHA-256" in told[0]


def test_a_missing_volume_is_told(jupyter: Jupyter, place: Place) -> None:
    """When nothing has been sent yet, what is wrong with a backup is a sentence."""
    backup = archived_backup(place.store)
    path = jupyter.led(LATEST)
    place.store.delete(f"main/backups/{backup.name}/snapshot-00001.tar.zst")
    refused = jupyter.ask(path)
    assert refused.status == 500
    assert "snapshot-00001.tar.zst' is missing" in refused.text
    assert not {"Content-Disposition", "Etag"} & set(refused.headers)
    assert place.ended().status is OperationStatus.FAILED


def test_nothing_is_given_unrecorded(jupyter: Jupyter, place: Place, tmp_path: Path) -> None:
    """When the catalog cannot be written nobody gets a backup, but a sentence that names the catalog."""
    archived_backup(place.store)
    (tmp_path / "opskit.db").write_bytes(b"no database" * 1000)
    refused = jupyter.ask(jupyter.led(LATEST))
    assert refused.status == 500
    assert "the catalog" in refused.text
    assert "Content-Disposition" not in refused.headers
    (tmp_path / "opskit.db").unlink()


def test_strangers_get_nothing(jupyter: Jupyter, place: Place) -> None:
    """Without the token, from another site's page, or where the authorizer refuses: 403, and one line in the log."""
    backup = archived_backup(place.store)
    path = jupyter.led(LATEST)
    cookie = {"Cookie": jupyter.ask("api/me").headers["Set-Cookie"].partition(";")[0]}
    host = f"http://127.0.0.1:{jupyter.port}"
    own = {**cookie, "Referer": f"{host}{BASE}lab"}
    assert jupyter.ask(path, own, token=False).status == 200
    strangers = [
        {},
        {"Authorization": "token wrong"},
        cookie,
        {**cookie, "Referer": "http://elsewhere.example/"},
        {**own, "Origin": "http://elsewhere.example"},
    ]
    lines = len(jupyter.logged())
    for method in ("GET", "HEAD"):
        for headers in strangers:
            refused = jupyter.ask(path, headers, method=method, token=False)
            assert refused.status == 403, headers
            assert backup.name not in refused.text
        assert jupyter.ask(path, {"Refuse": "read opskit"}, method=method).status == 403
    for method in ("POST", "PUT", "DELETE"):
        assert jupyter.ask(path, own, method=method, token=False).status in (403, 405)
    assert jupyter.ask("opskit/download/main/no", {}, token=False).status == 403
    told = "\n".join(jupyter.logged()[lines:])
    assert "Traceback" not in told
    assert str(place.repository.url) not in told
    assert len(place.operations()) == 1


def test_paths_find_nothing(jupyter: Jupyter, place: Place) -> None:
    """Names are looked up, never opened: whatever else stands in the URL is not found, in one line of the log."""
    backup = archived_backup(place.store)
    tricks = [
        "main/..",
        "main/%2e%2e",
        "%2e%2e/main",
        f"main%2f{backup.name}",
        f"main/{backup.name}%00",
        f"main/{backup.name}/snapshot-00001.tar.zst",
        f"main/..%2f..%2f{backup.name}",
        f"MAIN/{backup.name}",
        f"%6dain/{backup.name}",
        f"other/{backup.name}",
        "main/" + "9" * 3000,
        "m%C3%A4in/latest",
        "main/%ff%fe",
        "main/%D9%A2%D9%A0%D9%A2%D9%A6%D9%A1%D9%A1%D9%A2%D9%A0T%D9%A0%D9%A2%D9%A0%D9%A0%D9%A0%D9%A0Z",
        "main/20990101T000000Z",
        f"main/{backup.name}?version=../../etc/passwd",
        f"main/{backup.name}?version=1-ffffffffffffffff-ffffffff-{'0' * 32}",
        "",
    ]
    lines = len(jupyter.logged())
    for trick in tricks:
        answer = jupyter.ask(f"opskit/download/{trick}")
        assert answer.status == 404, trick
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert jupyter.ask(f"opskit/download/{trick}", token=False).status == 403, trick
    wait_until(lambda: len(jupyter.logged()) >= lines + 2 * len(tricks), "all are logged")
    told = jupyter.logged()[lines:]
    assert len(told) == 2 * len(tricks)
    assert all(" 404 GET " in line or " 403 GET " in line for line in told)
    assert place.operations() == []


def test_a_wrong_configuration_is_told(jupyter: Jupyter, place: Place) -> None:
    """Who is logged in reads what is wrong with the configuration and what to do; nobody else learns of a path."""
    jupyter.configuration.write_text("[repositori]\n")
    wrong = jupyter.ask(LATEST)
    assert wrong.status == 500
    assert "repositori" in wrong.text
    assert "repository" in wrong.text
    jupyter.configuration.unlink()
    missing = jupyter.ask(LATEST)
    assert missing.status == 404
    assert "does not exist" in missing.text
    assert jupyter.ask(LATEST, token=False).body == b"Forbidden\n"
    assert place.operations() == []


def test_memory_stays_while_a_client_is_slow(jupyter: Jupyter, place: Place) -> None:
    """A client that stops reading holds nobody up and fills no memory, and gets the rest when it goes on."""
    archived_backup(place.store, volumes=2, volume_bytes=40_000_000)
    path = jupyter.led(LATEST)
    whole = _whole(place)
    jupyter.ask(path, {"Range": "bytes=0-9"})  # what is loaded with the first one does not count
    before = jupyter.memory()
    connection = jupyter.connect()
    response = jupyter.begin(connection, path)
    taken = response.read(1_000_000)
    for _ in range(20):
        asked_at = time.monotonic()
        assert jupyter.ask("api", token=False).status == 200
        assert time.monotonic() - asked_at < 2
    assert jupyter.memory() - before < 50_000_000
    taken += response.read()
    assert jupyter.memory() - before < 50_000_000
    connection.close()
    assert taken == whole


def _whole(place: Place) -> bytes:
    repository, backup = place.repository, place.main.backup()
    return b"".join(bytes(piece) for piece in repository.archive(backup).read())
