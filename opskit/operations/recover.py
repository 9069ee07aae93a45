"""Recover a restored copy to its target, and prove that it got there.

PostgreSQL cannot tell a missing segment from the end of the log. So what recovery reached is compared with what the
plan wanted: the line in the server's log that says where it stopped, or the last record that the archive holds.
"""

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from opskit.errors import ErrorKind, OpskitError, RecoveryError, ServerError
from opskit.model.lsn import Lsn
from opskit.model.operation import Progress
from opskit.model.target import RecoveryTarget, TargetKind, time_text
from opskit.model.timeline import read_history
from opskit.model.wal import history_timeline
from opskit.operations.monitor import Monitor
from opskit.operations.recovery import RecoveryPlan
from opskit.operations.wal_path import segment_content
from opskit.postgres.server import LocalServer
from opskit.repository.wal import WalArchive

RECOVERY_FILE = "recovery.json"
TARGET_FILE = "target.conf"
SIGNAL = "recovery.signal"
_STOPPED = re.compile(
    r"recovery stopping (?:before|after) .*|recovery stopping at restore point .*"
)
_REDO_DONE = re.compile(r"redo done at ([0-9A-F]+/[0-9A-F]+)")
_PROGRAM = Path(__file__).parents[1] / "__main__.py"
_FETCHING_AT_ONCE = 4
_POLL_SECONDS = 0.2
_FIRST_POLL_SECONDS = 0.02  # a small copy is there in a moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What a copy is to reach, as ``recovery.json`` beside it keeps it.

    `end` is the address up to which WAL was brought, `last_record` where the archive's last record begins, for the
    target ``latest``, `stops_at` where the record begins that ends the recovery, where that is known.
    """

    target: str
    kind: TargetKind
    paused: bool
    timeline: int
    end: Lsn | None
    last_record: Lsn | None
    stops_at: Lsn | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """Where recovery ended: the server's own words, the address, the last transaction's time as text, and whether it is
    held there or has become a server of its own."""

    stopped: str
    lsn: Lsn | None
    last_transaction: str
    paused: bool


def fetch_wal(
    plan: RecoveryPlan,
    archive: WalArchive,
    directory: Path,
    monitor: Monitor,
    *,
    owner: tuple[int, int] | None,
) -> None:
    """Bring the plan's segments and history files into ``<directory>/wal``, several at once; those there are kept.

    Raises
    ------
    IntegrityError
        A segment is damaged.
    NotFoundError
        One has gone since the plan.
    """
    place = directory / "wal"
    place.mkdir(mode=0o700, exist_ok=True)
    done = 0
    total = len(plan.path.names) * archive.segment_bytes

    def fetch(number: int) -> int:
        segment = plan.path.names[number]
        partial = plan.path.partial is not None and segment == plan.path.partial.segment
        if partial or not (place / segment.name).exists():
            _write(place / segment.name, segment_content(archive, plan.path, segment), owner)
        return segment.size

    for stretch in plan.path.history.stretches[1:]:
        name = f"{stretch.timeline:08X}.history"
        _write(place / name, archive.history_file(stretch.timeline), owner)
    with ThreadPoolExecutor(_FETCHING_AT_ONCE, thread_name_prefix="fetch") as fetching:
        for size in fetching.map(fetch, range(len(plan.path.names))):
            done += size
            monitor.check()
            monitor.report(Progress(phase="fetching WAL", bytes_done=done, bytes_expected=total))
    if owner:
        os.chown(place, *owner)


def write_target(
    plan: RecoveryPlan,
    snapshot: Path,
    *,
    paused: bool,
    owner: tuple[int, int] | None,
) -> None:
    """Write the target where the copy's configuration includes it, and the signal that makes the server recover."""
    text = "# Written by opskit; README tells what it does.\n" + _lines(
        target_settings(plan, paused=paused)
    )
    _write(snapshot / "conf" / TARGET_FILE, text.encode(), owner)
    _write(snapshot / "data" / SIGNAL, b"", owner)
    record = {
        "format": 1,
        "target": str(plan.target),
        "kind": str(plan.target.kind),
        "paused": paused,
        "timeline": plan.timeline,
        "end": str(plan.path.end) if plan.path.end is not None else None,
        "last_record": str(plan.last_record) if plan.last_record is not None else None,
        "stops_at": str(plan.stops_at) if plan.stops_at is not None else None,
    }
    _write(snapshot.parent / RECOVERY_FILE, (json.dumps(record, indent=2) + "\n").encode(), owner)


