"""What people do with an archive who have no opskit: unpack it, and start what is in it."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from opskit.postgres.account import server_account
from opskit.postgres.programs import CompletedRun, Programs, program_environment
from opskit.postgres.server import LocalServer, free_port


@contextmanager
def started_by_hand(
    programs: Programs, snapshot: Path, user: str = "focker"
) -> Iterator[LocalServer]:
    """``postgres -D conf`` inside `snapshot`, as its README says, and ``psql postgres -U focker``."""
    account = server_account()
    port = free_port()
    environment = program_environment(account) | {
        "PATH": f"{programs.directory}:/usr/bin:/bin",
        "PGPORT": str(port),
    }
    default = Path("/var/run/postgresql" if "Debian" in _version(programs) else "/tmp")
    # As an ordinary user Debian's own folder for sockets is closed; the README tells what to do then.
    closed = account is None and not os.access(default, os.W_OK)
    options, sockets = (["-k", "/tmp"], Path("/tmp")) if closed else ([], default)
    with (snapshot.parent / "by-hand.log").open("wb") as log:
        postgres = subprocess.Popen(
            ["postgres", "-D", "conf", *options],
            cwd=snapshot,
            env=environment,
            executable=str(programs.path("postgres")),
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            stdout=log,
            stderr=log,
        )
    try:
        host = ["-h", "/tmp"] if closed else []
        psql = ["psql", "postgres", "-U", user, *host, "-Atc", "SELECT 1"]
        for _ in range(1500):
            asked = subprocess.run(
                psql,
                env=environment,
                executable=str(programs.path("psql")),
                user=account.uid if account else None,
                capture_output=True,
                text=True,
                check=False,
            )
            if asked.stdout == "1\n":
                break
            assert postgres.poll() is None, (snapshot.parent / "by-hand.log").read_text()
            time.sleep(0.02)
        assert asked.stdout == "1\n", asked.stderr
        yield LocalServer(
            programs,
            snapshot,
            "conf",
            snapshot / "data",
            account=account,
            superuser=user,
            port=port,
            socket_directory=sockets,
            log=snapshot.parent / "by-hand.log",
        )
    finally:
        postgres.send_signal(signal.SIGINT)
        postgres.wait(60)


def unpacked(archive: Path, into: Path) -> Path:
    """What tar alone makes of an archive: the folder of the backup."""
    into.mkdir(exist_ok=True)
    before = set(into.glob("data/backup/*"))
    subprocess.run(["tar", "--zstd", "-xf", str(archive), "-C", str(into)], check=True)
    [folder] = set(into.glob("data/backup/*")) - before
    account = server_account()
    if account is not None:  # tar gave the files to 'postgres', who need not be the account
        subprocess.run(["chown", "-R", f"{account.uid}:{account.gid}", str(folder)], check=True)
    for parent in (into, into / "data", into / "data/backup"):
        parent.chmod(0o755)
    return folder


def run_program(programs: Programs, program: str, *arguments: str) -> CompletedRun:
    """Run a program of PostgreSQL as the account that runs servers."""
    return programs.run(program, *arguments, account=server_account())


def _version(programs: Programs) -> str:
    return run_program(programs, "postgres", "--version").output
