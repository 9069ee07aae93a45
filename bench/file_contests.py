"""WAL segments archived and fetched one by one, by a process for each, as PostgreSQL starts them."""

import shlex
from pathlib import Path

from bench.background import opskit_command
from bench.contest import Contest, Side
from bench.place import PROJECT, Place

_PUSHED, _FETCHED = "pushed-wal", "fetched-wal"


def push_contest(place: Place, cluster: str, files: list[Path], *, title: str) -> Contest:
    """Archive segments; leaves none."""
    command = f"PYTHONPATH={PROJECT} {shlex.join(opskit_command(place, 'wal', 'push'))}"
    copy = f'cp "$file" {_PUSHED}/'
    return Contest(
        title=f"{title}, {len(files)} segments",
        note="A process for each, as `archive_command` starts them; a segment is durable when the command returns,"
        " but for `cp` alone.",
        opskit=Side(
            name="opskit wal push",
            run=lambda: place.shell(each(files, f'{command} "$file" --cluster {cluster}')),
            clear=lambda: place.remove(f"repository/{cluster}/wal"),
        ),
        others=[
            _copying(place, files, "cp; sync", f'{copy}; sync {_PUSHED}/"${{file##*/}}" {_PUSHED}'),
            _copying(place, files, "cp", copy),
        ],
    )


def get_contest(place: Place, cluster: str, files: list[Path], *, title: str) -> Contest:
    """Fetch segments that are in the archive."""
    command = f"PYTHONPATH={PROJECT} {shlex.join(opskit_command(place, 'wal', 'get'))}"
    line = f'{command} "${{file##*/}}" {_FETCHED}/segment --cluster {cluster}'
    return Contest(
        title=f"{title}, {len(files)} segments",
        note="A process for each, and no server that recovers, so that nothing is fetched ahead: what a recovery waits"
        " for is a contest of its own.",
        opskit=Side(
            name="opskit wal get",
            run=lambda: place.shell(each(files, line)),
            clear=lambda: empty(place, _FETCHED),
        ),
        others=[
            Side(
                name="cp",
                run=lambda: place.shell(each(files, f'cp "$file" {_FETCHED}/segment')),
                clear=lambda: empty(place, _FETCHED),
            )
        ],
    )


def push_all(place: Place, cluster: str, files: list[Path]) -> None:
    """Have these segments in the archive."""
    for file in files:
        place.opskit("wal", "push", str(file), "--cluster", cluster)


def each(files: list[Path], line: str) -> str:
    """A shell's loop over files."""
    return f"for file in {shlex.join(map(str, files))}; do {line}; done"


def empty(place: Place, name: str) -> None:
    """Make a directory, or empty it."""
    place.remove(name)
    (place.directory / name).mkdir()


def _copying(place: Place, files: list[Path], name: str, line: str) -> Side:
    return Side(
        name=name,
        run=lambda: place.shell(each(files, line)),
        clear=lambda: empty(place, _PUSHED),
    )
