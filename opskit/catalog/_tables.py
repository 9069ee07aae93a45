"""The catalog's tables, as the newest migration leaves them.

Names begin with ``opskit_``, because a catalog may live in a database that others use too.
"""

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Identity,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)

HEAD = "0002"
VERSION_TABLE = "opskit_catalog_version"

metadata = MetaData()


class UtcTime(TypeDecorator[datetime]):
    """Aware times in UTC, also where the database (SQLite) keeps no zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Keep UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Say that it is UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# `number` orders the rows by their start whatever the clocks of the hosts say.
operations = Table(
    "opskit_operations",
    metadata,
    Column(
        "number",
        BigInteger().with_variant(Integer, "sqlite"),
        Identity(always=True),
        primary_key=True,
    ),
    Column("id", String(32), nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("cluster", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("process", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("jupyter_user", Text),
    Column("parameters", JSON, nullable=False),
    Column("backup", Text),
    Column("started_at", UtcTime, nullable=False),
    Column("heartbeat_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    Column("phase", Text, nullable=False),
    Column("bytes_done", BigInteger, nullable=False),
    Column("bytes_expected", BigInteger),
    Column("cancel_requested_at", UtcTime),
    Column("result", JSON(none_as_null=True)),
    Column("error", JSON(none_as_null=True)),
    # whether its end stands in the audit log
    Column("is_entered", Boolean, nullable=False),
    Index("opskit_operations_by_cluster", "cluster", "number"),
)

# Triggers refuse to change or remove a row. The text is the entry, to the byte: what is signed and digested.
audit = Table(
    "opskit_audit",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("sha256", String(64), nullable=False),
    Column("entry", Text, nullable=False),
)
