"""Barman, whose backups by ``pg_basebackup`` it stores as they are."""

import shlex
from pathlib import Path

from bench.keepers import Kind
from bench.measure import Cost
from bench.place import Place
from opskit.postgres.server import LocalServer

CLOSED = "barman-closed"


def archive_options(place: Place) -> dict[str, str]:
    """What Barman demands of a server: WAL archived into its directory, which is made here.

    While the file `CLOSED` is there, WAL is thrown away: that of the changes between backups is nobody's contest.
    """
    for folder in ("barman", "barman/main", "barman/main/incoming"):
        place.make(folder)
    target = f"{place.directory}/barman/main/incoming/%f"
    return {
        "archive_mode": "on",
        "archive_command": f"test -e {place.directory}/{CLOSED} || cp %p {target}",
    }


class BarmanKeeper:
    """Its method ``postgres``, which is the one that knows block increments."""

    kind = Kind.BARMAN

    def __init__(self, label: str, place: Place, server: LocalServer) -> None:
        self.label, self._place = label, place
        home = place.directory / "barman"
        self._file = home / "barman.conf"
        self._file.write_text(
            f"""[barman]
barman_user = {place.account.name if place.account else Path.home().owner()}
barman_home = {home}
log_file = {home}/log
log_level = WARNING
[main]
description = bench
conninfo = {server.conninfo()}
streaming_conninfo = {server.conninfo()}
backup_method = postgres
path_prefix = {server.programs.directory}
immediate_checkpoint = true
archiver = on
""",
            encoding="utf-8",
        )
        self._file.chmod(0o644)
        self._run("switch-wal --force --archive main")

    def full(self) -> Cost:
        """Take one."""
        return self._run("backup main")

    def increment(self) -> Cost:
        """Take one, on the newest backup."""
        return self._run("backup --incremental latest main")

    def drop_newest(self) -> None:
        """As if it had not been taken."""
        self._run("delete main latest")

    def drop_all(self) -> None:
        """No backup."""
        for folder in ("base", "meta"):
            if (self._place.directory / "barman/main" / folder).exists():
                self._place.remove(f"barman/main/{folder}")
                self._place.make(f"barman/main/{folder}")

    def stored_bytes(self) -> int:
        """Without WAL."""
        return self._place.stored_bytes("barman/main/base")

    def restore(self) -> Cost:
        """The newest; a chain is combined in a staging directory, and copied from there."""
        home = self._place.directory / "barman"
        staging = (
            f"--local-staging-path {shlex.quote(str(home / 'staging'))} " if self._chain else ""
        )
        return self._run(f"recover {staging}main latest {shlex.quote(str(home / 'restored'))}")

    def clear_restored(self) -> None:
        """Neither the copy nor what is staged."""
        for name in ("restored", "staging"):
            self._place.remove(f"barman/{name}")

    def verify(self) -> Cost:
        """The newest backup, by ``pg_verifybackup``."""
        return self._run("verify-backup main latest")

    @property
    def _chain(self) -> bool:
        return len(list((self._place.directory / "barman/main/base").iterdir())) > 1

    def _run(self, command: str) -> Cost:
        line = f"barman -q -c {shlex.quote(str(self._file))} {command}"
        return self._place.shell(line, self._place.account)
