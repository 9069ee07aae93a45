"""pgBackRest, set up as its manual advises for speed, or as it is when nothing is said."""

import os
import shlex

from bench.keepers import Kind
from bench.measure import Cost
from bench.place import Place
from opskit.postgres.server import LocalServer

_PROCESSES = min(os.cpu_count() or 1, 8)
# Its zst compresses at level 3 unless told otherwise. Block increments are told of by releases from 2.46 on.
_TUNED = f"repo1-bundle=y\nprocess-max={_PROCESSES}\ncompress-type=zst\n"
_SETTINGS = {
    Kind.TUNED: _TUNED,
    Kind.SAME_LEVEL: f"{_TUNED}compress-level=1\n",
    Kind.DEFAULTS: "",
}
SAID = {
    Kind.TUNED: f"tuned: `repo-bundle=y`, `repo-block=y`, `process-max={_PROCESSES}`, `compress-type=zst` (level 3)",
    Kind.SAME_LEVEL: "zstd 1: tuned, with `compress-level=1`, the level of opskit",
    Kind.DEFAULTS: "at its defaults: gzip at level 6, one process",
}


class PgBackRestKeeper:
    """One set-up of it, with a repository of its own.

    It does not wait for WAL, nor keep any, which flatters it a little. It never waits for a checkpoint.
    """

    def __init__(
        self, kind: Kind, version: tuple[int, int], label: str, place: Place, server: LocalServer
    ) -> None:
        self.kind, self.label = kind, label
        self._place, self._name = place, f"pgbackrest-{kind.name.lower()}"
        block = "repo1-block=y\n" if kind is not Kind.DEFAULTS and version >= (2, 46) else ""
        home = place.make(self._name)
        self._file = home / "pgbackrest.conf"
        self._file.write_text(
            f"""[global]
repo1-path={home}/repository
repo1-retention-full=9999999
lock-path={home}/lock
log-path={home}/log
spool-path={home}/spool
log-level-console=error
start-fast=y
archive-check=n
{_SETTINGS[kind]}{block}[main]
pg1-path={server.data_directory}
pg1-socket-path={server.socket_directory}
pg1-port={server.port}
pg1-user={server.superuser}
""",
            encoding="utf-8",
        )
        self._file.chmod(0o644)
        self.run("stanza-create")

    def full(self) -> Cost:
        """Take one."""
        return self.run("--type=full backup")

    def increment(self) -> Cost:
        """Take one, on the newest backup."""
        return self.run("--type=incr backup")

    def drop_newest(self) -> None:
        """As if it had not been taken."""
        folder = self._place.directory / f"{self._name}/repository/backup/main"
        taken = [entry.name for entry in folder.iterdir() if entry.name[:8].isdigit()]
        newest = max(taken, key=lambda name: name.rpartition("_")[2])
        self.run(f"--set={newest} expire")

    def drop_all(self) -> None:
        """No backup."""
        for folder in ("backup", "archive"):
            self._place.remove(f"{self._name}/repository/{folder}")
        self.run("stanza-create")

    def stored_bytes(self) -> int:
        """Without WAL."""
        return self._place.stored_bytes(f"{self._name}/repository/backup")

    def restore(self) -> Cost:
        """The newest."""
        target = self._place.directory / f"{self._name}/restored"
        return self.run(f"--pg1-path={shlex.quote(str(target))} --type=none restore")

    def clear_restored(self) -> None:
        """An empty directory to restore into."""
        name = f"{self._name}-restored"
        path = self._place.directory / self._name / "restored"
        if path.exists():
            path.rename(self._place.directory / name)
            self._place.put_aside(name)
        self._place.make(f"{self._name}/restored")

    def verify(self) -> Cost:
        """All files of all backups."""
        return self.run("verify")

    def run(self, command: str) -> Cost:
        """Run a command of its own, as the account of the server."""
        return self._place.shell(f"{self._command} {command}", self._place.account)

    @property
    def archive(self) -> str:
        """Where pushed segments are."""
        return str(self._place.directory / f"{self._name}/repository/archive/main")

    @property
    def command(self) -> str:
        """How it is called, for a shell."""
        return self._command

    @property
    def _command(self) -> str:
        return f"pgbackrest --config={shlex.quote(str(self._file))} --stanza=main"
