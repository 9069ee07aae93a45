"""What SQL tells about a server's WAL summaries (manual, "WAL Summarization Information Functions").

Every role may ask for them.
"""

from opskit.model.increment import FIRST_MAJOR, WalSummary
from opskit.model.lsn import Lsn
from opskit.postgres.connection import Connection
from opskit.postgres.facts import ClusterFacts


def summarizes(connection: Connection, facts: ClusterFacts) -> bool:
    """Whether the server summarizes its WAL."""
    return facts.major >= FIRST_MAJOR and bool(
        connection.value("SELECT current_setting('summarize_wal')::boolean")
    )


def wal_summaries(connection: Connection) -> tuple[WalSummary, ...]:
    """The summaries that a server of PostgreSQL 17 or later has, in no particular order."""
    rows = connection.rows(
        "SELECT tli, start_lsn::text, end_lsn::text FROM pg_available_wal_summaries()"
    )
    return tuple(
        WalSummary(timeline=timeline, start=Lsn.parse(start), end=Lsn.parse(end))
        for timeline, start, end in rows
    )


def changed_bytes(connection: Connection, since: Lsn, at_most: int) -> int:
    """How many bytes of blocks the WAL from `since` on changed, as far as it is summarized.

    Parameters
    ----------
    at_most
        From there on nothing more is counted, to spare the server.
    """
    block_bytes = int(connection.value("SELECT current_setting('block_size')"))
    limit = at_most // block_bytes + 1
    # A block that several summaries name is counted once only where that decides.
    named = connection.value(_NAMED, str(since), limit)
    return block_bytes * int(
        connection.value(_DISTINCT, str(since), limit) if named >= limit else named
    )


_BLOCKS = """
    FROM pg_available_wal_summaries() s, pg_wal_summary_contents(s.tli, s.start_lsn, s.end_lsn) c
    WHERE s.end_lsn > %s::pg_lsn AND NOT c.is_limit_block
"""
_NAMED = f"SELECT count(*) FROM (SELECT 1 {_BLOCKS} LIMIT %s) n"
_DISTINCT = (
    "SELECT count(*) FROM (SELECT DISTINCT c.reltablespace, c.reldatabase, c.relfilenode,"
    f" c.relforknumber, c.relblocknumber {_BLOCKS} LIMIT %s) n"
)
