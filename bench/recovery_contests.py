"""Recovery through the WAL archive."""

import shlex
import time
from pathlib import Path

import psycopg

from bench.background import machine_seconds
from bench.contest import Contest, Side
from bench.interpreter import recovering_command
from bench.logged import CLUSTER, SEGMENT_BYTES, Logged
from bench.measure import CommandFailed, Cost
from bench.place import Place
from bench.servers import MEASURED
from opskit.postgres.server import LocalServer
from opskit.reports.format import format_bytes

SLOWEST_RECOVERY = 1.25
_PRISTINE, _RECOVERING, _COPY = "pristine", "recovering", "copy"
_COMPRESSED = "compressed-wal"


def recovery_contest(place: Place, logged: Logged) -> Contest:
    """Recover a data directory through all of the WAL, which the archive has."""
    total = format_bytes(len(logged.segments) * SEGMENT_BYTES)
    _restore_pristine(place)

    def side(name: str, command: str, at_most: float | None = None) -> Side:
        return Side(
            name=name,
            run=lambda: _recovered(place, logged, command),
            clear=lambda: _again(place),
            at_most=at_most,
        )

    return Contest(
        title=f"Recovery of {total} of WAL",
        note="From the start of PostgreSQL until it has replayed all and is open; `cp` takes plain segments from"
        " the same disk, `zstd -d` those of the archive. `opskit restore --latest --start` does everything, from the"
        " repository to a copy that is open."
        " CPU seconds are those of the whole machine, PostgreSQL's included.",
        weighs_memory=False,
        opskit=side("restore_command = 'opskit wal get …'", recovering_command(place, CLUSTER)),
        others=[
            side("restore_command = 'cp …'", f'cp {logged.plain}/%f "%p"', SLOWEST_RECOVERY),
            side(
                "restore_command = 'zstd -d …'",
                f'zstd -dqc < {_linked(place, logged)}/%f.zst > "%p"',
            ),
            Side(
                name="opskit restore --latest --start",
                run=lambda: _started(place, logged),
                clear=lambda: place.put_aside(_COPY),
            ),
        ],
    )


def _restore_pristine(place: Place) -> None:
    pristine = place.directory / _PRISTINE
    place.opskit("restore", CLUSTER, str(pristine), "--layout", "data-directory")
    (pristine / "recovery.signal").touch()
    place.give(pristine)
    place.give(place.directory / "repository")  # the server's account fetches from it


def _linked(place: Place, logged: Logged) -> Path:
    """A folder with the archive's segments."""
    folder = place.make(_COMPRESSED)
    for segment in logged.segments:
        name = segment.name
        stored = f"repository/{CLUSTER}/wal/{name[:8]}/{name[8:16]}/{name}.zst"
        (folder / f"{name}.zst").symlink_to(place.directory / stored)
    return folder


def _again(place: Place) -> None:
    place.put_aside(_RECOVERING)
    place.shell(f"cp -a {_PRISTINE} {_RECOVERING}")


def _recovered(place: Place, logged: Logged, command: str) -> Cost:
    home = place.directory / _RECOVERING
    server = LocalServer(
        logged.server.programs,
        place.directory,
        _RECOVERING,
        home,
        account=place.account,
        superuser="focker",
        log=place.directory / "recovering.log",
        options={**MEASURED, "restore_command": command, "archive_mode": "off"},
    )
    worked, began = machine_seconds(), time.monotonic()
    with server:
        while server.query("SELECT pg_is_in_recovery()").rows == [(True,)]:
            time.sleep(0.02)
        seconds = time.monotonic() - began
        worked = machine_seconds() - worked
        _hold_against(logged, _count(server))
    return Cost(seconds=seconds, cpu_seconds=worked, peak_bytes=0)


def _started(place: Place, logged: Logged) -> Cost:
    copy = str(place.directory / _COPY)
    worked = machine_seconds()
    cost, psql = place.opskit("restore", CLUSTER, copy, "--latest", "--start")
    worked = machine_seconds() - worked
    try:
        with psycopg.connect(shlex.split(psql)[1]) as connection:
            [[reached]] = connection.execute("SELECT count(*) FROM logged").fetchall()
    finally:
        place.opskit("stop", copy)
    _hold_against(logged, reached)
    return Cost(seconds=cost.seconds, cpu_seconds=worked, peak_bytes=cost.peak_bytes)


def _hold_against(logged: Logged, reached: int) -> None:
    """A recovery that ends early is quick."""
    wanted = _count(logged.server)
    if reached != wanted:
        raise CommandFailed(f"recovery ended with {reached} rows, expected {wanted}")


def _count(server: LocalServer) -> int:
    return int(server.query("SELECT count(*) FROM logged").rows[0][0])
