"""Changes between two backups: so many of the rows, all over the tables or side by side."""

import time
from dataclasses import dataclass
from enum import StrEnum

from bench.measure import CommandFailed
from bench.place import Place
from bench.servers import TABLES
from bench.watch import process_seconds
from opskit.model.lsn import Lsn
from opskit.postgres.server import LocalServer

_LONGEST_SECONDS = 300.0
_POLL_SECONDS = 0.05

_SCATTERED = "(hashint8(id + {number}) & 2147483647) % {every} = 0"
_CLUSTERED = (
    "id BETWEEN (SELECT min(id) + ({number} % 7) * (max(id) - min(id)) / 8 FROM events_{table})"
    " AND (SELECT min(id) + ({number} % 7) * (max(id) - min(id)) / 8 + (max(id) - min(id)) / {every}"
    " FROM events_{table})"
)
_CHANGE = (
    "UPDATE events_{table} SET customer = customer # {number}, details = details WHERE {which}"
)


class Pattern(StrEnum):
    """Where the changed rows are."""

    SCATTERED = "scattered"
    CLUSTERED = "clustered"


@dataclass(frozen=True, slots=True)
class Change:
    """One row in `every` is updated; `number` chooses which, so that two changes are of different rows."""

    every: int
    pattern: Pattern
    number: int

    @property
    def text(self) -> str:
        """As a title says it."""
        return f"{100 / self.every:g} % of the rows changed, {self.pattern}"


def make_change(place: Place, server: LocalServer, change: Change, closed: str) -> float:
    """Make it, and leave the server idle: everything written, its WAL summarized. WAL is not archived meanwhile.

    The tables are read once: whoever reads a changed page for the first time changes it again (hint bits, pruning), and
    that would count as the next change's. They are not vacuumed: room all over the tables would scatter what follows.

    Returns
    -------
    float
        The seconds that the server's summarizer has worked for it; 0 where there is none.
    """
    summarizer = _summarizer(server)
    before = process_seconds(summarizer) if summarizer else 0.0
    (place.directory / closed).touch()
    try:
        for table in range(TABLES):
            which = _SCATTERED if change.pattern is Pattern.SCATTERED else _CLUSTERED
            asked = which.format(table=table, number=change.number, every=change.every)
            server.query(_CHANGE.format(table=table, number=change.number, which=asked))
        for table in range(TABLES):
            server.query(f"SELECT count(customer) FROM events_{table}")
        server.query("CHECKPOINT")
        if summarizer:
            _wait_for_summaries(server)
        _wait_for_archiver(server)
    finally:
        (place.directory / closed).unlink()
    return process_seconds(summarizer) - before if summarizer else 0.0


def _summarizer(server: LocalServer) -> int | None:
    found = server.query(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walsummarizer'"
    ).rows
    return found[0][0] if found else None


def _wait_for_summaries(server: LocalServer) -> None:
    [[redo]] = server.query("SELECT redo_lsn::text FROM pg_control_checkpoint()").rows
    deadline = time.monotonic() + _LONGEST_SECONDS
    while time.monotonic() < deadline:
        asked = "SELECT summarized_lsn::text FROM pg_get_wal_summarizer_state()"
        if Lsn.parse(server.query(asked).rows[0][0]) >= Lsn.parse(redo):
            return
        time.sleep(_POLL_SECONDS)
    raise CommandFailed(f"WAL is not summarized up to {redo} after {_LONGEST_SECONDS:.0f} s")


def _wait_for_archiver(server: LocalServer) -> None:
    """Segments of the change are archived to nowhere before the next backup begins."""
    [[mode, current]] = server.query(
        "SELECT current_setting('archive_mode'), pg_walfile_name(pg_switch_wal())"
    ).rows
    deadline = time.monotonic() + _LONGEST_SECONDS
    while mode == "on" and time.monotonic() < deadline:
        asked = f"SELECT coalesce(last_archived_wal, '') >= '{current}' FROM pg_stat_archiver"
        if server.query(asked).rows == [(True,)]:
            return
        time.sleep(_POLL_SECONDS)
    if mode == "on":
        raise CommandFailed(f"WAL is not archived up to {current}")
