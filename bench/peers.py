"""pgBackRest and Barman, where they are installed: which there are, and what they know."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.barman import BarmanKeeper
from bench.contest import Side
from bench.file_contests import each
from bench.keepers import Keeper, Kind
from bench.measure import CommandFailed
from bench.pgbackrest import SAID, PgBackRestKeeper
from bench.place import Place
from opskit.postgres.server import LocalServer

# The newest PostgreSQL that a release of theirs knows, by the first release that does (from their release notes).
_KNOWS = {
    "pgbackrest": {(2, 57): 18, (2, 54): 17, (2, 48): 16, (2, 41): 15},
    "barman": {(3, 15): 18, (3, 12): 17, (3, 9): 16, (3, 2): 15},
}

_LABELS = {
    Kind.TUNED: "{}, tuned",
    Kind.SAME_LEVEL: "{}, zstd 1",
    Kind.DEFAULTS: "{}, defaults",
    Kind.BARMAN: "{}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A peer on this machine; `major` is the newest PostgreSQL that it knows, 0 when it is too old for any."""

    program: str
    version: str
    major: int

    @property
    def label(self) -> str:
        """Its name, for the report."""
        return f"{self.program} {self.version}"

    @property
    def release(self) -> tuple[int, int]:
        """The first two numbers of the version."""
        first, second, *_ = self.version.split(".")
        return int(first), int(second)


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


def set_up(
    peers: list[Installed], place: Place, server: LocalServer, kinds: tuple[Kind, ...]
) -> tuple[list[Keeper], dict[str, str]]:
    """These peers for a running server, as far as they can be set up; why the others cannot."""
    keepers: list[Keeper] = []
    failures: dict[str, str] = {}
    for peer in peers:
        for kind in kinds:
            label = _LABELS[kind].format(peer.label)
            try:
                if kind is Kind.BARMAN and peer.program == "barman":
                    keepers.append(BarmanKeeper(label, place, server))
                elif kind is not Kind.BARMAN and peer.program == "pgbackrest":
                    keepers.append(PgBackRestKeeper(kind, peer.release, label, place, server))
            except CommandFailed as error:
                failures[label] = " ".join(str(error).split())
    return keepers, failures


def said_of(peers: list[Installed]) -> Iterator[str]:
    """Their set-ups, as lines of a list."""
    for peer in peers:
        if peer.program == "pgbackrest":
            yield f"{peer.label}, which never waits for a checkpoint or for WAL here: {'; '.join(SAID.values())}"
        else:
            yield f"{peer.label}: `backup_method = postgres`, nothing compressed, as is its default"
    if not peers:
        yield "pgBackRest and Barman are not installed here"


def push_side(keeper: PgBackRestKeeper, place: Place, files: list[Path]) -> Side:
    """pgBackRest's ``archive-push``."""
    line = f'{keeper.command} archive-push "$file"'

    def clear() -> None:
        found = f"find {shlex.quote(keeper.archive)} -name '0000*-*' -delete"
        place.shell(found, place.account)

    return Side(
        name=f"{keeper.label} archive-push",
        run=lambda: place.shell(each(files, line), place.account),
        clear=clear,
    )


def get_side(keeper: PgBackRestKeeper, place: Place, files: list[Path]) -> Side:
    """pgBackRest's ``archive-get`` of what it has pushed."""
    target = place.make("pgbackrest-fetched") / "segment"
    push = push_side(keeper, place, files)
    push.clear()
    push.run()
    line = f'{keeper.command} archive-get "${{file##*/}}" {shlex.quote(str(target))}'
    return Side(
        name=f"{keeper.label} archive-get",
        run=lambda: place.shell(each(files, line), place.account),
    )
