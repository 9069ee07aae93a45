"""A restored copy: its files, and the server that is started from them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from opskit.config import PostgresSettings
from opskit.errors import ConflictError, ErrorKind, InputError, NotFoundError
from opskit.model.shown import Shown
from opskit.operations.foreign_spaces import check_tablespaces
from opskit.operations.monitor import Monitor, SilentMonitor
from opskit.operations.recover import (
    SIGNAL,
    await_target,
    check_took_over,
    explained,
    log_size,
    read_recovery,
)
from opskit.operations.restore import Layout
from opskit.postgres.account import Account, server_account
from opskit.postgres.postmaster import pid_file_lines
from opskit.postgres.programs import CompletedRun, Programs, find_programs
from opskit.postgres.server import LocalServer, running_server, stop_server

_SUBSCRIBERS = "max_logical_replication_workers"
_SETTING = re.compile(r"^opskit\.(\w+) = '((?:[^']|'')*)'$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredCopy(Shown):
    """The files that a restore or an unpacked archive left in a directory.

    `directory` holds ``snapshot/`` and ``wal/`` (layout ``archive``) or is the data directory itself. `cluster`,
    `backup` and `superuser` tell where it comes from, empty where the files do not say.
    """

    directory: Path
    layout: Layout
    data_directory: Path
    major: int
    cluster: str
    backup: str
    superuser: str
    postgres: PostgresSettings

    def __repr__(self) -> str:
        of = f"of {self.cluster!r} {self.backup}" if self.backup else f"of PostgreSQL {self.major}"
        return f"<opskit copy {of} in {str(self.directory)!r}>"

    @classmethod
    def open(cls, directory: Path, postgres: PostgresSettings) -> "RestoredCopy":
        """The copy in `directory`: a restore's target, an unpacked ``data/backup/<name>``, or its ``snapshot``.

        Raises
        ------
        NotFoundError
            There is no copy in it.
        """
        directory = directory.absolute()
        if (directory / "conf/postgresql.conf").is_file() and (
            directory / "data/PG_VERSION"
        ).is_file():
            directory = directory.parent
        snapshot = directory / "snapshot"
        if (snapshot / "data/PG_VERSION").is_file():
            layout, data = Layout.ARCHIVE, snapshot / "data"
            text = (snapshot / "conf/postgresql.conf").read_text(encoding="utf-8")
        elif (directory / "PG_VERSION").is_file():
            layout, data, text = Layout.DATA_DIRECTORY, directory, ""
        else:
            raise NotFoundError(
                f"{str(directory)!r} holds no restored copy",
                hint="Name the directory that was restored into, or an unpacked data/backup/<name>.",
            )
        told = {name: value.replace("''", "'") for name, value in _SETTING.findall(text)}
        return cls(
            directory=directory,
            layout=layout,
            data_directory=data,
            major=int((data / "PG_VERSION").read_text().split(".")[0]),
            cluster=told.get("cluster", ""),
            backup=told.get("backup", ""),
            superuser=told.get("superuser", ""),
            postgres=postgres,
        )

    @property
    def log(self) -> Path:
        """Where the server's output goes."""
        return self.directory / "postgresql.log"

    @property
    def is_running(self) -> bool:
        """Whether a server of this copy runs, whoever started it."""
        return running_server(self.data_directory) is not None

    def programs(self) -> Programs:
        """The PostgreSQL programs that fit the copy, usable by the account that runs it.

        Raises
        ------
        NotFoundError
            There are none of its major version on this machine.
        """
        return find_programs(self.major, self.postgres.programs).usable_by(self._account())

    def verify(self) -> CompletedRun:
        """Have ``pg_verifybackup`` compare the files with the backup manifest; exit code 0 when they agree.

        Raises
        ------
        ConflictError
            The copy has been started: a server changes its files, so that they cannot agree any more.
        """
        if not (self.data_directory / "backup_label").is_file():
            raise ConflictError(
                f"the copy in {str(self.directory)!r} has been started and differs from its manifest by now",
                ErrorKind.SERVER_RUNNING,
                "Restore it again to verify it.",
            )
        return self.programs().run(
            "pg_verifybackup", str(self.data_directory), account=self._account()
        )

    def server(self, port: int | None = None) -> LocalServer:
        """The copy's server, not started yet.

        Raises
        ------
        InputError
            The layout is a plain data directory, which is production's to start.
        NotFoundError
            As `programs`.
        """
        if self.layout is not Layout.ARCHIVE:
            raise InputError(
                "a plain data directory is started by its own service, expected the layout 'archive'",
                hint=f"Start PostgreSQL {self.major} on {self.data_directory} as your system starts its servers.",
            )
        conf = self.directory / "snapshot/conf/postgresql.conf"
        told = _SUBSCRIBERS in conf.read_text(encoding="utf-8")
        return LocalServer(
            self.programs(),
            self.directory / "snapshot",
            "conf",
            self.data_directory,
            account=self._account(),
            superuser=self.superuser,
            port=port,
            log=self.log,
            # Earlier archives say nothing of it, and their copies would subscribe.
            options={} if told else {_SUBSCRIBERS: "0"},
        )

    def start(self, port: int | None = None, monitor: Monitor | None = None) -> LocalServer:
        """Start the copy's server and leave it running; errors as `server` and `LocalServer.start`.

        A copy with a target is recovered first, and what it reached is held against the plan.

        Raises
        ------
        ConflictError
            It runs, or its recovery would make a tablespace in a directory that is in use on this machine.
        RecoveryError
            Recovery ended short of the target, now or at an earlier start; the server is stopped.
        """
        server = self.server(port)
        self._check_reachable()
        recovery = read_recovery(self.directory)
        check_tablespaces(
            server.programs,
            self._account(),
            self.data_directory,
            self.directory / "wal" if self.is_recovering else None,
            recovery.stops_at if recovery is not None and self.is_recovering else None,
        )
        if recovery is None or not self.is_recovering:
            check_took_over(self.data_directory, recovery, self.log)
            server.start()
            return server
        log_start = log_size(server)
        with explained(server, recovery, log_start):
            server.start()
        try:
            await_target(server, recovery, log_start, monitor or SilentMonitor())
        except BaseException:
            server.stop()
            raise
        return server

    def attached(self) -> LocalServer | None:
        """The copy's server if it runs, whoever started it."""
        lines = pid_file_lines(self.data_directory) if self.is_running else []
        if len(lines) < 5 or not lines[4]:
            return None
        return LocalServer(
            self.programs(),
            self.directory / "snapshot",
            "conf",
            self.data_directory,
            account=self._account(),
            superuser=self.superuser,
            port=int(lines[3]),
            socket_directory=Path(lines[4]),
            log=self.log,
        )

    @property
    def is_recovering(self) -> bool:
        """Whether the copy has a target that it has not become a server of its own at."""
        return (self.data_directory / SIGNAL).exists()

    @property
    def target(self) -> str:
        """What the copy was to be recovered to, in words; empty for a copy as it was when its backup ended."""
        recovery = read_recovery(self.directory)
        return recovery.target if recovery is not None else ""

    def stop(self) -> bool:
        """Stop the copy's server, whoever started it; whether one ran.

        Raises
        ------
        InputError
            The layout is a plain data directory, which is production's to stop.
        """
        if self.layout is not Layout.ARCHIVE:
            raise InputError(
                "a plain data directory is stopped by its own service, expected a copy of the layout 'archive'",
                hint=f"Stop PostgreSQL {self.major} on {self.data_directory} as your system stops its servers.",
            )
        return stop_server(self.data_directory)

    @contextmanager
    def running(self, port: int | None = None) -> Iterator[LocalServer]:
        """The copy's server while it runs; stopped at the end."""
        server = self.start(port)
        try:
            yield server
        finally:
            server.stop()

    def _account(self) -> Account | None:
        return server_account(self.postgres.run_as)

    def _check_reachable(self) -> None:
        account = self._account()
        if account is not None and not account.can_reach(self.data_directory):
            raise InputError(
                f"the account {account.name!r}, which runs servers, cannot reach {str(self.directory)!r}",
                hint="Restore into a directory whose parents everybody may pass, such as /var/tmp or /srv.",
            )
