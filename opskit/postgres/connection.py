"""Connections to a cluster: made from conninfo, and their failures in words that say what to do.

Nothing here shows what conninfo holds beyond host, port and user; passwords come from libpq's own places
(``~/.pgpass``, the service file, the environment) and are refused in conninfo.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict

from opskit.errors import ErrorKind, InputError, ServerError

SUPPORTED_MAJORS = (15, 16, 17, 18)
_SECRETS = {  # what libpq takes for secrets, those of PostgreSQL 18 too
    "password",
    "sslpassword",
    "oauth_client_secret",
    "scram_client_key",
    "scram_server_key",
}
_DEFAULTS = {
    "application_name": "opskit",
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 6,
}

# By default a server asks after hours only whether a client is there that says nothing. What a backup holds on its
# cluster has to go when its host does, for another one to go on.
SERVER_KEEPALIVES = {
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
_SESSION = {
    "idle_session_timeout": "0",
    "statement_timeout": "0",
    "lock_timeout": "0",
    **SERVER_KEEPALIVES,
}

# What psycopg puts before libpq's own words.
_HEADINGS = (
    "Multiple connection attempts failed. All failures were:",
    "connection failed: ",
    "connection is bad: ",
)

_CONNECTING = (
    (
        ("password authentication failed", "no password supplied", "empty password returned"),
        ErrorKind.AUTHENTICATION_FAILED,
        "Check the role, and the password in ~/.pgpass (mode 0600), the service file or PGPASSWORD.",
    ),
    (
        ("no pg_hba.conf entry for replication",),
        ErrorKind.NO_HBA_ENTRY,
        "Add a line like 'host replication ROLE ADDRESS scram-sha-256' to the server's pg_hba.conf"
        " and reload it: 'all' does not cover replication.",
    ),
    (
        ("no pg_hba.conf entry", "pg_hba.conf rejects"),
        ErrorKind.NO_HBA_ENTRY,
        "Allow this role from this address in the server's pg_hba.conf, and reload it.",
    ),
    (
        (
            "permission denied to start WAL sender",
            "must be superuser or replication role to start walsender",
        ),
        ErrorKind.REPLICATION_NOT_ALLOWED,
        "As a superuser: ALTER ROLE … REPLICATION.",
    ),
    (
        ("number of requested standby connections exceeds",),
        ErrorKind.NO_WALSENDER,
        "A backup needs two free walsenders: raise max_wal_senders, or stop what uses them (pg_stat_replication).",
    ),
    (
        ("too many clients", "too many connections", "remaining connection slots"),
        ErrorKind.SERVER_REFUSED,
        "Raise max_connections or the role's limit, or close connections that nobody needs.",
    ),
    (
        ("is starting up", "is shutting down", "not yet accepting connections"),
        ErrorKind.SERVER_UNREACHABLE,
        "Try again when it has finished.",
    ),
    (
        ("definition of service", "service file"),
        ErrorKind.WRONG_SETTING,
        "Check the service's name and the service file (~/.pg_service.conf or PGSERVICEFILE).",
    ),
    (
        (
            "Connection refused",
            "No such file or directory",
            "timeout expired",
            "could not translate host name",
            "No route to host",
            "Network is unreachable",
            "Connection timed out",
            "failed to resolve host",
        ),
        ErrorKind.SERVER_UNREACHABLE,
        "Check that the server runs and listens there, and host and port in conninfo.",
    ),
)


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection for SQL, in autocommit, and the parameters that lead to the very same server again."""

    sql: psycopg.Connection[tuple[Any, ...]]
    parameters: Mapping[str, Any]

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """All rows of a query.

        Raises
        ------
        ServerError
            The server refused it or is gone.
        """
        with server_errors():
            return self.sql.execute(query, values).fetchall()

    def value(self, query: str, *values: object) -> Any:
        """The first column of the first row, `None` when there is no row; errors as `rows`."""
        rows = self.rows(query, *values)
        return rows[0][0] if rows else None

    def close(self) -> None:
        """End the connection, and with it every lock that it holds."""
        self.sql.close()


