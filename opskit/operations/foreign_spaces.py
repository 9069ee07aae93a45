"""Tablespaces that a copy's recovery would make, in the very place where the original has them.

PostgreSQL makes a tablespace whose ``CREATE TABLESPACE`` it replays at the path that was given then, whatever the links
of other tablespaces say (its ``commands/tablespace.c``). On the original's machine that directory is in use: the copy
would write into the original's files, and remove them.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from opskit.errors import ConflictError, ErrorKind
from opskit.model.lsn import Lsn
from opskit.model.wal import WalSegment, is_segment_name
from opskit.postgres.account import Account
from opskit.postgres.programs import Programs
from opskit.postgres.waldump import LogStretch, read_tablespaces

_START = re.compile(r"^START WAL LOCATION: ([0-9A-F]+/[0-9A-F]+)", re.MULTILINE)


def check_tablespaces(
    programs: Programs,
    account: Account | None,
    data_directory: Path,
    wal: Path | None,
    stops_at: Lsn | None,
) -> None:
    """Refuse a start whose recovery would make a tablespace in a directory that holds something on this machine.

    Parameters
    ----------
    wal
        The segments that recovery fetches beside those of the backup; `None` when it fetches none.
    stops_at
        Where the record begins that ends the recovery; `None` when it goes as far as the segments do.

    Raises
    ------
    ConflictError
        There is one.
    ServerError
        ``pg_waldump`` failed.
    """
    label = data_directory / "backup_label"
    replayed: list[tuple[Path, Lsn]] = []
    if label.exists():  # else what lies in pg_wal has been replayed
        start = _START.search(label.read_text(encoding="utf-8", errors="replace"))
        replayed.append((data_directory / "pg_wal", Lsn.parse(start[1]) if start else Lsn(0)))
    if wal is not None and wal.is_dir():
        replayed.append((wal, Lsn(0)))
    for directory, start_lsn in replayed:
        for stretch in _stretches(directory, start_lsn, stops_at):
            for oid, place in read_tablespaces(programs, account, stretch):
                if _holds_something(Path(place)):
                    raise ConflictError(
                        f"recovery would make tablespace {oid} in {place!r}, which holds files on this machine",
                        ErrorKind.TARGET_NOT_EMPTY,
                        "Recover to a point before it was created, or start the copy on another machine.",
                    )


def _stretches(directory: Path, start: Lsn, stops_at: Lsn | None) -> Iterator[LogStretch]:
    """What contiguous segments hold from `start` on up to `stops_at`, rising."""
    files = sorted(f for f in directory.iterdir() if is_segment_name(f.name))
    runs: list[list[WalSegment]] = []
    for file in files:
        segment = WalSegment.parse(file.name, file.stat().st_size)
        if runs and runs[-1][-1].next() == segment:
            runs[-1].append(segment)
        else:
            runs.append([segment])
    for run in runs:
        begin = max(run[0].start, start)
        end = run[-1].end if stops_at is None else min(run[-1].end, stops_at)
        if begin < end:
            yield LogStretch(directory, run[0].timeline, begin, end)


def _holds_something(place: Path) -> bool:
    try:
        return any(place.iterdir())
    except FileNotFoundError:
        return False  # PostgreSQL refuses to start, and says so
    except OSError:
        return True
