"""pgBackRest and Barman, where they are installed: set up as their manuals advise, for speed."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.contest import Contest, Side
from bench.file_contests import each
from bench.measure import CommandFailed, Cost
from bench.place import Place
from opskit.postgres.server import LocalServer

# The newest PostgreSQL that a release of theirs knows, by the first release that does (from their release notes).
_KNOWS = {
    "pgbackrest": {(2, 57): 18, (2, 54): 17, (2, 48): 16, (2, 41): 15},
    "barman": {(3, 15): 18, (3, 12): 17, (3, 9): 16, (3, 2): 15},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A peer on this machine; `major` is the newest PostgreSQL that it knows, 0 when it is too old for any."""

    program: str
    version: str
    major: int


def installed_peers() -> list[Installed]:
    """Those of the two that PATH leads to."""
    found = []
    for program, known in _KNOWS.items():
        path = shutil.which(program)
        if path is None:
            continue
        argument = "version" if program == "pgbackrest" else "--version"
        said = subprocess.run([path, argument], capture_output=True, text=True, check=False).stdout
        numbers = re.search(r"(\d+)\.(\d+)[.\d]*", said)
        if numbers is not None:
            release = int(numbers[1]), int(numbers[2])
            major = next((m for first, m in known.items() if release >= first), 0)
            found.append(Installed(program=program, version=numbers[0], major=major))
    return found


def server_options(place: Place) -> dict[str, str]:
    """What Barman demands of a server: WAL archived into its directory, which is made here."""
    for folder in ("barman", "barman/main", "barman/main/incoming"):
        place.make(folder)
    return {
        "archive_mode": "on",
        "archive_command": f"cp %p {place.directory}/barman/main/incoming/%f",
    }


def join(
    peers: list[Installed],
    place: Place,
    server: LocalServer,
    backup: Contest,
    restore: Callable[[], Contest],
) -> tuple[Contest, Callable[[], Contest]]:
    """The contests with these peers in them; one that cannot be set up is in `failures`, with the reason."""
    set_up: dict[str, type[_PgBackRest] | type[_Barman]] = {
        "pgbackrest": _PgBackRest,
        "barman": _Barman,
    }
    working: list[_PgBackRest | _Barman] = []
    for peer in peers:
        name = f"{peer.program} {peer.version}"
        try:
            working.append(set_up[peer.program](name, place, server))
        except CommandFailed as error:
            backup.failures[name] = " ".join(str(error).split())
    backup.others += [peer.backup_side() for peer in working]

    def restoring() -> Contest:
        contest = restore()
        contest.others += [
            peer.restore_side() for peer in working if peer.name not in backup.failures
        ]
        return contest

    return backup, restoring


def push_side(place: Place, peer: Installed, files: list[Path]) -> Side:
    """pgBackRest's ``archive-push``, after `join`."""
    archived = shlex.quote(str(place.directory / "pgbackrest/repository/archive/main"))
    line = f'{_pgbackrest(place)} archive-push "$file"'

    def clear() -> None:
        place.shell(f"find {archived} -name '0000*-*' -delete", place.account)

    return Side(
        name=f"{peer.program} {peer.version} archive-push",
        run=lambda: place.shell(each(files, line), place.account),
        clear=clear,
    )


def get_side(place: Place, peer: Installed, files: list[Path]) -> Side:
    """pgBackRest's ``archive-get`` of what it has pushed."""
    target = place.make("pgbackrest/fetched") / "segment"
    push = push_side(place, peer, files)
    push.clear()
    push.run()
    line = f'{_pgbackrest(place)} archive-get "${{file##*/}}" {shlex.quote(str(target))}'
    return Side(
        name=f"{peer.program} {peer.version} archive-get",
        run=lambda: place.shell(each(files, line), place.account),
    )


class _PgBackRest:
    """Two processes, zstd at level 1, small files bundled. It does not wait for WAL, which flatters it a little."""

    def __init__(self, name: str, place: Place, server: LocalServer) -> None:
        self.name, self._place = name, place
        home = place.make("pgbackrest")
        self._file = home / "pgbackrest.conf"
        self._file.write_text(
            f"""[global]
repo1-path={home}/repository
repo1-bundle=y
repo1-retention-full=1
lock-path={home}/lock
log-path={home}/log
spool-path={home}/spool
log-level-console=error
process-max={min(os.cpu_count() or 1, 8)}
compress-type=zst
compress-level=1
start-fast=y
archive-check=n
[main]
pg1-path={server.data_directory}
pg1-socket-path={server.socket_directory}
pg1-port={server.port}
pg1-user={server.superuser}
""",
            encoding="utf-8",
        )
        self._file.chmod(0o644)
        self._run("stanza-create")

    def backup_side(self) -> Side:
        def again() -> None:
            self._place.remove("pgbackrest/repository/backup")
            self._place.remove("pgbackrest/repository/archive")
            self._run("stanza-create")

        return Side(name=self.name, run=lambda: self._run("--type=full backup"), clear=again)

    def restore_side(self) -> Side:
        self._run("--type=full backup")
        target = self._place.directory / "pgbackrest/restored"

        def clear() -> None:
            self._place.remove("pgbackrest/restored")
            self._place.make("pgbackrest/restored")

        return Side(
            name=self.name,
            run=lambda: self._run(f"--pg1-path={target} --type=none restore"),
            clear=clear,
        )

    def _run(self, command: str) -> Cost:
        return self._place.shell(f"{_pgbackrest(self._place)} {command}", self._place.account)


def _pgbackrest(place: Place) -> str:
    configuration = shlex.quote(str(place.directory / "pgbackrest/pgbackrest.conf"))
    return f"pgbackrest --config={configuration} --stanza=main"


class _Barman:
    """Its backups by ``pg_basebackup``, which it stores as they are."""

    def __init__(self, name: str, place: Place, server: LocalServer) -> None:
        self.name, self._place = name, place
        home = place.directory / "barman"  # made by `server_options`
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

    def backup_side(self) -> Side:
        return Side(name=self.name, run=lambda: self._run("backup main"), clear=self._clear)

    def restore_side(self) -> Side:
        self._run("backup main")
        target = self._place.directory / "barman/restored"
        return Side(
            name=self.name,
            run=lambda: self._run(f"recover main latest {shlex.quote(str(target))}"),
            clear=lambda: self._place.remove("barman/restored"),
        )

    def _clear(self) -> None:
        self._place.remove("barman/main/base")
        self._place.make("barman/main/base")

    def _run(self, command: str) -> Cost:
        return self._place.shell(f"barman -q -c {self._file} {command}", self._place.account)
