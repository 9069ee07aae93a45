"""The account that servers run as: PostgreSQL refuses to run as root.

Knows users and what they may reach; knows nothing of servers.
"""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from opskit.errors import InputError, ServerError


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user of this machine that root hands the running of servers to."""

    name: str
    uid: int
    gid: int

    @property
    def home(self) -> str:
        """Its home directory, which need not exist."""
        return pwd.getpwuid(self.uid).pw_dir

    def can_reach(self, directory: Path) -> bool:
        """Whether it may enter `directory`, which takes the right to pass each folder above.

        The account itself is asked: access lists and mounts decide beside the mode bits.
        """
        asked = subprocess.run(
            ["/bin/sh", "-c", 'cd -- "$0"', str(directory.absolute())],
            user=self.uid,
            group=self.gid,
            extra_groups=(),
            cwd="/",
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        return asked.returncode == 0


def server_account(run_as: str | None = None) -> Account | None:
    """Who runs servers: `None` for ourselves, because we are not root; otherwise `run_as`, 'postgres' or 'nobody'.

    Raises
    ------
    InputError
        We are root and `run_as` does not exist or is root again.
    ServerError
        We are root and there is nobody to hand servers to.
    """
    if os.geteuid() != 0:
        return None
    for name in (run_as,) if run_as else ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    if run_as:
        raise InputError(
            f"servers cannot run as {run_as!r}, expected a user of this machine other than root",
            hint="Correct run_as below [postgres], or leave it out to have 'postgres' or 'nobody' run them.",
        )
    raise ServerError(
        "root cannot run PostgreSQL, and there is neither a user 'postgres' nor 'nobody'",
        hint="Create one with 'useradd --system postgres'.",
    )


def make_directory(directory: Path, account: Account | None) -> None:
    """Make `directory` with what is missing above it, private to the account; one that is there is left as it is."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        return
    if account is not None:
        os.chown(directory, account.uid, account.gid)
