"""How downloads end that are not taken whole, and what a slow client costs."""

import http.client
import subprocess
import time
from pathlib import Path

import pytest

from opskit.errors import IntegrityError
from opskit.model.backup import BaseBackup
from opskit.model.operation import OperationStatus
from tests.notebooks.downloads import LATEST, Place, on_ways
from tests.notebooks.serving import Jupyter
from tests.support.archives import archived_backup


@on_ways("address")
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


@on_ways("address")
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


def test_a_damaged_volume_does_not_unpack(jupyter: Jupyter, place: Place, tmp_path: Path) -> None:
    """The kernel sends what nobody looks at: who unpacks a damaged volume learns of it, and the command before."""
    backup = archived_backup(place.store, volume_bytes=5_000_000)
    _damage(place, backup, "snapshot-00002.tar.zst")
    archive = tmp_path / "downloaded.tar.zst"
    archive.write_bytes(jupyter.ask(jupyter.led(LATEST)).body)
    unpacked = subprocess.run(
        ["tar", "--zstd", "-xf", archive, "-C", tmp_path], capture_output=True, text=True
    )
    assert unpacked.returncode != 0
    assert "checksum" in unpacked.stderr
    with pytest.raises(IntegrityError, match="SHA-256"):
        place.main.download("latest", tmp_path / "by-the-command.tar.zst")


def test_a_volume_that_ends_early_is_told(jupyter: Jupyter, place: Place) -> None:
    """A volume of another size is a sentence before anything is sent, wherever in the archive it is."""
    backup = archived_backup(place.store, volumes=3)
    name = f"main/backups/{backup.name}/snapshot-00003.tar.zst"
    content = b"".join(place.store.get(name))
    place.store.put(name, [content[:-1]], replace=True)
    refused = jupyter.ask(jupyter.led(LATEST), {"Range": "bytes=0-9"})
    assert refused.status == 500
    assert f"snapshot-00003.tar.zst' has {len(content) - 1} bytes" in refused.text
    operation = place.ended()
    assert operation.status is OperationStatus.FAILED
    assert operation.error is not None
    assert operation.error["kind"] == "truncated"


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


@on_ways("address")
def test_memory_stays_while_a_client_is_slow(jupyter: Jupyter, place: Place) -> None:
    """A client that stops reading holds nobody up and fills no memory, and gets the rest when it goes on."""
    archived_backup(place.store, volumes=2, volume_bytes=40_000_000)
    path = jupyter.led(LATEST)
    whole = place.whole()
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


def _damage(place: Place, backup: BaseBackup, volume: str) -> None:
    name = f"main/backups/{backup.name}/{volume}"
    content = bytearray(b"".join(place.store.get(name)))
    content[len(content) // 2] ^= 1
    place.store.put(name, [bytes(content)], replace=True)
