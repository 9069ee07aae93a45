"""What the commands on the WAL archive print."""

import contextlib
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from opskit.cli._output import print_findings, print_json, print_table
from opskit.cli._progress import CommandMonitor
from opskit.cli._run import Ending, one_line
from opskit.errors import Cancelled
from opskit.operations.wal_status import WalStatus
from opskit.reports.format import format_bytes, format_time


class StreamMonitor(CommandMonitor):
    """Ends a stream once a signal has come, or the file that it is to last as long as is gone."""

    def __init__(self, ending: Ending, lasts: Path | None) -> None:
        super().__init__(ending, None)
        self._lasts = lasts

    def check(self) -> None:
        """Go on, or raise `Cancelled`."""
        super().check()
        if self._lasts is not None and not self._lasts.exists():
            raise Cancelled(f"{str(self._lasts)!r} is gone")


@contextlib.contextmanager
def told_with_time() -> Iterator[None]:
    """While this lasts, what the floors below log is told on stderr, a line each with its time, as a service does."""
    logger = logging.getLogger("opskit")
    before, level = list(logger.handlers), logger.level
    logger.handlers[:] = [_Lines(logging.INFO)]
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.handlers[:] = before
        logger.setLevel(level)


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        at = datetime.fromtimestamp(record.created, UTC)
        typer.echo(f"{at:%Y-%m-%dT%H:%M:%SZ} {one_line(record.getMessage())}", err=True)


def print_status(status: WalStatus) -> None:
    """A WAL archive for people: its ranges, then what was found."""
    rows = []
    for one in status.timelines:
        for held in one.ranges:
            count = held.last.number - held.first.number + 1
            rows.append(
                (
                    str(one.timeline),
                    held.first.name,
                    held.last.name,
                    str(count),
                    format_bytes(held.stored_bytes),
                )
            )
        if one.partial is not None:
            rows.append(
                (
                    str(one.timeline),
                    f"{one.partial.segment.name}.partial",
                    f"to {one.partial.end}",
                    "",
                    "",
                )
            )
    if rows:
        print_table(("Timeline", "First", "Last", "Segments", "Stored"), rows)
    if status.end is not None and status.stored_at is not None:
        typer.echo(f"ends at {status.end}, stored at {format_time(status.stored_at)}")
    print_findings(status.findings)


def print_status_json(status: WalStatus) -> None:
    """A WAL archive for programs."""
    print_json(
        {
            "cluster": status.cluster,
            "passed": status.passed,
            "timeline": status.timeline,
            "end": None if status.end is None else str(status.end),
            "stored_at": status.stored_at,
            "behind_bytes": status.behind_bytes,
            "behind_seconds": None if status.behind is None else status.behind.total_seconds(),
            "slot": _slot(status),
            "ranges": [
                {
                    "timeline": one.timeline,
                    "first": held.first.name,
                    "last": held.last.name,
                    "start_lsn": str(held.start),
                    "end_lsn": str(held.end),
                    "segments": held.last.number - held.first.number + 1,
                    "stored_bytes": held.stored_bytes,
                }
                for one in status.timelines
                for held in one.ranges
            ],
            "gaps": [
                {
                    "first": gap.first.name,
                    "last": gap.last.name,
                    "segments": gap.segments,
                    "backups": list(gap.backups),
                }
                for gap in status.gaps
            ],
            "findings": [
                {"name": f.name, "passed": f.passed, "message": f.message, "hint": f.hint}
                for f in status.findings
            ],
        }
    )


def _slot(status: WalStatus) -> dict[str, Any] | None:
    slot = status.server.slot if status.server is not None else None
    if slot is None:
        return None
    return {
        "name": status.slot_name,
        "is_active": slot.is_active,
        "wal_status": slot.wal_status,
        "restart_lsn": None if slot.restart_lsn is None else str(slot.restart_lsn),
        "safe_bytes": slot.safe_bytes,
    }
