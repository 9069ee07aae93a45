"""The WAL archive: streamed into; the aim stands here, as those in `bench.contests`."""

import time
from pathlib import Path

from bench.background import background, opskit_command
from bench.contest import Contest, Side
from bench.file_contests import empty
from bench.logged import CLUSTER, SEGMENT_BYTES, Logged, fresh_slot
from bench.measure import Cost
from bench.place import PROJECT, Place
from opskit.errors import ServerError
from opskit.operations.wal_stream import slot_name
from opskit.reports.format import format_bytes

SLOWEST_STREAM = 1.25  # 80 % of the speed
RECEIVED_SUFFIX = {"lz4": ".lz4", "gzip:1": ".gz", "none": ""}
_RECEIVER = "receiver"
_ATTEMPTS = 100


def stream_contest(place: Place, logged: Logged) -> Contest:
    """Take in WAL that the server has kept, beside ``pg_receivewal``."""
    total = format_bytes(len(logged.segments) * SEGMENT_BYTES)

    methods = ["lz4"] if logged.has_lz4 else []
    return Contest(
        title=f"WAL stream, {total} to catch up",
        note="From the moment that the server begins to send until the last segment is durable, from a permanent slot"
        " that has kept it all; a service starts once (`opskit wal stream` in half a second). opskit stores by zstd at"
        " level 1, in the repository, each segment checked; `pg_receivewal` knows lz4 and gzip. The aim is 80 % of its"
        " speed.",
        opskit=Side(
            name="opskit wal stream",
            run=lambda: _stream(place, logged),
            clear=lambda: _forget(place, logged),
        ),
        others=[_receiver(place, logged, method) for method in (*methods, "gzip:1", "none")],
    )


def fill_archive(place: Place, logged: Logged) -> None:
    """Have all of the WAL in the archive."""
    _forget(place, logged)
    _stream(place, logged)


def _stream(place: Place, logged: Logged) -> Cost:
    last = stored_segment(place, logged.segments[-1].name)
    command = opskit_command(place, "wal", "stream", CLUSTER)
    return _until(logged, command, slot_name(CLUSTER), last, PROJECT)


def _receiver(place: Place, logged: Logged, method: str) -> Side:
    """It does not end by itself at once: it would wait for the server's next word."""
    program = str(logged.server.programs.path("pg_receivewal"))
    received = place.directory / "received"
    words = ["-D", str(received), "--slot", _RECEIVER, "--no-loop", "--compress", method]
    last = received / f"{logged.segments[-1].name}{RECEIVED_SUFFIX[method]}"

    def clear() -> None:
        new_slot(logged, _RECEIVER)
        empty(place, "received")

    command = [program, *words, "-d", logged.server.conninfo()]
    return Side(
        name=f"pg_receivewal --compress={method}",
        run=lambda: _until(logged, command, _RECEIVER, last, place.directory),
        clear=clear,
        at_most=None if method == "none" else SLOWEST_STREAM,
    )


def _until(logged: Logged, command: list[str], slot: str, last: Path, directory: Path) -> Cost:
    """The cost of a command, from when its slot is in use until a file has got its name."""
    with background(command, directory) as running:
        began = running.wait(lambda: is_active(logged, slot))
        seconds = running.wait(last.exists) - began
    ended = running.ended()
    return Cost(seconds=seconds, cpu_seconds=ended.cpu_seconds, peak_bytes=ended.peak_bytes)


def is_active(logged: Logged, slot: str) -> bool:
    """Whether somebody streams from a slot."""
    asked = f"SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'"
    return logged.server.query(asked).rows == [(True,)]


def _forget(place: Place, logged: Logged) -> None:
    """An archive without WAL, and a slot that has it all."""
    place.remove(f"repository/{CLUSTER}/wal")
    new_slot(logged, slot_name(CLUSTER))


def new_slot(logged: Logged, name: str) -> None:
    """A slot that keeps all of the WAL; the server may take a moment to notice that nobody uses the old one."""
    for left in reversed(range(_ATTEMPTS)):
        try:
            fresh_slot(logged.server, name)
            return
        except ServerError:
            if not left:
                raise
            time.sleep(0.05)


def stored_segment(place: Place, name: str) -> Path:
    """Where the archive has a segment."""
    return place.directory / f"repository/{CLUSTER}/wal/{name[:8]}/{name[8:16]}/{name}.zst"
