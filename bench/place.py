"""The bench's directory, and the opskit that is measured in it: the command, as people run it."""

import json
import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bench.measure import Cost, run, shell
from opskit.postgres.account import Account
from opskit.postgres.server import LocalServer

PROJECT = Path(__file__).parents[1]
AWAY = "away"


@dataclass(frozen=True, slots=True)
class Place:
    """A directory that every account may enter, for servers, repositories and what is made of them.

    What the server of `server_pid` does while a command runs is part of the command's cost.
    """

    directory: Path
    account: Account | None
    server_pid: int | None = None

    def watching(self, server: LocalServer) -> "Place":
        """The same, with a running server that is watched."""
        return replace(self, server_pid=server.pid)

    def configure(self, clusters: Mapping[str, LocalServer], more: str = "") -> None:
        """Write the ``opskit.toml`` for these clusters, each with `more` lines of its own."""
        lines = [
            f"[repository]\nurl = {json.dumps((self.directory / 'repository').as_uri())}",
            '[catalog]\nurl = "sqlite:///opskit.db"',
        ]
        for name, server in clusters.items():
            lines.append(f"[clusters.{name}]\nconninfo = {json.dumps(server.conninfo())}")
            lines += [more] if more else []
        self.configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def configure_without_server(self, cluster: str) -> None:
        """Write the ``opskit.toml`` for a cluster whose server nobody asks."""
        self.configuration.write_text(
            f"[repository]\nurl = {json.dumps((self.directory / 'repository').as_uri())}\n"
            f'[catalog]\nurl = "sqlite:///opskit.db"\n[clusters.{cluster}]\nconninfo = "host=none"\n',
            encoding="utf-8",
        )

    def opskit(self, *arguments: str) -> tuple[Cost, str]:
        """Run the command; what it cost and said."""
        command = [sys.executable, "-m", "opskit", "--config", str(self.configuration), *arguments]
        return run(command, PROJECT, server_pid=self.server_pid)

    def shell(self, script: str, account: Account | None = None) -> Cost:
        """Run a line of shell in the directory."""
        return shell(script, self.directory, account, self.server_pid)

    def backups(self, cluster: str) -> Path:
        """Where a cluster's backups are stored."""
        return self.directory / "repository" / cluster / "backups"

    def volumes(self, cluster: str) -> str:
        """The volumes of a cluster's only backup, for a shell."""
        [backup] = self.backups(cluster).iterdir()
        return f"{shlex.quote(str(backup))}/snapshot-*.tar.zst"

    def remove(self, name: str) -> None:
        """Take away a file or a directory, if it is there."""
        path = self.directory / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def put_aside(self, name: str) -> None:
        """Empty the files of a directory and move it away, if it is there; it is removed with the whole place.

        ext4 steps over each inode that was freed in the last minutes, so whoever makes thousands of files after
        thousands were removed would pay for that.
        """
        path = self.directory / name
        if not path.is_dir():
            return
        for file in path.rglob("*"):
            if file.is_file() and not file.is_symlink():
                os.truncate(file, 0)
        away = self.directory / AWAY
        away.mkdir(exist_ok=True)
        path.rename(away / f"{name}-{len(list(away.iterdir()))}")

    def stored_bytes(self, name: str) -> int:
        """How long the files below a directory are together; 0 when there is none."""
        return sum(
            file.stat().st_size
            for file in (self.directory / name).rglob("*")
            if file.is_file() and not file.is_symlink()
        )

    def remove_backups(self, cluster: str) -> None:
        """Leave a cluster without backups."""
        shutil.rmtree(self.backups(cluster), ignore_errors=True)

    def make(self, name: str) -> Path:
        """Make an empty directory that belongs to the account."""
        path = self.directory / name
        path.mkdir(mode=0o700)
        if self.account:
            os.chown(path, self.account.uid, self.account.gid)
        return path

    def give(self, path: Path) -> None:
        """Give a directory and all that is in it to the account."""
        if self.account:
            for entry in (path, *path.rglob("*")):
                os.chown(entry, self.account.uid, self.account.gid, follow_symlinks=False)

    @property
    def configuration(self) -> Path:
        """The ``opskit.toml``."""
        return self.directory / "opskit.toml"
