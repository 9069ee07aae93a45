"""A server that is written to while something else happens to it."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from opskit.postgres.programs import program_environment
from opskit.postgres.server import LocalServer

_TRANSACTIONS_A_SECOND = (
    1000  # with as many as there can be, the two cores of a small machine do nothing else
)


@contextmanager
def load(server: LocalServer, scale: int = 1) -> Iterator[None]:
    """pgbench writes as long as this lasts, into a tenth of a million accounts for each step of the scale."""
    assert server.run("pgbench", "-i", "-q", "-s", str(scale)).exit_code == 0
    rate = ["-c", "2", "-T", "600", "-R", str(_TRANSACTIONS_A_SECOND)]
    with subprocess.Popen(
        [str(server.programs.path("pgbench")), "-n", *rate, server.conninfo()],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=program_environment(None),
    ) as bench:
        try:
            yield
        finally:
            bench.terminate()
