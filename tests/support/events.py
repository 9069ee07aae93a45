"""Servers in which events happen, one row each: which of them a copy has tells how far it came."""

from opskit.postgres.server import LocalServer
from tests.servers import ServerFactory
from tests.support.streams import KEPT

HAPPEN = "INSERT INTO events DEFAULT VALUES"


def eventful(server: ServerFactory, *, segment_megabytes: int = 1) -> LocalServer:
    """A running server with an empty table of events, which keeps its WAL."""
    made = server(KEPT, wal_segment_megabytes=segment_megabytes)
    made.query(
        "CREATE TABLE events (n serial PRIMARY KEY, at timestamptz DEFAULT clock_timestamp())"
    )
    return made


def count_events(server: LocalServer) -> int:
    """How many events the server has."""
    return int(server.query("SELECT count(*) FROM events").rows[0][0])
