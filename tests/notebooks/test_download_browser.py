"""The link of a download as a person meets it: below a hub's prefix, and where nothing serves downloads."""

import json
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, Locator, expect

from opskit.cluster import Cluster
from tests.conftest import SettingsFactory
from tests.notebooks.conftest import SERVED
from tests.notebooks.lab import LabPage, running_lab
from tests.servers import ServerFactory
from tests.support.backups import ASKED, mark
from tests.support.by_hand import started_by_hand, unpacked

pytestmark = [
    pytest.mark.sweep,
    pytest.mark.timeout(600),
    pytest.mark.parametrize("programs", [18], indirect=True),
]
PREFIX = "/user/ada%40example.org/"
CELL = "from opskit.widgets._download_link import DownloadLink\nDownloadLink('main', 'latest')"


def test_what_the_browser_brings_home_starts(
    server: ServerFactory, settings: SettingsFactory, browser: Browser, scratch: Path
) -> None:
    """Below a hub's prefix the file in the browser's download folder unpacks, starts, and answers as its source did."""
    source = server()
    mark(source)
    made = settings(source)
    backup = Cluster("main", made).create_backup()
    variables = {"OPSKIT_CONFIG": str(made.file), "JUPYTER_CONFIG_PATH": str(SERVED)}
    with running_lab(*_folders(scratch), variables, PREFIX) as lab:
        page = LabPage(browser.new_page(), lab)
        link = _shown(page).get_by_role("link", name=f"Download main-{backup.name}.tar.zst")
        expect(link).to_have_attribute("download", f"main-{backup.name}.tar.zst")
        expect(link).to_contain_text("MB")
        link.focus()
        with page.page.expect_download() as downloading:
            page.page.keyboard.press("Enter")
        archive = scratch / downloading.value.suggested_filename
        downloading.value.save_as(archive)
        assert page.foreign == []
    with started_by_hand(
        source.programs, unpacked(archive, scratch / "unpacked") / "snapshot"
    ) as copy:
        assert copy.query(ASKED) == source.query(ASKED)


def test_where_nothing_serves_downloads(
    server: ServerFactory, settings: SettingsFactory, browser: Browser, scratch: Path
) -> None:
    """Without the extension the link is a sentence with the command; with it, what the server says is in it."""
    made = settings(server())
    root, home = _folders(scratch)
    disabled = {"ServerApp": {"jpserver_extensions": {"opskit.jupyter": False}}}
    (home / "config").mkdir()
    configuration = home / "config" / "jupyter_server_config.json"
    configuration.write_text(json.dumps(disabled))
    with running_lab(root, home, {"OPSKIT_CONFIG": str(made.file)}) as lab:
        output = _shown(LabPage(browser.new_page(), lab))
        expect(output).to_contain_text("The browser cannot download from here.")
        expect(output.get_by_text("opskit download main latest")).to_be_visible()
        expect(output.get_by_role("link")).to_have_count(0)
    configuration.unlink()
    variables = {"OPSKIT_CONFIG": str(made.file), "JUPYTER_CONFIG_PATH": str(SERVED)}
    with running_lab(root, home, variables) as lab:
        output = _shown(LabPage(browser.new_page(), lab))
        expect(output).to_contain_text("Cluster 'main' has no backup")
        expect(output).to_contain_text("Make one with 'opskit backup main'.")


def _folders(scratch: Path) -> tuple[Path, Path]:
    root, home = scratch / "root", scratch / "home"
    for folder in (root, home):
        folder.mkdir()
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(book, root / "link.ipynb")
    return root, home


def _shown(page: LabPage) -> Locator:
    page.open("link.ipynb")
    page.run_all()
    output = page.page.locator(".jp-OutputArea-output").first
    expect(output).to_be_visible()
    return output
