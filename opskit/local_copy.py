"""The Python API of a restored copy: its server, queries as DataFrames, and moving its target on."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from opskit.config import Settings
from opskit.errors import ErrorKind, InputError, ServerError
from opskit.model.shown import Shown, card_html
from opskit.model.target import TargetArguments, parse_target
from opskit.operations.advance import advance, promote
from opskit.operations.copy import RestoredCopy
from opskit.operations.monitor import Monitor, SilentMonitor
from opskit.operations.recovery import recovery_planner
from opskit.postgres.account import server_account
from opskit.postgres.asking import FirstRows, cancel_queries, first_rows
from opskit.postgres.programs import CompletedRun
from opskit.postgres.server import LocalServer
from opskit.repository import Repository
from opskit.store import open_store

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class LocalCopy(Shown):
    """A restored copy on this machine, and its server. `files` tells where it is and what it is of."""

    files: RestoredCopy
    settings: Settings

    def __repr__(self) -> str:
        return repr(self.files)

    def _repr_html_(self) -> str | None:
        return card_html(self.files)

    @property
    def directory(self) -> Path:
        """Where it was restored into."""
        return self.files.directory

    def verify(self) -> CompletedRun:
        """See `RestoredCopy.verify`."""
        return self.files.verify()

    def start(self, port: int | None = None, monitor: Monitor | None = None) -> "CopyServer":
        """Start its server, recover it to its target if it has one, and leave it running; see `RestoredCopy.start`."""
        return CopyServer(self.files.start(port, monitor))

    def attached(self) -> "CopyServer":
        """Its server that runs, whoever started it.

        Raises
        ------
        ServerError
            It does not run.
        """
        server = self.files.attached()
        if server is None:
            raise ServerError(
                f"the copy in {str(self.directory)!r} is not running",
                ErrorKind.SERVER_GONE,
                "Start it first.",
            )
        return CopyServer(server)

    def advance(
        self,
        *,
        pause: bool = True,
        monitor: Monitor | None = None,
        **target: Unpack[TargetArguments],
    ) -> "CopyServer":
        """Move a copy that was restored with `pause` on to a later target; see `opskit.operations.advance.advance`.

        Parameters
        ----------
        pause
            Whether it is held there again, or becomes a server of its own.
        target
            As for `opskit.Cluster.restore`.
        """
        wanted = parse_target(**target)
        if wanted is None:
            raise InputError("no target is given", hint="Name one, such as at='2026-11-22 14:10Z'.")
        repository = Repository(open_store(self.settings.repository_url))
        planner = recovery_planner(repository, self.files.cluster, self.settings.postgres)
        account = server_account(self.settings.postgres.run_as)
        server = advance(
            self.files,
            planner.plan(wanted, self.files.backup),
            repository,
            monitor or SilentMonitor(),
            paused=pause,
            owner=(account.uid, account.gid) if account else None,
        )
        return CopyServer(server)

    def promote(self) -> "CopyServer":
        """End the recovery of a held copy where it is; see `opskit.operations.advance.promote`."""
        return CopyServer(promote(self.files))

    def stop(self) -> bool:
        """Stop its server; whether one ran."""
        return self.files.stop()

    @contextmanager
    def started(self, port: int | None = None) -> "Iterator[CopyServer]":
        """Its server for the length of a ``with`` block."""
        with self.files.running(port) as server:
            yield CopyServer(server)


@dataclass(frozen=True, slots=True)
class CopyServer:
    """The running server of a restored copy. Only its owner on this machine can reach it."""

    server: LocalServer

    def query(self, sql: str, database: str = "postgres") -> "pd.DataFrame":
        """Run `sql` and return its rows, with PostgreSQL's column names; errors as `LocalServer.query`."""
        import pandas as pd

        rows = self.server.query(sql, database)
        return pd.DataFrame(rows.rows, columns=list(rows.columns))

    def first_rows(self, sql: str, database: str = "postgres", limit: int = 200) -> FirstRows:
        """Run one statement and return its first rows; errors as `opskit.postgres.asking.first_rows`."""
        return first_rows(self.server.conninfo(database), sql, limit)

    def cancel_queries(self) -> None:
        """Cancel what `first_rows` asks at the moment."""
        cancel_queries(self.server.conninfo())

    def run(self, program: str, *arguments: str) -> CompletedRun:
        """Run one of PostgreSQL's programs against it, ``pg_amcheck`` for example; see `LocalServer.run`."""
        return self.server.run(program, *arguments)

    def psql_line(self, database: str = "postgres") -> str:
        """A shell command that connects."""
        return self.server.psql_line(database)

    def stop(self) -> None:
        """Stop it."""
        self.server.stop()
