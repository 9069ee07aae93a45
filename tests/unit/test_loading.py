"""What commands load: most of what a short one takes."""

import subprocess
from pathlib import Path

import pytest

from opskit.catalog import Catalog
from tests.support.interpreter import PROJECT, python

CONFIGURATION = """
[repository]
url = "{}"
[clusters.main]
conninfo = "host=127.0.0.1 port=1 user=focker"
retention = {{ on_demand = 1 }}
"""
_TABLES = {"numpy", "pandas"}
_NEVER = _TABLES | {"alembic"}
_SERVERS = {"psycopg"}
_CHAINS = {"crc32c"}
_CATALOG = {"asyncio", "sqlalchemy"}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a repository with real backups, the oldest a full one; there is no server."""
    folder = tmp_path_factory.mktemp("kept")
    file = PROJECT / "tests/compat/format-1.tar.zst"
    subprocess.run(["tar", "--zstd", "-C", str(folder), "-xf", str(file)], check=True)
    configuration = folder / "opskit.toml"
    url = (folder / "released/repository").as_uri()
    configuration.write_text(CONFIGURATION.format(url))
    return configuration


@pytest.mark.parametrize("arguments", ["--help", "--version", "backup --help", "restore --help"])
def test_help_answers_at_once(arguments: str) -> None:
    """Help and version load nothing that takes long."""
    done = python(
        "import sys; from opskit.cli import main\n"
        f"assert main({arguments.split()!r}) == 0\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules}), file=sys.stderr)"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    slow = (
        "alembic",
        "IPython",
        "ipywidgets",
        "jupyter_core",
        "matplotlib",
        "nbformat",
        "numpy",
        "obstore",
    )
    for module in (*slow, "pandas", "papermill", "psycopg", "rich", "sqlalchemy", "zstandard"):
        assert f"'{module}'" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "idle"),
    [
        ("show main latest", _NEVER | {"rich"} | _SERVERS | _CHAINS | _CATALOG),
        ("restore main {}", _NEVER | _SERVERS | _CHAINS),
        ("download main latest --output {} --no-wal", _NEVER | _SERVERS | _CHAINS),
        ("expire main --dry-run", _NEVER | _SERVERS | _CHAINS),
        ("backup main --trigger scheduled", _NEVER),
    ],
)
def test_commands_load_what_they_need(
    kept: Path, tmp_path: Path, arguments: str, idle: set[str]
) -> None:
    """What takes long to load is loaded by the commands that need it only: it is most of what a short one takes."""
    made = tmp_path / "catalog.db"
    catalog = f'\n[catalog]\nurl = "sqlite:///{made}"\n'
    configuration = tmp_path / "opskit.toml"
    configuration.write_text(kept.read_text() + catalog)
    Catalog.open(f"sqlite:///{made}").close()  # what migrates it is loaded once
    words = arguments.format(tmp_path / "into").split()
    done = python(
        "import sys; from opskit.cli import main\n"
        f"code = main({['--config', str(configuration), *words]!r})\n"
        "print(code, *sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    code, *loaded = done.stdout.splitlines()[-1].split()
    assert code == ("5" if words[0] == "backup" else "0"), done.stderr
    assert set(loaded) & idle == set()
