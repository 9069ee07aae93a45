"""The clusters that are backed up: made for the bench, the same each time, and gone with it."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from opskit.postgres.account import Account
from opskit.postgres.initdb import init_cluster
from opskit.postgres.programs import Programs
from opskit.postgres.server import LocalServer

ROWS_OF_SCALE_1 = 930_000  # about 0.3 GB with their index
TABLES = 4
TABLES_IN_A_TRANSACTION = 500  # each takes locks

# While data is made nothing has to be durable; what is measured runs with PostgreSQL's own settings.
_FILLING = {
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "fsync": "off",
    "autovacuum": "off",
    "max_wal_size": "4GB",
    "shared_buffers": "256MB",
    "max_locks_per_transaction": "256",
    "timezone": "UTC",
}
# A quiet server: nothing but the backup works in it.
MEASURED = {"shared_buffers": "256MB", "autovacuum": "off", "summarize_wal": "off"}

# Text that hardly compresses (hashes), text that compresses well, and numbers: 3:1 by zstd at level 1, as the data of
# real applications does; pgbench's, mostly blanks, gives 20:1 and would flatter whoever compresses.
_ROWS = """
CREATE TABLE events_{table} AS
SELECT n AS id,
       (hashint8(n) & 65535)::int AS customer,
       timestamptz '2026-01-01 00:00:00Z' + n * interval '7 seconds' AS happened_at,
       (ARRAY['created', 'paid', 'packed', 'shipped', 'returned'])[1 + (hashint8(n + 1) & 3)] AS state,
       md5(n::text) AS token,
       decode(md5('a' || n) || md5('b' || n) || md5('c' || n), 'hex') AS payload,
       'the customer asked for delivery to the neighbour at number ' || (hashint8(n + 2) & 127) AS note,
       jsonb_build_object('channel', 'web', 'currency', 'EUR', 'amount', hashint8(n + 3) & 16383, 'gift', false)
           AS details
  FROM generate_series({first}::bigint, {last}::bigint) AS n;
ALTER TABLE events_{table} ADD PRIMARY KEY (id);
"""

_SMALL = """
DO $$BEGIN
    FOR n IN {first}..{last} LOOP
        EXECUTE format('CREATE TABLE small_%s (id int PRIMARY KEY, amount int)', n);
        EXECUTE format('INSERT INTO small_%s VALUES (1, %s)', n, n);
    END LOOP;
END$$
"""


@contextmanager
def large_cluster(
    programs: Programs,
    home: Path,
    account: Account | None,
    scale: float,
    options: Mapping[str, str] | None = None,
) -> Iterator[LocalServer]:
    """A running server with about ``scale * 0.3`` GB in few tables."""
    rows = math.ceil(ROWS_OF_SCALE_1 * scale / TABLES)
    statements = [
        _ROWS.format(table=table, first=table * rows + 1, last=(table + 1) * rows)
        for table in range(TABLES)
    ]
    with _filled(programs, home, account, statements, options or {}) as server:
        yield server


@contextmanager
def crowded_cluster(
    programs: Programs, home: Path, account: Account | None, relations: int
) -> Iterator[LocalServer]:
    """A running server with that many relations of one or two pages: tables, each with an index."""
    tables = math.ceil(relations / 2)
    statements = [
        _SMALL.format(first=first, last=min(first + TABLES_IN_A_TRANSACTION - 1, tables))
        for first in range(1, tables + 1, TABLES_IN_A_TRANSACTION)
    ]
    with _filled(programs, home, account, statements, {}) as server:
        yield server


@contextmanager
def empty_cluster(
    programs: Programs, home: Path, account: Account | None, options: Mapping[str, str]
) -> Iterator[LocalServer]:
    """A running server without data."""
    home.mkdir(mode=0o755)
    init_cluster(programs, home / "data", account=account)
    with _server(programs, home, account, options) as server:
        yield server


@contextmanager
def _filled(
    programs: Programs,
    home: Path,
    account: Account | None,
    statements: list[str],
    options: Mapping[str, str],
) -> Iterator[LocalServer]:
    home.mkdir(mode=0o755)
    init_cluster(programs, home / "data", account=account)
    with _server(programs, home, account, _FILLING) as filling:
        for statement in statements:
            filling.query(statement)
        filling.query("VACUUM (FREEZE)")
    with _server(programs, home, account, {**MEASURED, **options}) as measured:
        measured.query("CHECKPOINT")
        yield measured


def _server(
    programs: Programs, home: Path, account: Account | None, options: Mapping[str, str]
) -> LocalServer:
    return LocalServer(
        programs,
        home,
        "data",
        home / "data",
        account=account,
        superuser="focker",
        log=home / "log",
        options={k: v for k, v in options.items() if k != "summarize_wal" or programs.major >= 17},
    )
