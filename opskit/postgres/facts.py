"""What SQL tells about a running cluster, and the lock that keeps two backups of it apart."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from opskit.errors import ConflictError, ErrorKind
from opskit.model.format import format_bytes
from opskit.model.lsn import Lsn
from opskit.model.shown import Shown
from opskit.postgres.connection import Connection

# "opskit" in ASCII, and 1 for the backup lock: one number for every version of opskit that is to exclude another
BACKUP_LOCK = 0x6F70736B69740001

# How long a session that was just closed may still hold a lock or a slot: its server process ends by itself.
LINGERING_SECONDS = 2.0

# Recovery refuses to start with less than the primary had (manual, "Hot Standby", administrator's overview).
RECOVERY_SETTINGS = (
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
)
# Settings that change what queries answer or what the copy can load; shown in the copy's configuration as comments.
_NOTED_SETTINGS = (
    "shared_preload_libraries",
    "session_preload_libraries",
    "default_text_search_config",
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "bytea_output",
    "xmloption",
)
# A developer's option; recovery of a cluster that used it refuses to start without.
_IN_PLACE = "allow_in_place_tablespaces"
_UNDER_CONTROL = ("data_checksums", "wal_segment_size", "block_size")


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A database's name and size; the size is `None` where the role may not know it."""

    name: str
    database_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFacts(Shown):
    """A running cluster as SQL shows it. Sizes are in bytes.

    `superuser` is the role that a restored copy is best opened with: the connecting role if it may do everything, else
    the one that initialised the cluster.
    """

    system_identifier: str
    postgresql_version: str
    build: str
    in_recovery: bool
    data_checksums: bool
    wal_segment_bytes: int
    block_bytes: int = 8192
    superuser: str
    databases: tuple[Database, ...]
    tablespace_names: Mapping[int, str]
    recovery_settings: Mapping[str, str]
    noted_settings: Mapping[str, str]
    walsenders: tuple[int, int]
    slots: tuple[int, int]

    def __repr__(self) -> str:
        standby = ", a standby" if self.in_recovery else ""
        count = len(self.databases)
        return (
            f"<opskit facts of PostgreSQL {self.postgresql_version}{standby}: {count:,} database{'s'[: count != 1]},"
            f" {format_bytes(self.databases_bytes)}, system identifier {self.system_identifier}>"
        )

    @property
    def databases_bytes(self) -> int:
        """What the databases take together, as far as the role may know."""
        return sum(database.database_bytes or 0 for database in self.databases)

    @property
    def major(self) -> int:
        """The major version of PostgreSQL."""
        return int(self.postgresql_version.split(".")[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotFacts:
    """A replication slot: from where on the server keeps WAL for it, and how that stands.

    `wal_status` is ``reserved``, ``extended``, ``unreserved`` or ``lost`` (manual, ``pg_replication_slots``);
    `safe_bytes` how much more may be written before it is in danger, `None` where nothing limits it.
    """

    restart_lsn: Lsn | None
    is_active: bool
    wal_status: str
    safe_bytes: int | None

    @property
    def is_lost(self) -> bool:
        """Whether the server keeps no WAL for the slot any more: there was too much of it, or nobody came for it."""
        return self.wal_status == "lost"


def slot_facts(connection: Connection, name: str) -> SlotFacts | None:
    """The slot `name`; `None` when there is none."""
    rows = connection.rows(
        "SELECT restart_lsn::text, active, coalesce(wal_status, 'lost'), safe_wal_size"
        " FROM pg_replication_slots WHERE slot_name = %s",
        name,
    )
    if not rows:
        return None
    restart, active, status, safe = rows[0]
    return SlotFacts(
        restart_lsn=Lsn.parse(restart) if restart else None,
        is_active=active,
        wal_status=status,
        safe_bytes=safe,
    )


def probe(connection: Connection) -> ClusterFacts:
    """Ask the cluster; needs no right beyond connecting.

    `walsenders` and `slots` are (used, allowed).

    Raises
    ------
    ServerError
        The server refused or went away.
    """
    settings = dict(
        connection.rows(
            "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)",
            [
                *RECOVERY_SETTINGS,
                *_NOTED_SETTINGS,
                *_UNDER_CONTROL,
                _IN_PLACE,
                "max_replication_slots",
            ],
        )
    )
    version = connection.sql.info.server_version
    databases = connection.rows(
        "SELECT datname, CASE WHEN has_database_privilege(oid, 'CONNECT')"
        " OR pg_has_role('pg_read_all_stats', 'USAGE') THEN pg_database_size(oid) END"
        " FROM pg_database WHERE datallowconn ORDER BY datname"
    )
    return ClusterFacts(
        system_identifier=str(
            connection.value("SELECT system_identifier FROM pg_control_system()")
        ),
        postgresql_version=f"{version // 10_000}.{version % 10_000}",
        build=connection.value("SELECT version()"),
        in_recovery=connection.value("SELECT pg_is_in_recovery()"),
        data_checksums=settings["data_checksums"] == "on",
        wal_segment_bytes=int(settings["wal_segment_size"]),
        block_bytes=int(settings["block_size"]),
        superuser=_superuser(connection),
        databases=tuple(Database(name=name, database_bytes=size) for name, size in databases),
        tablespace_names=dict(
            connection.rows(
                "SELECT oid::bigint, spcname FROM pg_tablespace"
                " WHERE spcname NOT IN ('pg_default', 'pg_global')"
            )
        ),
        recovery_settings={
            name: settings[name]
            for name in (*RECOVERY_SETTINGS, _IN_PLACE)
            if settings.get(name, "off") != "off"
        },
        noted_settings={name: settings[name] for name in _NOTED_SETTINGS if settings.get(name)},
        walsenders=(
            connection.value("SELECT count(*) FROM pg_stat_replication"),
            int(settings["max_wal_senders"]),
        ),
        slots=(
            connection.value("SELECT count(*) FROM pg_replication_slots"),
            int(settings["max_replication_slots"]),
        ),
    )


def server_time(connection: Connection) -> datetime:
    """The server's clock, in UTC: commits are stamped by it, so backups are too. In milliseconds, as records are.

    A standby's commits are stamped by its primary: should that one's clock be ahead, the last commit's time counts.
    """
    value: datetime = connection.value(_CLOCK)
    return value.astimezone(UTC)


def lock_for_backup(connection: Connection) -> None:
    """Take the cluster's backup lock; it is held until the connection ends, however that happens.

    Advisory locks are kept per database: the temporary slot's name, which is kept per cluster, closes that gap.

    Raises
    ------
    ConflictError
        Another session holds it; the message says since when and from where.
    """
    deadline = time.monotonic() + LINGERING_SECONDS
    while not connection.value("SELECT pg_try_advisory_lock(%s)", BACKUP_LOCK):
        if time.monotonic() > deadline:
            raise backup_running(connection)
        time.sleep(0.1)


def backup_is_running(connection: Connection) -> ConflictError | None:
    """The error that says who takes a backup of the cluster at this moment; `None` when nobody does."""
    holders = connection.rows(
        "SELECT a.backend_start, coalesce(host(a.client_addr), 'its own host')"
        " FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)"
        " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1"
        " AND (l.classid::bigint << 32 | l.objid::bigint) = %s",
        BACKUP_LOCK,
    )
    if not holders:
        return None
    started, where = holders[0]
    return _running_error(started, where)


def backup_running(connection: Connection) -> ConflictError:
    """The error that says that another backup of the cluster is running, and whose, as far as can be seen."""
    return backup_is_running(connection) or _running_error(None, None)


def _running_error(started: datetime | None, where: str | None) -> ConflictError:
    """The error for a backup that a session from `where` has been taking since `started`, `None` where unknown."""
    since = f", since {started.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if started else ""
    source = f" from {where}" if started and where else ""
    return ConflictError(
        f"another backup of this cluster is running{since}{source}",
        ErrorKind.BACKUP_RUNNING,
        "Wait until it has ended, or cancel it.",
    )


def _superuser(connection: Connection) -> str:
    name: str | None = connection.value(
        "SELECT rolname FROM pg_roles WHERE rolsuper AND rolcanlogin"
        " ORDER BY rolname = current_user DESC, oid LIMIT 1"
    )
    return name or "postgres"


_CLOCK = """
SELECT date_trunc('milliseconds', greatest(
    clock_timestamp(), CASE WHEN pg_is_in_recovery() THEN pg_last_xact_replay_timestamp() END))
"""
