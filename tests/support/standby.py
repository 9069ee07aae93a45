"""Streaming standbys of test servers."""

import subprocess
from collections.abc import Mapping

from opskit.postgres.server import LocalServer
from tests.servers import ServerFactory
from tests.support.backups import wait_until
from tests.support.streams import KEPT, flushed


def standby_of(
    server: ServerFactory, primary: LocalServer, options: Mapping[str, str] | None = None
) -> LocalServer:
    """A running standby that streams from `primary`."""
    standby = server({**KEPT, **(options or {})}, start=False)
    subprocess.run(["find", str(standby.data_directory), "-mindepth", "1", "-delete"], check=True)
    done = primary.run(
        "pg_basebackup", "-R", "-c", "fast", "-X", "stream", "-D", str(standby.data_directory)
    )
    assert done.exit_code == 0, done.output
    standby.start()
    return standby


def replayed(standby: LocalServer, primary: LocalServer) -> None:
    """Wait until queries of the standby see all that the primary has committed."""
    wanted = flushed(primary)
    wait_until(
        lambda: (
            standby.query(f"SELECT pg_last_wal_replay_lsn() - '0/0'::pg_lsn >= {wanted}").rows
            == [(True,)]
        ),
        f"the standby does not come to {wanted:X}",
    )


def promote(standby: LocalServer) -> None:
    """Make the standby a primary, and wait until it is one."""
    standby.query("SELECT pg_promote()")
    wait_until(lambda: standby.query("SELECT pg_is_in_recovery()").rows == [(False,)])
