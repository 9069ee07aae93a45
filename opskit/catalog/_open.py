"""A catalog's URL turned into an engine whose database is at the newest migration.

SQLite: one file, mode 0600, in WAL mode, so that readers never wait for the writer; writing transactions begin with
``BEGIN IMMEDIATE``, because one that begins by reading and then writes cannot wait its turn (SQLite manual,
"Write-Ahead Logging" and "Transaction"). PostgreSQL: an advisory lock stands around the migration.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    NullPool,
    create_engine,
    event,
    inspect,
    make_url,
    text,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError

from opskit.catalog._tables import HEAD, VERSION_TABLE
from opskit.errors import ErrorKind, InputError, StoreError

_BUSY_SECONDS = 30.0
_ADVISORY_LOCK = 0x6F70736B6974  # "opskit"


def open_engine(text_url: str) -> Engine:
    """An engine on an existing, migrated database.

    Raises
    ------
    InputError
        The URL is none, or not one of SQLite's or PostgreSQL's.
    StoreError
        The database cannot be reached, or a newer opskit migrated it.
    """
    url = _checked(text_url)
    engine = _sqlite(url) if url.get_backend_name() == "sqlite" else _postgresql(url)
    try:
        with failures(engine):
            _migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def shown(url: URL) -> str:
    """The URL for people: without a password, wherever it stands."""
    hidden = {key: "***" for key in url.query if "password" in key.lower()}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


@contextmanager
def failures(engine: Engine) -> Iterator[None]:
    """Turn what SQLAlchemy raises into `StoreError`, without the statement, its values or a password."""
    with failures_of(engine.url):
        yield


@contextmanager
def failures_of(url: URL | str) -> Iterator[None]:
    """As `failures`, for the catalog at `url`."""
    url = make_url(url)
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        cause = str(error.orig) if isinstance(error, DBAPIError) else str(error)
        raise StoreError(
            f"the catalog {shown(url)!r} failed: {_without_secrets(cause, url)}",
            ErrorKind.CATALOG_FAILED,
            _hint(url),
            permanent=not isinstance(error, (OperationalError, sqlite3.OperationalError)),
        ) from None


def _hint(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return "See that the file and its folder can be written and the disk has room; the backups do not depend on it."
    return "See that the server runs and lets this account in; passwords live in ~/.pgpass or the service file."


def _without_secrets(message: str, url: URL) -> str:
    secrets = [url.password, *(v for k, v in url.query.items() if "password" in k.lower())]
    for secret in secrets:
        if secret:
            message = message.replace(str(secret), "***")
    return " ".join(message.split()).rstrip(".")


def _checked(text_url: str) -> URL:
    expected = "expected 'sqlite:///file' or 'postgresql+psycopg://host/database'"
    try:
        url = make_url(text_url)
    except (ArgumentError, ValueError):
        raise InputError(  # the text is not shown: what cannot be parsed may hold a password
            f"the catalog's url cannot be read, {expected}", ErrorKind.WRONG_SETTING
        ) from None
    backend = url.get_backend_name()
    if url.drivername in ("postgresql", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    if url.drivername in ("sqlite", "sqlite+pysqlite"):
        # taken as it stands: whether make_url decodes '%41' in a file's name depends on SQLAlchemy's version
        file = text_url.partition(":///")[2]
        if file and not file.startswith((":memory:", "file:", "?")):
            return URL.create("sqlite", database=file)
        raise InputError(
            f"the catalog {shown(url)!r} is no file, {expected}", ErrorKind.WRONG_SETTING
        )
    raise InputError(f"the catalog's url is of {backend!r}, {expected}", ErrorKind.WRONG_SETTING)


def _sqlite(url: URL) -> Engine:
    file = Path(str(url.database))
    try:
        # created here, so that it never exists with more rights; SQLite gives its -wal and -shm the same
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError(
            f"the catalog {str(file)!r} cannot be opened: {(error.strerror or '').lower()}",
            ErrorKind.CATALOG_FAILED,
            "See that its folder exists and may be written, or set another catalog.url.",
        ) from None
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": _BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def connected(connection: Any, record: object) -> None:
        connection.isolation_level = None  # the transactions are ours, not the driver's
        connection.execute("PRAGMA synchronous = NORMAL")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        options = connection.get_execution_options()
        only_reads = options.get("only_reads", False)
        if options.get("durable", False):
            # NORMAL may lose the last transactions in a power cut (SQLite manual, "PRAGMA synchronous")
            connection.exec_driver_sql("PRAGMA synchronous = FULL")
        connection.exec_driver_sql("BEGIN" if only_reads else "BEGIN IMMEDIATE")

    return engine


def _postgresql(url: URL) -> Engine:
    arguments = {"connect_timeout": "10", "tcp_user_timeout": "30000", "application_name": "opskit"}
    arguments = {key: value for key, value in arguments.items() if key not in url.query}
    return create_engine(
        url, pool_size=2, max_overflow=8, pool_pre_ping=True, connect_args=arguments
    )


def _migrate(engine: Engine) -> None:
    with engine.execution_options(only_reads=True).connect() as connection:
        if _revision(connection, engine) == HEAD:
            return
    if engine.dialect.name == "sqlite":
        _patiently(lambda: _switch_to_wal(engine))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        if _revision(connection, engine) != HEAD:  # another process may have been quicker
            _upgrade(connection)


def _revision(connection: Connection, engine: Engine) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    revision = connection.execute(text(f"select version_num from {VERSION_TABLE}")).scalar()
    if revision is not None and str(revision) > HEAD:
        raise StoreError(
            f"the catalog {shown(engine.url)!r} is at revision {revision!r}, this opskit knows {HEAD!r}",
            ErrorKind.UNKNOWN_FORMAT,
            "A newer opskit migrated it; use that one, or set another catalog.url.",
        )
    return revision


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    configuration = Config()
    configuration.set_main_option("script_location", "opskit.catalog:migrations")
    configuration.set_main_option("path_separator", "os")
    configuration.attributes["connection"] = connection
    command.upgrade(configuration, "head")


def _switch_to_wal(engine: Engine) -> None:
    raw = engine.raw_connection()
    try:
        raw.cursor().execute("PRAGMA journal_mode = WAL")
    finally:
        raw.close()


def _patiently(action: Callable[[], None]) -> None:
    """Try again while another process holds the file: changing the journal's mode does not wait for its turn."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while time.monotonic() < deadline:
        with suppress(sqlite3.OperationalError):
            return action()
        time.sleep(0.05)
    return action()
