"""A browser's own download manager, whose connection is cut at half: it goes on, and has the file."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from opskit.cluster import Cluster
from opskit.model.operation import OperationStatus
from tests.conftest import SettingsFactory
from tests.notebooks.downloads import LATEST, Place
from tests.notebooks.serving import BASE, Jupyter
from tests.servers import ServerFactory
from tests.support.archives import archived_backup
from tests.support.backups import ASKED, mark
from tests.support.by_hand import run_program, started_by_hand, unpacked
from tests.support.cutting import Cutting


def test_a_browser_goes_on_by_itself(
    jupyter: Jupyter, place: Place, browser: Browser, tmp_path: Path
) -> None:
    """It asks for the rest of the same version, and the file in its folder is the archive; that is one operation."""
    archived_backup(place.store, volumes=4, volume_bytes=2_000_000)
    file = _downloaded(jupyter, browser, tmp_path)
    assert file.name == f"main-{place.main.backup().name}.tar.zst"
    assert file.read_bytes() == place.whole()
    operation = place.ended()
    assert operation.status is OperationStatus.COMPLETE
    assert operation.progress.bytes_done == file.stat().st_size


@pytest.mark.sweep
@pytest.mark.parametrize("programs", [18], indirect=True)
def test_what_was_gone_on_with_starts(
    server: ServerFactory,
    settings: SettingsFactory,
    jupyter: Jupyter,
    browser: Browser,
    scratch: Path,
) -> None:
    """The file of a download that was cut at half unpacks, PostgreSQL finds no fault, and it starts and answers."""
    source = server()
    mark(source)
    made = settings(source)
    backed_up = Cluster("main", made)
    backed_up.create_backup()
    assert made.file is not None
    absolute = f"sqlite:///{made.file.parent}/opskit.db"
    jupyter.configuration.write_text(made.file.read_text().replace("sqlite:///opskit.db", absolute))
    file = _downloaded(jupyter, browser, scratch)
    assert (
        file.read_bytes()
        == backed_up.download("latest", scratch / "by-command.tar.zst").read_bytes()
    )
    snapshot = unpacked(file, scratch / "unpacked") / "snapshot"
    verified = run_program(source.programs, "pg_verifybackup", str(snapshot / "data"))
    assert verified.exit_code == 0, verified.output
    with started_by_hand(source.programs, snapshot) as copy:
        assert copy.query(ASKED) == source.query(ASKED)
    backed_up.catalog.close()


def _downloaded(jupyter: Jupyter, browser: Browser, folder: Path) -> Path:
    """What a browser has in the end whose download was cut at half, below its name in `folder`."""
    with Cutting(jupyter.host) as proxy:
        page = browser.new_page()
        address = f"http://127.0.0.1:{proxy.port}{BASE}{LATEST}?token={jupyter.token}"
        page.set_content(f'<a href="{address}">Download</a>')
        with page.expect_download() as downloading:
            page.get_by_role("link").click()
        file = folder / downloading.value.suggested_filename
        downloading.value.save_as(file)
        page.close()
    [(_, first), (asked, second)] = proxy.downloads
    assert (first, second) == (200, 206), asked
    assert asked["Range"] == f"bytes={file.stat().st_size // 2}-"
    assert asked["If-Range"].startswith('"')
    return file
