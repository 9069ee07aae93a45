"""A person who reads a page of the documentation and types what it shows."""

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from opskit.postgres.account import Account
from opskit.postgres.postmaster import free_port, running_server, stop_server
from opskit.postgres.server import LocalServer
from tests.support.command import output_of

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# (\S+)\n")


class Reader:
    """Types the blocks of pages below `directory`, which is the home and the first working directory.

    Parameters
    ----------
    programs
        The directory of PostgreSQL's programs; beside it only the system's and `opskit` are on the PATH.
    account
        Who runs ``postgres``, when we are root.
    replaced
        What stands on the page, and what is typed instead: the page's server is not ours.
    server
        Where the page's SQL is typed, and whose ``pg_hba.conf`` it tells to change.
    """

    def __init__(
        self,
        directory: Path,
        programs: Path,
        account: Account | None,
        replaced: Mapping[str, str] | None = None,
        server: LocalServer | None = None,
    ) -> None:
        self.directory, self.place = directory, directory
        self.account, self.replaced, self.server = account, replaced or {}, server
        self.port = str(free_port())
        self._running: list[subprocess.Popen[bytes]] = []
        commands = directory / "bin"
        commands.mkdir()
        script = commands / "opskit"
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m opskit "$@"\n')
        script.chmod(0o755)
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("PG", "OPSKIT", "XDG"))
        }
        self.environment = {
            **kept,
            "HOME": str(directory),
            "PATH": f"{commands}:{programs}:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
        }

    def read(self, page: Path) -> str:
        """Type every block of `page` in its order; what the commands wrote to their standard output."""
        output = ""
        for language, block in _BLOCK.findall(page.read_text(encoding="utf-8")):
            for shown, typed in self.replaced.items():
                block = block.replace(shown, typed)
            file = _FILE.match(block)
            if language == "console":
                self.place = self.directory
                output += "".join(self._type(line[2:]) for line in _commands(block))
            elif language == "python":
                output += self._run([sys.executable, "-c", block], cwd=self.directory)
            elif language == "sql" and self.server:
                self.server.query(block)
            elif file:
                self._write(file[1], block)
        return output

    def close(self) -> None:
        """Stop everything that was started on the way."""
        for process in reversed(self._running):
            process.terminate()
            process.wait(30)
        if (self.directory / "server" / "demo.json").exists():
            self._run(
                [str(self.directory / "bin" / "opskit"), "demo", "--stop"], cwd=self.directory
            )
        for pid_file in self.directory.rglob("postmaster.pid"):
            if running_server(pid_file.parent):
                stop_server(pid_file.parent)

    def _type(self, command: str) -> str:
        if command.startswith("make "):  # its targets have a test of their own
            return ""
        if command.startswith("cd "):
            self.place = Path(self._run(["bash", "-euc", f"{command} && pwd"]).strip())
            return ""
        if command.startswith("postgres "):
            self._start(command)
            return ""
        if command.startswith("psql "):
            return self.ask(command)
        if command.startswith("opskit wal stream"):
            self._background(command, None)
            return self._when_archived(command.replace("stream", "status"))
        if "--restore-point" in command:
            return self._when_archived(command)
        return self._run(["bash", "-euo", "pipefail", "-c", command])

    def _when_archived(self, command: str) -> str:
        """Type a command that needs WAL of just now, again until the archive has it.

        A segment is archived whole when the server has filled it, which ours, that nobody else uses, never does.
        """
        assert self.server is not None
        self.server.query("SELECT pg_switch_wal()")
        deadline = time.monotonic() + 60
        while True:
            try:
                return self._run(["bash", "-euo", "pipefail", "-c", command])
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _run(self, command: list[str], cwd: Path | None = None) -> str:
        return output_of(command, cwd or self.place, self.environment)

    def _start(self, command: str) -> None:
        """Start a server as a page says: in the current directory, by somebody who is not root."""
        if self.account:
            for path in (self.place, *self.place.rglob("*")):
                os.chown(path, self.account.uid, self.account.gid, follow_symlinks=False)
            for path in self.place.parents:
                if path == self.directory:
                    break
                path.chmod(0o755)
        self._background(command, self.account)
        self.ask("psql postgres -c 'SELECT 1' -U " + self._superuser())

    def _background(self, command: str, account: Account | None) -> None:
        """Leave a command running, as in another terminal."""
        with (self.directory / "server.log").open("ab") as log:
            self._running.append(
                subprocess.Popen(
                    ["bash", "-c", f"exec {command}"],
                    cwd=self.place,
                    env={**self.environment, "PGPORT": self.port},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    user=account.uid if account else None,
                    group=account.gid if account else None,
                    extra_groups=() if account else None,
                )
            )

    def _superuser(self) -> str:
        return self.server.superuser if self.server else "focker"

    def ask(self, command: str) -> str:
        """Type a psql line, again until the server answers."""
        deadline = time.monotonic() + 60
        while True:
            run = subprocess.run(
                ["bash", "-c", command],
                env={**self.environment, "PGPORT": self.port},
                input="SELECT datname FROM pg_database ORDER BY 1;",
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            if run.returncode == 0:
                return run.stdout
            log = (self.directory / "server.log").read_text(errors="replace")
            assert time.monotonic() < deadline, f"{command}\n{run.stderr}\n{log}"
            assert self._running[-1].poll() is None, log
            time.sleep(0.02)

    def _write(self, name: str, content: str) -> None:
        if name == "pg_hba.conf":
            assert self.server is not None
            rules = self.server.data_directory / name
            # Only what the page says, beside the socket: initdb's own rules for TCP would hide a line that is missing.
            rules.write_text(f"local all all trust\n{content}")
        else:
            path = self.directory / name.removeprefix("~/")
            path.write_text(content)


def _commands(block: str) -> list[str]:
    return [line for line in block.splitlines() if line.startswith("$ ")]