def fetching_command(cluster: str, configuration: Path | None, python: str = sys.executable) -> str:
    """The ``restore_command`` by which a plain data directory fetches its WAL.

    The program is run as a file: ``python -m`` loads several times as many modules, for each segment. ``-P`` keeps what
    lies in the data directory, where PostgreSQL starts it, from being taken for one of them.
    """
    words = [python, "-P", str(_PROGRAM)]
    if configuration is not None:
        words += ["--config", str(configuration)]
    # A per cent sign stands for itself when doubled.
    return f'{shlex.join(words).replace("%", "%%")} wal get %f "%p" --cluster {cluster}'


def write_settings(
    plan: RecoveryPlan,
    data_directory: Path,
    restore_command: str,
    *,
    paused: bool,
    owner: tuple[int, int] | None,
) -> None:
    """Write the target into a plain data directory's own settings, and the signal that makes the server recover.

    What a standby had set for following its primary must not hold up the recovery, nor clear an archive away.
    """
    file = data_directory / "postgresql.auto.conf"
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    settings = {
        "restore_command": restore_command,
        "recovery_min_apply_delay": "0",
        "archive_cleanup_command": "",
        **target_settings(plan, paused=paused),
    }
    _write(file, (before + "# Written by opskit's restore\n" + _lines(settings)).encode(), owner)
    _write(data_directory / SIGNAL, b"", owner)


def target_settings(plan: RecoveryPlan, *, paused: bool) -> dict[str, str]:
    """PostgreSQL's settings for a plan's target (manual, "Recovery Target")."""
    target = plan.target
    settings = {
        "recovery_target_timeline": str(plan.timeline),
        "recovery_target_action": "pause" if paused else "promote",
    }
    names = {
        TargetKind.TIME: "recovery_target_time",
        TargetKind.LSN: "recovery_target_lsn",
        TargetKind.XID: "recovery_target_xid",
        TargetKind.RESTORE_POINT: "recovery_target_name",
    }
    if target.kind is TargetKind.IMMEDIATE:
        settings["recovery_target"] = "immediate"
    elif target.kind in names:
        settings[names[target.kind]] = _shown(target)
        settings["recovery_target_inclusive"] = "on" if target.inclusive else "off"
    return settings


