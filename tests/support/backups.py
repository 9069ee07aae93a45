"""Backups of test servers, and what has to hold after one, however it ended."""

import time
from collections.abc import Callable
from pathlib import Path

from opskit.config import ClusterSettings, PostgresSettings
from opskit.model.backup import BaseBackup, Trigger
from opskit.operations.backup import create_backup
from opskit.operations.copy import RestoredCopy
from opskit.operations.monitor import Monitor, SilentMonitor
from opskit.operations.restore import execute_restore, plan_restore
from opskit.postgres.server import LocalServer
from opskit.repository import Repository

MARKED = "CREATE TABLE marked AS SELECT i, md5(i::text) AS value FROM generate_series(1, 1000) i"
ASKED = "SELECT count(*), md5(string_agg(value, '' ORDER BY i)) FROM marked"


def take(
    server: LocalServer, repository: Repository, *, note: str = "", monitor: Monitor | None = None
) -> BaseBackup:
    """Take a backup of the cluster ``main``."""
    return create_backup(
        ClusterSettings(name="main", conninfo=server.conninfo()),
        repository,
        trigger=Trigger.ON_DEMAND,
        note=note,
        monitor=monitor or SilentMonitor(),
    )


def mark(server: LocalServer) -> None:
    """Give the server something that a restored copy can be asked for."""
    server.query(MARKED)


def assert_restores(
    server: LocalServer, repository: Repository, backup: BaseBackup, directory: Path
) -> None:
    """The backup restores into a copy that `pg_verifybackup` accepts, and that answers as the marked server does."""
    account = server.account
    owner = (account.uid, account.gid) if account else None
    execute_restore(plan_restore(backup, directory), repository, SilentMonitor(), owner=owner)
    settings = PostgresSettings(programs=(server.programs.directory,))
    copy = RestoredCopy.open(directory, settings)
    verified = copy.verify()
    assert verified.exit_code == 0, verified.output
    with copy.running() as running:
        assert running.query(ASKED) == server.query(ASKED)


def assert_free(server: LocalServer, seconds: float = 15) -> None:
    """Neither slot nor lock nor a running backup is left on the server, at the latest in a moment."""
    wait_until(lambda: not leftovers(server), lambda: f"left: {leftovers(server)}", seconds)


def leftovers(server: LocalServer) -> list[str]:
    """What a backup holds on a server."""
    return [
        row[0]
        for row in server.query(
            "SELECT 'slot ' || slot_name FROM pg_replication_slots"
            " UNION ALL SELECT 'lock of ' || pid FROM pg_locks WHERE locktype = 'advisory'"
            " UNION ALL SELECT 'backup ' || phase FROM pg_stat_progress_basebackup"
            " UNION ALL SELECT 'walsender ' || pid FROM pg_stat_replication"
        ).rows
    ]


def wait_until(
    holds: Callable[[], bool], what: str | Callable[[], str] = "", seconds: float = 30
) -> None:
    """Wait until it holds; a failure when it does not in time."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(what() if callable(what) else what or "it did not come to hold")
        time.sleep(0.02)
