"""Servers that are run on this machine: started, asked, stopped.

Knows data directories, processes and sockets. Does not know backups, nor where a data directory came from. A server
outlives the process that started it unless it is stopped: it runs in a session of its own. psycopg loads with the
first question: a restore that starts no server has none.
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from opskit.errors import ConflictError, ErrorKind, ServerError
from opskit.postgres.account import Account
from opskit.postgres.postmaster import (
    SOCKET_BYTES,
    free_port,
    make_socket_directory,
    pid_file_lines,
    remove_socket_directory,
    running_server,
    stop_server,
)
from opskit.postgres.programs import CompletedRun, Programs, program_environment

__all__ = ["LocalServer", "Rows", "free_port", "running_server", "stop_server"]

_POLL = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What a query returned; both are empty for a statement that returns no rows."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


class LocalServer:
    """A server of a data directory, run from this machine's programs.

    Nothing but its Unix socket leads to it, unless `options` set ``listen_addresses``. The socket is in a directory
    that only the account (and root) may enter: a given one, or one made at the start and removed at the stop.

    Parameters
    ----------
    start_in, data_argument
        ``postgres -D data_argument`` is run in the directory `start_in`, because relative paths of its configuration
        count from there.
    data_directory
        Where ``postmaster.pid`` is going to be.
    port
        Names the socket's file; a free one when `None`.
    log
        The server's output is appended to it.
    options
        Settings that win over the configuration files.
    """

    def __init__(
        self,
        programs: Programs,
        start_in: Path,
        data_argument: str,
        data_directory: Path,
        *,
        account: Account | None,
        superuser: str,
        port: int | None = None,
        socket_directory: Path | None = None,
        log: Path,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.programs = programs
        self.start_in, self.data_argument = start_in.absolute(), data_argument
        self.data_directory = data_directory.absolute()
        self.account, self.superuser = account, superuser
        self.port = port or free_port()
        self.log = log.absolute()
        # The collector would take the log elsewhere, and its end is what explains a failed start.
        self.options = {"listen_addresses": "", "logging_collector": "off", **(options or {})}
        self._given_socket_directory = socket_directory
        self._socket_directory = socket_directory
        self._process: _Process | None = None

    @property
    def socket_directory(self) -> Path:
        """Where its socket is; known while it runs.

        Raises
        ------
        ServerError
            It has not been started, and no directory was given.
        """
        if self._socket_directory is None:
            raise ServerError(
                f"the server of {str(self.data_directory)!r} is not running",
                ErrorKind.SERVER_GONE,
                "Start it first.",
            )
        return self._socket_directory

    @property
    def pid(self) -> int | None:
        """The process id of its postmaster; `None` when it does not run."""
        return running_server(self.data_directory)

    @property
    def is_running(self) -> bool:
        """Whether a server of this data directory runs, whoever started it."""
        return self.pid is not None

    def start(self, timeout: float = 60) -> None:
        """Start it and wait until it answers queries, which one that recovers to a target does while it recovers.

        Recovery may take long: `timeout` seconds are counted from the last line that the server logged, and PostgreSQL
        logs how far it has come every ten seconds (``log_startup_progress_interval``).

        Raises
        ------
        ConflictError
            A server of this data directory runs.
        ServerError
            It ended before it was ready, or stood still too long and was stopped; the end of its log is in the hint.
        """
        running = self.pid
        if running is not None:
            raise ConflictError(
                f"a server of {str(self.data_directory)!r} is running already, as process {running}",
                ErrorKind.SERVER_RUNNING,
                "Stop it first.",
            )
        self._forget()  # a server that was killed left its socket
        self._socket_directory = self._given_socket_directory or make_socket_directory(self.account)
        try:
            self._check_socket_path()
            log_start = self.log.stat().st_size if self.log.exists() else 0
            self._process = self._spawn()
            self._wait_until_ready(self._process, log_start, timeout)
        except BaseException:
            self._end(self._process)
            self._forget()
            raise

    def stop(self, mode: str = "fast", timeout: float = 60) -> None:
        """Stop it in a shutdown mode of PostgreSQL, at once when that takes longer than `timeout` seconds.

        Nothing happens when it does not run.
        """
        stop_server(self.data_directory, mode, timeout)
        self._end(self._process)
        self._forget()

    def conninfo(self, database: str = "postgres") -> str:
        """A libpq connection string of its superuser."""
        from psycopg.conninfo import make_conninfo

        return make_conninfo(
            host=str(self.socket_directory),
            port=self.port,
            user=self.superuser,
            dbname=database,
        )

    def psql_line(self, database: str = "postgres") -> str:
        """A shell command that connects."""
        conninfo = self.conninfo(database)
        for special in '\\"$`':
            conninfo = conninfo.replace(special, f"\\{special}")
        return f'psql "{conninfo}"'

    def query(self, sql: str, database: str = "postgres") -> Rows:
        """Run statements in `database`, each of several in one transaction, and return the rows of the last.

        Raises
        ------
        ServerError
            The server did not answer, or refused a statement.
        """
        import psycopg

        try:
            with psycopg.connect(
                self.conninfo(database),
                hostaddr="",  # PGHOSTADDR would win over the socket
                options="",
                client_encoding="utf8",
                autocommit=True,
            ) as connection:
                cursor = connection.execute(sql.encode())
                while cursor.nextset():
                    pass
                if cursor.description is None:
                    return Rows(columns=(), rows=[])
                return Rows(
                    columns=tuple(column.name for column in cursor.description),
                    rows=cursor.fetchall(),
                )
        except psycopg.Error as error:
            refused = error.sqlstate is not None
            said = (error.diag.message_primary if refused else None) or _first_line(str(error))
            raise ServerError(
                f"the server of {str(self.data_directory)!r} {'refused' if refused else 'failed'} a query: {said}",
                ErrorKind.SERVER_REFUSED if refused else ErrorKind.SERVER_GONE,
                error.diag.message_hint or f"Its log is {str(self.log)!r}.",
            ) from None

    def run(self, program: str, *arguments: str, timeout: float | None = None) -> CompletedRun:
        """Run one of PostgreSQL's programs as the account; those that connect do so to this server."""
        return self.programs.run(
            program,
            *arguments,
            account=self.account,
            directory=self.start_in,
            environment={
                "PGHOST": str(self.socket_directory),
                "PGPORT": str(self.port),
                "PGUSER": self.superuser,
                "PGDATABASE": "postgres",
            },
            timeout=timeout,
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _check_socket_path(self) -> None:
        path = str(self.socket_directory / f".s.PGSQL.{self.port}")
        if len(os.fsencode(path)) > SOCKET_BYTES or "," in path:
            raise ServerError(
                f"the server cannot have its socket at {path!r}: expected at most {SOCKET_BYTES} bytes and no comma",
                ErrorKind.SERVER_NOT_STARTED,
                "Choose a socket directory with a shorter name.",
            )

    def _spawn(self) -> "_Process":
        settings = [f"{name}={value}" for name, value in self.options.items()]
        arguments = [
            "-D",
            self.data_argument,
            "-p",
            str(self.port),
            "-k",
            str(self.socket_directory),
        ]
        for setting in settings:
            arguments += ["-c", setting]
        try:
            descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                return _Process(
                    [str(self.programs.path("postgres")), *arguments],
                    cwd=self.start_in,
                    env=program_environment(self.account),
                    user=self.account.uid if self.account else None,
                    group=self.account.gid if self.account else None,
                    extra_groups=() if self.account else None,
                    start_new_session=True,
                    stdin=subprocess.DEVNULL,
                    stdout=descriptor,
                    stderr=descriptor,
                )
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ServerError(
                f"the server of {str(self.data_directory)!r} cannot be started: {error.strerror}: {error.filename!r}",
                ErrorKind.SERVER_NOT_STARTED,
                "Give the account that runs servers the right to read the programs and to enter the directory.",
            ) from None

    def _wait_until_ready(self, process: "_Process", log_start: int, timeout: float) -> None:
        seen, moved_at = log_start, time.monotonic()
        while True:
            if process.poll() is not None:
                raise self._not_started(f"ended with exit code {process.returncode}", log_start)
            # What pg_ctl waits for: the status that the postmaster writes is 'ready' once it takes connections.
            lines = pid_file_lines(self.data_directory)
            if len(lines) >= 8 and lines[0] == str(process.pid) and lines[7].strip() == "ready":
                return
            size = self.log.stat().st_size
            if size != seen:
                seen, moved_at = size, time.monotonic()
            elif time.monotonic() - moved_at > timeout:
                raise self._not_started(
                    f"was not ready and logged nothing for {timeout:g} seconds", log_start
                )
            time.sleep(_POLL)

    def _not_started(self, what: str, log_start: int) -> ServerError:
        with self.log.open("rb") as file:
            file.seek(log_start)
            text = file.read().decode("utf-8", errors="replace")
        reasons = [line for line in text.splitlines() if "FATAL:" in line or "PANIC:" in line]
        reason = f": {reasons[0].split(':  ', 1)[-1].strip()}" if reasons else ""
        return ServerError(
            f"the server of {str(self.data_directory)!r} {what}{reason}",
            ErrorKind.SERVER_NOT_STARTED,
            f"Its log {str(self.log)!r} ends:\n{_last_lines(text, 12)}",
        )

    def _end(self, process: "_Process | None") -> None:
        """See to it that a process of ours is gone and reaped."""
        for sent in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            if process is None or process.poll() is not None:
                return
            process.send_signal(sent)
            with suppress(subprocess.TimeoutExpired):
                process.wait(15)

    def _forget(self) -> None:
        self._process = None
        if self._given_socket_directory is None:
            remove_socket_directory(self._socket_directory)
            self._socket_directory = None


class _Process(subprocess.Popen[bytes]):
    """A child that may outlive this process on purpose, so that it is no leak."""

    def __del__(self) -> None:
        self.poll()


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "no reason given"


def _last_lines(text: str, count: int) -> str:
    return "\n".join(text.strip().splitlines()[-count:]) or "nothing"
