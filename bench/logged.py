"""A cluster with a log to archive and to recover: a base backup, and a stretch of WAL behind it, the same each time."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.measure import CommandFailed, run
from bench.place import Place
from bench.servers import MEASURED, empty_cluster
from opskit.errors import NotFoundError
from opskit.model.lsn import Lsn
from opskit.model.wal import WalSegment
from opskit.postgres.programs import Programs, find_programs
from opskit.postgres.server import LocalServer

CLUSTER = "logged"
PLAIN = "plain-wal"
BYTES_OF_SCALE_1 = 100 << 20  # 1 GB at scale 10
SEGMENT_BYTES = 16 << 20
KEPT_SLOT = "kept"
_OPTIONS = {
    **MEASURED,
    "max_wal_size": "2GB",
    "wal_compression": "off",
    "max_replication_slots": "10",
    "max_wal_senders": "10",
}

# Rows are made and changed in turn, so that there are records of every size, and images of whole pages.
_TABLE = "CREATE TABLE logged (id bigint PRIMARY KEY, customer int, token text, payload bytea, note text)"
_ROUND = """
INSERT INTO logged
SELECT n, (hashint8(n) & 65535)::int, md5(n::text), decode(md5('a' || n) || md5('b' || n) || md5('c' || n), 'hex'),
       'the customer asked for delivery to the neighbour at number ' || (hashint8(n) & 127)
  FROM generate_series({first}::bigint, {last}::bigint) AS n;
UPDATE logged SET customer = customer + 1, note = note || '.'
 WHERE id > {first} - 50000 AND hashint8(id) & 7 = {round} & 7;
"""
_ROWS_A_ROUND = 5000


@dataclass(frozen=True, slots=True)
class Logged:
    """The running server, and the WAL from its backup's start on: segments that are full, and one that was ended early.

    `plain` has copies of them, for every account; `has_lz4`: whether its ``pg_receivewal`` knows that.
    """

    server: LocalServer
    segments: list[WalSegment]
    plain: Path
    end: Lsn
    has_lz4: bool

    @property
    def files(self) -> list[Path]:
        """The copies, in order."""
        return [self.plain / segment.name for segment in self.segments]


def log_programs(newest: int) -> tuple[Programs, bool]:
    """The newest PostgreSQL whose ``pg_receivewal`` compresses by lz4, else the newest; and whether it does."""
    for major in range(newest, newest - 4, -1):
        try:
            programs = find_programs(major)
            run(
                [str(programs.path("pg_receivewal")), "-D", "/nowhere", "--compress=lz4"], Path("/")
            )
        except NotFoundError:
            continue
        except CommandFailed as error:
            if "does not support" not in str(error):  # but only the directory is missed
                return programs, True
    return find_programs(newest), False


@contextmanager
def logged_cluster(place: Place, newest: int, scale: float) -> Iterator[Logged]:
    """The cluster, configured and backed up as `CLUSTER`, with about ``scale * 100`` MB of WAL since."""
    programs, has_lz4 = log_programs(newest)
    programs = programs.usable_by(place.account)
    home = place.directory / CLUSTER
    with empty_cluster(programs, home, place.account, _OPTIONS) as server:
        place.configure({CLUSTER: server})
        server.query(f"SELECT pg_create_physical_replication_slot('{KEPT_SLOT}', true)")
        place.opskit("backup", CLUSTER)
        segments = write_log(server, BYTES_OF_SCALE_1 * scale)
        [[kept]] = server.query(
            f"SELECT restart_lsn::text FROM pg_replication_slots WHERE slot_name = '{KEPT_SLOT}'"
        ).rows
        before = WalSegment.holding(Lsn.parse(kept), 1, SEGMENT_BYTES).number
        segments = [
            *(WalSegment(1, n, SEGMENT_BYTES) for n in range(before, segments[0].number)),
            *segments,
        ]
        plain = plain_segments(place, server, segments)
        yield Logged(server, segments, plain, segments[-1].end, has_lz4)


def write_log(server: LocalServer, log_bytes: float) -> list[WalSegment]:
    """Have so much WAL written; the segments, of which the last was ended early."""
    server.query(_TABLE)
    start = _position(server)
    number = 0
    while _position(server) < start + log_bytes:
        first = number * _ROWS_A_ROUND + 1
        last = first + _ROWS_A_ROUND - 1
        server.query(_ROUND.format(first=first, last=last, round=number))
        number += 1
    [[end]] = server.query("SELECT pg_switch_wal()::text").rows
    begun = WalSegment.holding(start, 1, SEGMENT_BYTES)
    ended = WalSegment.ending_at(Lsn.parse(end), 1, SEGMENT_BYTES)
    return [WalSegment(1, n, SEGMENT_BYTES) for n in range(begun.number, ended.number + 1)]


def plain_segments(place: Place, server: LocalServer, segments: list[WalSegment]) -> Path:
    """A folder of copies of the server's files."""
    folder = place.directory / PLAIN
    folder.mkdir()
    for segment in segments:
        shutil.copy(server.data_directory / "pg_wal" / segment.name, folder)
    place.give(folder)
    return folder


def fresh_slot(server: LocalServer, name: str) -> None:
    """A slot that keeps all of the WAL, in place of one that was used."""
    drop_slot(server, name)
    server.query(f"SELECT pg_copy_physical_replication_slot('{KEPT_SLOT}', '{name}')")


def drop_slot(server: LocalServer, name: str) -> None:
    """Drop a slot, if it is there."""
    server.query(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
        f" WHERE slot_name = '{name}' AND NOT active"
    )


def _position(server: LocalServer) -> Lsn:
    [[position]] = server.query("SELECT pg_current_wal_insert_lsn()::text").rows
    return Lsn.parse(position)
