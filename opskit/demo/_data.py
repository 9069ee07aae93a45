"""What the demo's cluster holds, and how it gets there: the same rows every time, about 100 MB, in seconds."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from opskit.postgres.server import LocalServer

# For a server that nobody needs yet: should it crash, it is made again.
LOADING = {
    "fsync": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "summarize_wal": "off",
    "autovacuum": "off",
    "max_wal_size": "2GB",
    "maintenance_work_mem": "128MB",
    "work_mem": "64MB",
}
_DATABASES = {"shop": "shop.sql", "analytics": "analytics.sql", 'Archiv "Köln" 2024': "archive.sql"}
_TABLESPACE = "slow disk"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoDatabase:
    """A database of the demo, and its size in bytes."""

    name: str
    database_bytes: int


def load(server: LocalServer, tablespace: Path) -> None:
    """Fill a new cluster; the tablespace is kept in the empty directory `tablespace`."""
    server.query(f"CREATE TABLESPACE {_quoted(_TABLESPACE)} LOCATION '{tablespace}'")
    server.query("CREATE ROLE shop LOGIN")
    for name in _DATABASES:
        # A copy of the template's files is not logged, unlike what WAL_LOG does.
        server.query(f"CREATE DATABASE {_quoted(name)} STRATEGY file_copy")
    scripts = resources.files("opskit.demo")
    with ThreadPoolExecutor(len(_DATABASES)) as threads:
        loads = [
            threads.submit(server.query, scripts.joinpath(script).read_text(encoding="utf-8"), name)
            for name, script in _DATABASES.items()
        ]
        for one in loads:
            one.result()
    for name in _DATABASES:
        server.query("VACUUM (ANALYZE)", name)


def databases(server: LocalServer) -> tuple[DemoDatabase, ...]:
    """The databases that one can connect to, the largest first."""
    rows = server.query(
        "SELECT datname, pg_database_size(oid) FROM pg_database"
        " WHERE datallowconn AND NOT datistemplate ORDER BY 2 DESC, 1"
    ).rows
    return tuple(DemoDatabase(name=name, database_bytes=size) for name, size in rows)


def _quoted(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'
