"""What ``pg_waldump`` reads in WAL: commits, restore points, and where the records end.

Knows the program's output, which has one line a record. It is given plain segments in a directory.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from opskit.errors import ErrorKind, ServerError
from opskit.model.lsn import Lsn
from opskit.postgres.account import Account
from opskit.postgres.programs import Programs

_RECORD = re.compile(
    r"^rmgr: (\w+)\s+len .*?, tx:\s+(\d+), lsn: ([0-9A-F]+/[0-9A-F]+), .*?desc: (.*)$", re.MULTILINE
)
_TIME = re.compile(r"(\d{4,}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) UTC")
_POINT = re.compile(r"RESTORE_POINT (.*)")
_SPACE = re.compile(r'^rmgr: Tablespace .*?desc: CREATE (\d+) "(.*?)"$', re.MULTILINE | re.DOTALL)
# What ends the reading of a log that goes no further: not an error here.
_END_OF_LOG = (
    "error in WAL record at",
    "could not find a valid record after",
    "could not find file",
)


@dataclass(frozen=True, slots=True)
class LoggedEnd:
    """The end of a transaction: where its record begins, its id, when it ended, and whether it was committed."""

    lsn: Lsn
    xid: int
    at: datetime
    committed: bool


@dataclass(frozen=True, slots=True)
class LoggedPoint:
    """A restore point: where its record begins, and its name."""

    lsn: Lsn
    name: str


@dataclass(frozen=True, slots=True)
class LoggedRecords:
    """What a stretch of log holds, in order; `last_record` is where its last record begins, `None` if it has none."""

    ends: tuple[LoggedEnd, ...]
    points: tuple[LoggedPoint, ...]
    last_record: Lsn | None


@dataclass(frozen=True, slots=True)
class LogStretch:
    """The records of a timeline that begin from `start` up to but not including `end`.

    `directory` holds their segments, and the one behind them where a record may go on, named for the `timeline`.
    """

    directory: Path
    timeline: int
    start: Lsn
    end: Lsn


def read_log(
    programs: Programs, stretch: LogStretch, *, every_record: bool = False
) -> LoggedRecords:
    """Read ends of transactions and restore points.

    Parameters
    ----------
    every_record
        Whether `last_record` counts all records, which takes longer, or those of transactions and restore points.

    Raises
    ------
    ServerError
        ``pg_waldump`` failed.
    """
    managers = () if every_record else ("Transaction", "XLOG")
    output = _records(programs, None, stretch, managers)
    ends: list[LoggedEnd] = []
    points: list[LoggedPoint] = []
    last: Lsn | None = None
    for manager, xid, lsn, text in _RECORD.findall(output):
        last = Lsn.parse(lsn)
        if manager == "Transaction" and (time := _TIME.search(text)):
            at = datetime.fromisoformat(time[1]).replace(tzinfo=UTC)
            ends.append(LoggedEnd(last, int(xid), at, text.startswith("COMMIT")))
        elif manager == "XLOG" and (point := _POINT.match(text)):
            points.append(LoggedPoint(last, point[1]))
    return LoggedRecords(tuple(ends), tuple(points), last)


def read_tablespaces(
    programs: Programs, account: Account | None, stretch: LogStretch
) -> list[tuple[int, str]]:
    """The tablespaces that the records make outside of the data directory: their oids and paths.

    Parameters
    ----------
    account
        Who may read the segments.

    Raises
    ------
    ServerError
        As `read_log`.
    """
    output = _records(programs, account, stretch, ("Tablespace",))
    return [(int(oid), place) for oid, place in _SPACE.findall(output) if place]


def _records(
    programs: Programs,
    account: Account | None,
    stretch: LogStretch,
    managers: tuple[str, ...],
) -> str:
    done = programs.run(
        "pg_waldump",
        f"--path={stretch.directory}",
        f"--timeline={stretch.timeline}",
        f"--start={stretch.start}",
        f"--end={stretch.end}",
        *(f"--rmgr={manager}" for manager in managers),
        account=account,
        environment={"TZ": "UTC", "LC_ALL": "C"},
    )
    if done.exit_code != 0 and not any(sign in done.output for sign in _END_OF_LOG):
        raise ServerError(
            f"pg_waldump cannot read the log from {stretch.start}: {done.output.strip().splitlines()[-1]}",
            ErrorKind.SERVER_REFUSED,
        )
    return done.output
