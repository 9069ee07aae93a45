"""A repository as years fill it: thousands of backups, and hundreds of stretches of real WAL with a gap behind each.

A server writes the WAL within seconds. The times in it are then put apart, as those of the backups are.
"""

import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from crc32c import crc32c

from opskit.config import Settings
from opskit.model.backup import write_record
from opskit.model.lsn import Lsn
from opskit.model.wal import WalSegment
from opskit.postgres.server import LocalServer
from opskit.postgres.waldump import LogStretch, read_log
from opskit.repository import Repository
from opskit.store import open_store
from tests.support.records import SEGMENT_BYTES, record
from tests.support.streams import KEPT

VAST = {**KEPT, "wal_keep_size": "4GB", "max_wal_size": "4GB"}
"""The options of a server that writes such WAL, in segments of 1 MB."""
_APART = timedelta(hours=1)
_HEADER = struct.Struct("<IIQBBxxI")  # XLogRecord, of xlogrecord.h
_TIME = (
    _HEADER.size + 2
)  # behind the head of a short block of data: xl_xact_commit.xact_time, of xact.h
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def make_vast(
    source: LocalServer, settings: Settings, *, backups: int, ranges: int, newest: datetime
) -> None:
    """Fill the repository with records of backups of ``main``, as many in each of the ranges that can be restored.

    A backup was taken every hour; half an hour after the last one of each range, a transaction ended.

    Parameters
    ----------
    source
        A server of its own; of every second segment that it writes nothing is archived.
    newest
        When the newest of the backups began.
    """
    root = Path(urlsplit(settings.repository_url).path)
    repository = Repository(open_store(settings.repository_url))
    system, first = _write_wal(source, ranges)
    repository.claim_cluster("main", system, source.programs.major, SEGMENT_BYTES)
    archive, each = repository.known_wal("main"), backups // ranges
    for number in range(ranges):
        segment = WalSegment(1, first + 2 * number, SEGMENT_BYTES)
        begins = newest - (ranges - number) * each * _APART + _APART
        for hour in range(each):
            backup = record(
                begins + hour * _APART,
                system_identifier=system,
                postgresql_version=source.programs.version,
                start_lsn=Lsn(segment.start + 40),
                stop_lsn=Lsn(segment.start + 40),
            )
            folder = root / "main/backups" / backup.name
            folder.mkdir(parents=True)
            (folder / "backup.json").write_bytes(write_record(backup))
        content = (source.data_directory / "pg_wal" / segment.name).read_bytes()
        ended = begins + (each - 0.5) * _APART
        archive.put_segment(segment, _at(source, segment, content, ended))


def _write_wal(source: LocalServer, ranges: int) -> tuple[str, int]:
    """Have the server write a transaction into every second segment; its system identifier, and the first of them."""
    with psycopg.connect(source.conninfo(), autocommit=True) as connection:

        def ask(sql: str) -> str:
            row = connection.execute(sql).fetchone()
            assert row is not None
            return str(row[0])

        system = ask("SELECT system_identifier FROM pg_control_system()")
        ask("SELECT pg_switch_wal()")
        first = int(Lsn.parse(ask("SELECT pg_current_wal_insert_lsn()"))) // SEGMENT_BYTES
        for _ in range(2 * ranges):
            ask("SELECT pg_current_xact_id()")
            ask("SELECT pg_switch_wal()")
    return system, first


def _at(source: LocalServer, segment: WalSegment, content: bytes, time: datetime) -> bytes:
    """A segment whose transactions ended at another time."""
    changed = bytearray(content)
    log = source.data_directory / "pg_wal"
    for end in read_log(source.programs, LogStretch(log, 1, segment.start, segment.end)).ends:
        place = end.lsn - segment.start
        total, *head, _ = _HEADER.unpack_from(changed, place)
        struct.pack_into("<q", changed, place + _TIME, (time - _EPOCH) // timedelta(microseconds=1))
        checksum = crc32c(changed[place + _HEADER.size : place + total])
        checksum = crc32c(_HEADER.pack(total, *head, 0)[:-4], checksum)
        _HEADER.pack_into(changed, place, total, *head, checksum)
    return bytes(changed)
