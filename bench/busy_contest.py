"""A server at work, and an archive that has to keep up with it."""

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.background import Background, background, opskit_command
from bench.contest import Contest, Side, Spread
from bench.file_contests import empty
from bench.log_contests import RECEIVED_SUFFIX, is_active, stored_segment
from bench.logged import CLUSTER, KEPT_SLOT, SEGMENT_BYTES, Logged, drop_slot
from bench.measure import CommandFailed, Cost
from bench.place import PROJECT, Place
from opskit.errors import ServerError
from opskit.model.lsn import Lsn
from opskit.model.wal import WalSegment
from opskit.operations.wal_stream import slot_name

_RECEIVER = "busy_receiver"
_CLIENTS = 4
_TRANSACTIONS_OF_SCALE_1 = 100  # of a client
_ATTEMPTS = 100
_MEGABYTE = 1e6

# Of pgbench's own transactions each writes half a KB: nobody falls behind those. Of these each writes some 100 KB.
_TABLE = "CREATE TABLE busy (id bigint, token text, payload bytea, note text)"
_SCRIPT = """\\set first random(1, 1000000000)
INSERT INTO busy
SELECT n, md5(n::text), decode(md5('a' || n) || md5('b' || n) || md5('c' || n), 'hex'),
       'the customer asked for delivery to the neighbour at number ' || (hashint8(n) & 127)
  FROM generate_series(:first, :first + 499) AS n;
"""


@dataclass(slots=True)
class _Archiver:
    """What archives beside the load: a command, its slot, and where it keeps a segment."""

    name: str
    slot: str
    command: list[str]
    stored: Callable[[str], Path]
    clear: Callable[[], None]
    rates: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)

    def fact(self) -> str:
        """How much came, and how long the last of it took."""
        rate, lag = Spread.of(self.rates), Spread.of(self.lags)
        return (
            f"{self.name}: pgbench had {rate.median:.1f} MB/s of WAL written ({rate.low:.1f} to {rate.high:.1f}); the"
            f" last segment was archived {lag.median:.2f} s after its end ({lag.low:.2f} to {lag.high:.2f})"
        )


def busy_contest(place: Place, logged: Logged, scale: float) -> Contest:
    """pgbench, until all that it had written is in the archive."""
    script = place.directory / "busy.sql"
    script.write_text(_SCRIPT, encoding="ascii")
    logged.server.query(_TABLE)
    drop_slot(logged.server, KEPT_SLOT)  # the contests that needed all of the WAL are over
    program = logged.server.programs.path("pgbench")
    transactions = max(20, round(_TRANSACTIONS_OF_SCALE_1 * scale))
    words = [str(program), "--no-vacuum", "--file", str(script), "--client", str(_CLIENTS)]
    words += ["--jobs", "2", "--transactions", str(transactions), logged.server.conninfo()]
    load = f"{shlex.join(words)} 2>&1"
    method = "lz4" if logged.has_lz4 else "gzip:1"
    streamer = _Archiver(
        name="opskit wal stream",
        slot=slot_name(CLUSTER),
        command=opskit_command(place, "wal", "stream", CLUSTER),
        stored=lambda name: stored_segment(place, name),
        clear=lambda: place.remove(f"repository/{CLUSTER}/wal"),
    )
    receiver = _receiver(place, logged, method)
    return Contest(
        title=f"pgbench, {_CLIENTS * transactions:,} transactions of 500 rows, while their WAL is archived",
        note="From pgbench's start until all that it had written is in the archive, which works on the same cores."
        " CPU seconds are those of the archiver.",
        opskit=_side(place, logged, load, streamer),
        others=[
            _side(place, logged, load, receiver),
            Side(
                name="nobody archives",
                run=lambda: _alone(place, load),
                clear=lambda: _emptied(logged),
            ),
        ],
        facts=lambda: [one.fact() for one in (streamer, receiver) if one.rates],
    )


def _receiver(place: Place, logged: Logged, method: str) -> _Archiver:
    program = str(logged.server.programs.path("pg_receivewal"))
    received = place.directory / "received"
    words = ["-D", str(received), "--slot", _RECEIVER, "--no-loop", "--compress", method]
    return _Archiver(
        name=f"pg_receivewal --compress={method}",
        slot=_RECEIVER,
        command=[program, *words, "-d", logged.server.conninfo()],
        stored=lambda name: received / f"{name}{RECEIVED_SUFFIX[method]}",
        clear=lambda: empty(place, "received"),
    )


def _side(place: Place, logged: Logged, load: str, archiver: _Archiver) -> Side:
    def run() -> Cost:
        with background(archiver.command, PROJECT) as running:
            seconds = _archived(place, logged, load, archiver, running)
        ended = running.ended()
        return Cost(seconds=seconds, cpu_seconds=ended.cpu_seconds, peak_bytes=ended.peak_bytes)

    def clear() -> None:
        _emptied(logged)
        _slot_from_here(logged, archiver.slot)
        archiver.clear()

    return Side(name=archiver.name, run=run, clear=clear)


def _archived(
    place: Place, logged: Logged, load: str, archiver: _Archiver, running: Background
) -> float:
    running.wait(lambda: is_active(logged, archiver.slot))
    start, began = _position(logged, "pg_current_wal_insert_lsn()"), time.monotonic()
    worked = place.shell(load)
    end, ended = _position(logged, "pg_switch_wal()"), time.monotonic()
    last = archiver.stored(WalSegment.ending_at(end, 1, SEGMENT_BYTES).name)
    running.wait(last.exists)
    archiver.rates.append((end - start) / worked.seconds / _MEGABYTE)
    archiver.lags.append(time.monotonic() - ended)
    return time.monotonic() - began


def _alone(place: Place, load: str) -> Cost:
    cost = place.shell(load)
    return Cost(seconds=cost.seconds, cpu_seconds=0.0, peak_bytes=cost.peak_bytes)


def _emptied(logged: Logged) -> None:
    """The same table, and the same way to the next checkpoint, for everybody."""
    logged.server.query("TRUNCATE busy")
    logged.server.query("CHECKPOINT")


def _slot_from_here(logged: Logged, name: str) -> None:
    for _ in range(_ATTEMPTS):
        try:
            drop_slot(logged.server, name)
            logged.server.query(f"SELECT pg_create_physical_replication_slot('{name}', true)")
            return
        except ServerError:  # somebody uses it still
            time.sleep(0.05)
    raise CommandFailed(f"the slot {name} is not free")


def _position(logged: Logged, function: str) -> Lsn:
    return Lsn.parse(logged.server.query(f"SELECT {function}::text").rows[0][0])
