"""The slot that the archive of the cluster ``main`` has on a server, as the server sees it."""

from typing import Any

from opskit.operations.wal_stream import slot_name
from opskit.postgres.server import LocalServer

SLOT = slot_name("main")


def restart_lsn(server: LocalServer) -> int:
    """From where on the server keeps WAL for the archive."""
    return int(_asked(server, "restart_lsn - '0/0'::pg_lsn") or 0)


def slot_state(server: LocalServer) -> str:
    """How it stands: see ``wal_status`` in the manual."""
    return str(_asked(server, "wal_status"))


def walsender(server: LocalServer) -> int | None:
    """The server's process that serves the stream; `None` while nobody streams."""
    pid: int | None = _asked(server, "active_pid")
    return pid


def _asked(server: LocalServer, what: str) -> Any:
    rows = server.query(f"SELECT {what} FROM pg_replication_slots WHERE slot_name = '{SLOT}'").rows
    return rows[0][0] if rows else None