def read_recovery(directory: Path) -> Recovery | None:
    """What the copy in `directory` is to reach; `None` for one without a target."""
    try:
        data = json.loads((directory / RECOVERY_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Recovery(
        target=data["target"],
        kind=TargetKind(data["kind"]),
        paused=data["paused"],
        timeline=data["timeline"],
        end=Lsn.parse(data["end"]) if data["end"] else None,
        last_record=Lsn.parse(data["last_record"]) if data["last_record"] else None,
        stops_at=Lsn.parse(at) if (at := data.get("stops_at")) else None,
    )


def await_target(
    server: LocalServer, recovery: Recovery, log_start: int, monitor: Monitor
) -> Reached:
    """Wait until a server that is recovering has reached its target, and prove it.

    Parameters
    ----------
    log_start
        Where the server's log was when it started, in bytes.

    Raises
    ------
    RecoveryError
        It ended short of the target.
    """
    pause = _FIRST_POLL_SECONDS
    while True:
        monitor.check()
        state = _state(server)
        if state is None:
            raise _short(server, recovery, log_start)
        recovering, paused, lsn, last = state
        if recovery.end is not None:
            monitor.report(
                Progress(
                    phase=f"recovering, at {lsn} of {recovery.end}",
                    bytes_done=int(lsn or 0),
                    bytes_expected=int(recovery.end),
                )
            )
        if paused or not recovering:
            break
        time.sleep(pause)
        pause = min(1.5 * pause, _POLL_SECONDS)
    log = _log_since(server, log_start)
    stopped = _STOPPED.search(log)
    if recovery.kind is TargetKind.LATEST:
        done = _REDO_DONE.search(log)
        reached = Lsn.parse(done[1]) if done else None
        if recovery.last_record is not None and (reached is None or reached < recovery.last_record):
            raise _not_at_the_end(reached, recovery.last_record, server.log)
        return Reached(
            stopped="the archive's end", lsn=reached, last_transaction=last, paused=False
        )
    if stopped is None and recovery.kind is not TargetKind.IMMEDIATE:
        raise _short(server, recovery, log_start)
    return Reached(
        stopped=stopped[0] if stopped else "recovery stopping after reaching consistency",
        lsn=lsn,
        last_transaction=last,
        paused=paused,
    )


def check_took_over(data_directory: Path, recovery: Recovery | None, log: Path) -> None:
    """Refuse a copy that was to recover to the archive's end, and took over before it.

    PostgreSQL does not know any more that something was missing; its history file tells where it took over. Before
    every other target it refuses to take over.

    Raises
    ------
    RecoveryError
        It did.
    """
    if recovery is None or recovery.last_record is None:
        return
    for file in (data_directory / "pg_wal").glob("*.history"):
        timeline = history_timeline(file.name)
        if timeline is None or timeline <= recovery.timeline:
            continue
        recovered = read_history(timeline, file.read_bytes()).stretch_of(recovery.timeline)
        if recovered and recovered.end is not None and recovered.end <= recovery.last_record:
            raise _not_at_the_end(recovered.end, recovery.last_record, log)


@contextmanager
def explained(server: LocalServer, recovery: Recovery, log_start: int) -> Iterator[None]:
    """Turn a start that failed because recovery ended short into `RecoveryError`."""
    try:
        yield
    except ServerError as error:
        if "before configured recovery target was reached" in _log_since(server, log_start):
            raise _short(server, recovery, log_start) from error
        raise


def log_size(server: LocalServer) -> int:
    """The size of a server's log in bytes, 0 when it has none yet."""
    return server.log.stat().st_size if server.log.exists() else 0


def _state(server: LocalServer) -> tuple[bool, bool, Lsn | None, str] | None:
    """Whether it recovers, whether it is paused, what it replayed, and the last transaction; `None` when it is gone."""
    for _ in range(50):
        try:
            row = server.query(
                "SELECT pg_is_in_recovery(),"
                " CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() = 'paused' ELSE false END,"
                " CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() END::text,"
                " coalesce(to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC',"
                " 'YYYY-MM-DD HH24:MI:SS.US \"UTC\"'), '')"
            ).rows[0]
        except OpskitError:  # it ends recovery at this moment, or is gone
            if not server.is_running:
                return None
            time.sleep(_POLL_SECONDS)
            continue
        return row[0], row[1], Lsn.parse(row[2]) if row[2] else None, row[3]
    return None


def _short(server: LocalServer, recovery: Recovery, log_start: int) -> RecoveryError:
    done = _REDO_DONE.search(_log_since(server, log_start))
    where = f" at {done[1]}" if done else ""
    return RecoveryError(
        f"recovery ended{where} before it reached {recovery.target}",
        ErrorKind.NO_PATH,
        f"Its log is {str(server.log)!r}.",
    )


def _not_at_the_end(reached: Lsn | None, last_record: Lsn, log: Path) -> RecoveryError:
    return RecoveryError(
        f"recovery ended at {reached or 'the backup'}, the archive's last record is at {last_record}",
        hint=f"Look into the copy's log {str(log)!r}, and restore again.",
    )


def _log_since(server: LocalServer, start: int) -> str:
    with server.log.open("rb") as file:
        file.seek(start)
        return file.read().decode("utf-8", errors="replace")


def _lines(settings: dict[str, str]) -> str:
    return "".join(
        "{} = '{}'\n".format(name, value.replace("\\", "\\\\").replace("'", "''"))
        for name, value in settings.items()
    )


def _shown(target: RecoveryTarget) -> str:
    if target.kind is TargetKind.TIME:
        return time_text(target.value).replace(" UTC", "+00")  # type: ignore[arg-type]
    return str(target.value)


def _write(path: Path, content: bytes, owner: tuple[int, int] | None) -> None:
    """Write a file under another name, give it to the owner, and put it in its place."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_bytes(content)
    unfinished.chmod(0o600)
    if owner:
        os.chown(unfinished, *owner)
    unfinished.replace(path)
