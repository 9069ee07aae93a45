"""The steps of the README and of the guide do what they say, on real servers."""

from pathlib import Path

import pytest

from opskit.postgres.account import server_account
from opskit.postgres.programs import Programs
from opskit.postgres.server import LocalServer
from tests.server.reader import ROOT, Reader
from tests.servers import ServerFactory, fill


@pytest.mark.parametrize("programs", [18], indirect=True)
def test_readme_is_true(programs: Programs, scratch: Path) -> None:
    """The README's commands and its eight lines of Python run as shown, against the demo's server."""
    account = server_account()
    reader = Reader(scratch, programs.usable_by(account).directory, account)
    try:
        output = reader.read(ROOT / "README.md")
        assert "before the migration" in output
        assert "analytics" in reader.ask("psql postgres -U focker")
    finally:
        reader.close()


def _tablespace(source: LocalServer) -> int:
    (row,) = source.query("SELECT oid FROM pg_tablespace WHERE spcname !~ '^pg_'").rows
    return int(row[0])


@pytest.mark.long
@pytest.mark.parametrize("programs", [18], indirect=True)
def test_guide_is_true(server: ServerFactory, scratch: Path) -> None:
    """The guide leads from a role on a server, over TCP with a password, to a restored copy and two reports."""
    source = server({"listen_addresses": "127.0.0.1"}, superuser="postgres")
    fill(source)
    home = scratch / "reader"
    home.mkdir()
    replaced = {
        "db.example.com": "127.0.0.1",
        "5432": str(source.port),
        "10.0.0.7/32": "127.0.0.1/32",
        "file:///srv/opskit": (scratch / "repository").as_uri(),
        "/srv/tablespaces": str(scratch / "tablespaces"),
        "16384=": f"{_tablespace(source)}=",
    }
    reader = Reader(home, source.programs.directory, source.account, replaced, source)
    try:
        output = reader.read(ROOT / "docs/guide.md")
    finally:
        reader.close()
    assert "Büro" in output
    assert "correct horse" not in output
    for runbook in ("scheduled_backup", "local_restore"):
        for suffix in (".ipynb", ".html"):
            assert len([*home.glob(f"reports/main/*/*/*-{runbook}{suffix}")]) == 1
