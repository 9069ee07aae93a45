"""Real servers for tests: quick to make, filled with what backups stumble over, and never left running."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from opskit.postgres.account import Account, make_directory, server_account
from opskit.postgres.initdb import init_cluster
from opskit.postgres.postmaster import stop_server
from opskit.postgres.programs import Programs
from opskit.postgres.server import LocalServer

BASE_PREFIX = "opskit-tests-"
FAST = {
    "fsync": "off",
    "shared_buffers": "16MB",
    "max_connections": "40",
    "autovacuum": "off",  # a quiet server stays as it is
    "log_checkpoints": "off",
    "dynamic_shared_memory_type": "mmap",  # a killed server leaves nothing in /dev/shm
}

Fingerprint = dict[tuple[str, str], tuple[int, str]]


class ServerFactory:
    """Makes clusters below a directory, runs their servers, and stops them all.

    Clusters of the same shape are copies of one that ``initdb`` made, and have its system identifier, unless
    `own_identifier` is asked for.
    """

    def __init__(self, programs: Programs, directory: Path, templates: Path) -> None:
        self.account = server_account()
        self.programs = programs.usable_by(self.account)
        self.directory, self.templates = directory, templates
        self.servers: list[LocalServer] = []

    def __call__(
        self,
        options: Mapping[str, str] | None = None,
        *,
        start: bool = True,
        superuser: str = "focker",
        data_checksums: bool = True,
        wal_segment_megabytes: int = 16,
        own_identifier: bool = False,
    ) -> LocalServer:
        """A new server; `options` are given on its command line."""
        home = self.directory / f"server{len(self.servers) + 1}"
        home.mkdir(mode=0o755, parents=True)
        data = home / "data"
        shape = (superuser, data_checksums, wal_segment_megabytes)
        if own_identifier:
            self._init(data, *shape)
        else:
            make_directory(data, self.account)
            subprocess.run(["cp", "-a", f"{self._template(*shape)}/.", str(data)], check=True)
        server = self.on(home, data, home / "log", superuser=superuser, options=options)
        if start:
            server.start()
        return server

    def on(
        self,
        start_in: Path,
        data: Path,
        log: Path,
        *,
        argument: str | None = None,
        superuser: str = "focker",
        options: Mapping[str, str] | None = None,
    ) -> LocalServer:
        """A server of a data directory that is there, to be started: ``postgres -D argument``, by default that."""
        server = LocalServer(
            self.programs,
            start_in,
            argument or str(data),
            data,
            account=self.account,
            superuser=superuser,
            log=log,
            options=options,
        )
        self.servers.append(server)  # its log is shown when the test fails
        return server

    def stop(self) -> None:
        """Stop every server that is running; the first failure is raised when all were tried."""
        failures: list[Exception] = []
        for server in reversed(self.servers):
            try:
                server.stop("immediate")
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def _init(self, data: Path, superuser: str, checksums: bool, megabytes: int) -> None:
        init_cluster(
            self.programs,
            data,
            account=self.account,
            superuser=superuser,
            data_checksums=checksums,
            wal_segment_megabytes=megabytes,
            options=FAST,
        )

    def _template(self, superuser: str, checksums: bool, megabytes: int) -> Path:
        """A cluster to copy, made once for all the workers of a session."""
        name = f"{self.programs.version}-{superuser}-{checksums}-{megabytes}"
        template = self.templates / name
        with (self.templates / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not template.exists():
                self._init(template, superuser, checksums, megabytes)
        return template


def make_base_directory() -> Path:
    """A directory for a session's clusters that every account may enter, unlike pytest's own.

    It is in memory where there is plenty: a cluster has a thousand files, and making them takes most of a test's time.
    What an earlier session left behind when it was killed is cleared away.
    """
    memory = Path("/dev/shm")
    plenty = memory.is_dir() and min(shutil.disk_usage(memory).free, _available_bytes()) > 8 * 2**30
    root = memory if plenty else Path("/tmp")
    for left_behind in root.glob(f"{BASE_PREFIX}*"):
        is_over = not Path("/proc", _session_pid(left_behind)).exists()
        if is_over and left_behind.stat().st_uid == os.geteuid():
            remove_base_directory(left_behind)
    base = Path(tempfile.mkdtemp(prefix=f"{BASE_PREFIX}{os.getpid()}-", dir=root))
    base.chmod(0o755)
    (base / "templates").mkdir(mode=0o755)
    return base


def remove_base_directory(base: Path) -> None:
    """Stop what still runs below a session's directory, and remove it."""
    for pid_file in base.rglob("postmaster.pid"):
        with suppress(Exception):  # the directory has to go in any case
            stop_server(pid_file.parent, "immediate", timeout=20)
    shutil.rmtree(base, ignore_errors=True)


