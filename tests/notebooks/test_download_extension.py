"""Downloads through a real Jupyter Server, by HTTP: what is sent of which version, and what is recorded."""

import hashlib
import subprocess
from pathlib import Path

from opskit.model.wal import WalSegment
from tests.notebooks.downloads import LATEST, Place
from tests.notebooks.panels import wait_until
from tests.notebooks.serving import Jupyter
from tests.support.archives import SEGMENT_NUMBER, archive_partial, archive_wal, archived_backup
from tests.support.repositories import SEGMENT


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