class _Text(Loader):
    """Texts whatever the database's encoding: names of other databases come in theirs, and SQL_ASCII has none."""

    def load(self, data: "bytes | bytearray | memoryview") -> str:
        return bytes(data).decode(errors="replace")


def connect(conninfo: str) -> Connection:
    """Connect for SQL.

    The result's `parameters` name the host and port that answered, so that the replication connections of one backup
    reach the same server when conninfo lists several.

    Raises
    ------
    InputError
        The conninfo cannot be parsed, or holds a password.
    ServerError
        There is no server, it refused, or its version is not supported.
    """
    given = _parsed(conninfo)
    defaults = {} if "service" in given else _DEFAULTS
    parameters = {**defaults, **given}
    if not {"dbname", "service"} & given.keys():
        parameters["dbname"] = "postgres"
    with connecting():
        sql = psycopg.connect(autocommit=True, **{**parameters, "client_encoding": "utf8"})
    for type_name in ("text", "name", "varchar"):
        sql.adapters.register_loader(type_name, _Text)
    try:
        _check_version(sql.info.server_version)
        with server_errors():
            for setting, value in _SESSION.items():
                sql.execute("SELECT set_config(%s, %s, false)", (setting, value))
    except BaseException:
        sql.close()
        raise
    pinned = {"host": sql.info.host, "port": sql.info.port, "dbname": sql.info.dbname}
    if sql.info.hostaddr and not sql.info.host.startswith("/"):
        pinned["hostaddr"] = sql.info.hostaddr
    return Connection(sql, {**parameters, **pinned})


@contextmanager
def connecting() -> Iterator[None]:
    """Turn a failed attempt to connect into `ServerError`, with what to do about it."""
    try:
        yield
    except psycopg.OperationalError as error:
        text = one_clause(str(error))
        for signs, kind, hint in _CONNECTING:
            if any(sign in str(error) for sign in signs):
                raise ServerError(text, kind, hint) from None
        raise ServerError(text, ErrorKind.SERVER_REFUSED, "The server's log tells more.") from None
    except psycopg.Error as error:
        raise ServerError(one_clause(str(error)), ErrorKind.SERVER_REFUSED) from None


@contextmanager
def server_errors() -> Iterator[None]:
    """Turn a failed command on an open connection into `ServerError`."""
    try:
        yield
    except psycopg.OperationalError as error:
        if error.sqlstate is None or error.sqlstate.startswith(("08", "57P")):
            raise ServerError(
                f"the server went away: {one_clause(str(error))}",
                ErrorKind.SERVER_GONE,
                "Look at the server's log; start again when it is back.",
            ) from None
        raise ServerError(one_clause(str(error)), ErrorKind.SERVER_REFUSED) from None
    except psycopg.Error as error:
        raise ServerError(one_clause(str(error)), ErrorKind.SERVER_REFUSED) from None


def _parsed(conninfo: str) -> dict[str, Any]:
    try:
        given = conninfo_to_dict(conninfo)
    except psycopg.Error:  # its message may quote a part of a password
        raise InputError(
            "the conninfo cannot be parsed",
            ErrorKind.WRONG_SETTING,
            'Write it like "service=main", "host=db.example port=5432 user=backup" or as a postgresql:// URI.',
        ) from None
    if _SECRETS & given.keys():
        raise InputError(
            "the conninfo holds a password",
            ErrorKind.SECRET_IN_SETTINGS,
            "Take it out; passwords live in ~/.pgpass, in the service file or in the environment.",
        )
    return dict(given)


def _check_version(server_version: int) -> None:
    major = server_version // 10_000
    if major not in SUPPORTED_MAJORS:
        raise ServerError(
            f"the server is PostgreSQL {major}, supported are"
            f" {SUPPORTED_MAJORS[0]} to {SUPPORTED_MAJORS[-1]}",
            ErrorKind.UNSUPPORTED_VERSION,
            "Use an opskit that supports it."
            if major > SUPPORTED_MAJORS[-1]
            else "Upgrade the server.",
        )


def one_clause(text: str) -> str:
    """libpq's text as one clause: several attempts and details are lines and sentences of their own."""
    for heading in _HEADINGS:
        text = text.replace(heading, "")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join(lines).rstrip(".") or "no reason given"
