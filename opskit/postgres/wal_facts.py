"""Where a server's log is, and how the slot stands that keeps it for the archive."""

from dataclasses import dataclass

from opskit.model.lsn import Lsn
from opskit.postgres.connection import Connection
from opskit.postgres.facts import SlotFacts, slot_facts


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFacts:
    """The end of a server's WAL that is on its disk, and who takes it.

    `is_archiving` is whether the server archives by a command or library of its own; `slot_limit_bytes` is
    ``max_slot_wal_keep_size``, `None` when nothing limits what slots keep.
    """

    postgresql_major: int
    wal_segment_bytes: int
    in_recovery: bool
    timeline: int
    flushed_lsn: Lsn
    slot: SlotFacts | None
    slot_limit_bytes: int | None
    is_archiving: bool


def log_facts(connection: Connection, slot: str) -> LogFacts:
    """Ask a server, a primary or a standby, for the end of its log and its slot `slot`."""
    in_recovery: bool = connection.value("SELECT pg_is_in_recovery()")
    [(timeline, flushed)] = connection.rows(_STANDBY if in_recovery else _PRIMARY)
    limit = connection.value(_SETTING, "max_slot_wal_keep_size")
    return LogFacts(
        postgresql_major=connection.sql.info.server_version // 10_000,
        wal_segment_bytes=int(connection.value(_SETTING, "wal_segment_size")),
        in_recovery=in_recovery,
        timeline=timeline,
        flushed_lsn=Lsn.parse(flushed),
        slot=slot_facts(connection, slot),
        slot_limit_bytes=int(limit) << 20 if int(limit) >= 0 else None,
        is_archiving=connection.value(_SETTING, "archive_mode") != "off",
    )


def drop_slot(connection: Connection, name: str) -> None:
    """Remove a slot: the server need not keep WAL for it any more.

    Raises
    ------
    ServerError
        It is in use, or the server refused.
    """
    connection.rows("SELECT pg_drop_replication_slot(%s)", name)


_SETTING = "SELECT setting FROM pg_settings WHERE name = %s"
_PRIMARY = """
SELECT ('x' || substr(pg_walfile_name(lsn), 1, 8))::bit(32)::int, lsn::text FROM pg_current_wal_flush_lsn() AS lsn
"""
_STANDBY = """
SELECT coalesce((SELECT received_tli FROM pg_stat_wal_receiver), (SELECT timeline_id FROM pg_control_checkpoint())),
       greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::text
"""