def other_sessions(base: Path) -> list[Path]:
    """The directories of sessions that are at work beside that of `base`."""
    return [
        place
        for root in ("/dev/shm", "/tmp")
        for place in Path(root).glob(f"{BASE_PREFIX}*")
        if place != base and Path("/proc", _session_pid(place)).exists()
    ]


def _session_pid(base: Path) -> str:
    return base.name.removeprefix(BASE_PREFIX).partition("-")[0]


def _available_bytes() -> int:
    memory = Path("/proc/meminfo").read_text(encoding="ascii")
    return int(memory.partition("MemAvailable:")[2].split()[0]) * 1024


def fill(server: LocalServer) -> None:
    """Fill a new server with a little of everything that a backup has to carry.

    Two databases, names with blanks, quotes and umlauts, a tablespace, large objects, an unlogged and a partitioned
    table, and files of more than one kind of content.
    """
    location = server.start_in / "tablespace"
    _own_directory(location, server.account)
    server.query(f"CREATE TABLESPACE \"Langsame 'Platte' ä\" LOCATION '{location}'")
    server.query('CREATE DATABASE "Büro ""Köln""\'s"')
    for database in ("postgres", 'Büro "Köln"\'s'):
        server.query(_CONTENT, database)
    server.query("CHECKPOINT")


def fingerprint(server: LocalServer) -> Fingerprint:
    """For every table that outlives a crash, by database and name: its number of rows, and a digest of them.

    Large objects count as a table of their database.
    """
    found: Fingerprint = {}
    databases = server.query(
        "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1"
    )
    for (database,) in databases.rows:
        for (table,) in server.query(_TABLES, database).rows:
            rows = server.query(
                f"SELECT count(*), coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') FROM {table} t",
                database,
            )
            found[database, table] = (rows.rows[0][0], rows.rows[0][1])
        objects = server.query(
            "SELECT count(*), coalesce(md5(string_agg(lo_get(oid), '' ORDER BY oid)), '')"
            " FROM pg_largeobject_metadata",
            database,
        )
        found[database, "large objects"] = (objects.rows[0][0], objects.rows[0][1])
    return found


def _own_directory(directory: Path, account: Account | None) -> None:
    directory.mkdir(mode=0o700)
    if account is not None:
        os.chown(directory, account.uid, account.gid)


_TABLES = """
SELECT format('%I.%I', nspname, relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE relkind IN ('r', 'm') AND relpersistence = 'p'
  AND nspname <> 'information_schema' AND nspname !~ '^pg_'
ORDER BY 1
"""

_CONTENT = """
CREATE SCHEMA "Öl & ""Farben"" 1";
CREATE TABLE "Öl & ""Farben"" 1"."it's a table" (id int PRIMARY KEY, "größe in cm" numeric, note text);
INSERT INTO "Öl & ""Farben"" 1"."it's a table"
    SELECT i, i / 7.0, repeat('farbe ' || i || ' ', 20) FROM generate_series(1, 5000) i;

CREATE TABLE slow (id int PRIMARY KEY, payload text) TABLESPACE "Langsame 'Platte' ä";
INSERT INTO slow SELECT i, md5(i::text) FROM generate_series(1, 3000) i;
CREATE INDEX slow_payload ON slow (payload) TABLESPACE "Langsame 'Platte' ä";

CREATE TABLE measured (at date NOT NULL, value float8) PARTITION BY RANGE (at);
CREATE TABLE measured_2025 PARTITION OF measured FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE measured_2026 PARTITION OF measured FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')
    TABLESPACE "Langsame 'Platte' ä";
INSERT INTO measured SELECT date '2025-01-01' + i % 700, i FROM generate_series(1, 4000) i;

CREATE UNLOGGED TABLE sessions AS SELECT i AS id FROM generate_series(1, 1000) i;
CREATE TABLE toasted AS SELECT i AS id, (SELECT string_agg(md5((i * 1000 + j)::text), '')
    FROM generate_series(1, 400) j) AS long FROM generate_series(1, 20) i;
CREATE TABLE empty (id int);
CREATE MATERIALIZED VIEW totals AS SELECT at, sum(value) FROM measured GROUP BY at;
SELECT lo_from_bytea(0, convert_to(repeat('large ' || i || ' ', 3000), 'UTF8')) FROM generate_series(1, 5) i;
"""
