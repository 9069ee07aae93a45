"""The queue's tables: Procrastinate's own, and two of opskit's beside them."""

import re
from importlib.metadata import version
from typing import Any

from procrastinate.schema import SchemaManager

from opskit.errors import ConflictError, ErrorKind

_LOCK = 0x6F70736B6977  # beside those of the catalog
_FUNCTION = re.compile(r"^CREATE FUNCTION (\w+)\(", re.MULTILINE)

_OURS = """
CREATE TABLE IF NOT EXISTS opskit_workers (
    id bigint PRIMARY KEY REFERENCES procrastinate_workers ON DELETE CASCADE,
    queue text NOT NULL,
    host text NOT NULL,
    pid bigint NOT NULL,
    jobs integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS opskit_turns (
    queue text,
    turn text,
    taken_at timestamptz NOT NULL,
    PRIMARY KEY (queue, turn)
);
"""


async def ensure_schema(connection: Any) -> None:
    """Make the tables where there are none; several workers may start at once.

    Raises
    ------
    ConflictError
        There are tables of another Procrastinate. They are not migrated: others may use them, too.
    """
    schema = SchemaManager.get_schema()
    wanted = _FUNCTION.findall(schema)
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    cursor = await connection.execute("SELECT to_regclass('procrastinate_jobs') IS NOT NULL")
    if not (await cursor.fetchone())[0]:
        await connection.execute(schema)
    cursor = await connection.execute(
        "SELECT array_agg(name) FROM unnest(%s::text[]) AS name WHERE to_regproc(name) IS NULL",
        (wanted,),
    )
    missing = (await cursor.fetchone())[0]
    if missing:
        raise ConflictError(
            f"the queue's tables are not those of Procrastinate {version('procrastinate')}: there is no {missing[0]!r}",
            ErrorKind.UNKNOWN_FORMAT,
            "Apply the migrations that Procrastinate's manual names for it, or give the fleet a database of its own.",
        )
    await connection.execute(_OURS)
