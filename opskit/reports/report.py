"""What a report says of its run, as a value, and as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Self


class Files(StrEnum):
    """How the files of a report stand to its record: compared and the same, or not; or they could not be compared."""

    AS_RECORDED = "as recorded"
    CHANGED = "changed"
    NO_RECORD = "no record"
    NOT_READABLE = "not readable"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedBackup:
    """A backup that a run made or used, as its report tells."""

    name: str
    started_at: datetime
    duration: timedelta
    stored_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run of a runbook: its report, or the trace of a run that has none (yet). Times are aware and in UTC.

    Parameters
    ----------
    name
        The place below the directory of the reports, without a suffix: ``main/2026/11/20261122T140305Z-local_restore``.
    outcome
        ``passed``, ``failed``, ``aborted``, ``died``; ``running`` for a run that goes on; ``unknown`` for one of
        another host, of which that cannot be told, and for a report that does not say.
    checks
        How many passed, failed, were not run.
    suffixes
        The files that there are.
    files, changed, checked_at
        `None` while there is no report; what differs, in words; and when the files were read and compared.
    """

    name: str
    runbook: str
    cluster: str
    outcome: str
    reason: str
    started_at: datetime
    duration: timedelta | None = None
    actor: str = ""
    host: str = ""
    checks: tuple[int, int, int] = (0, 0, 0)
    backups: tuple[ReportedBackup, ...] = ()
    suffixes: tuple[str, ...] = ()
    files: Files | None = None
    changed: str = ""
    signed: bool = False
    checked_at: datetime | None = None

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data, for `from_dict`."""
        return {
            **{key: getattr(self, key) for key in _PLAIN},
            "checks": self.checks,
            "suffixes": self.suffixes,
            "files": self.files,
            "started_at": self.started_at.isoformat(),
            "duration": _seconds(self.duration),
            "checked_at": self.checked_at and self.checked_at.isoformat(),
            "backups": [
                [b.name, b.started_at.isoformat(), _seconds(b.duration), b.stored_bytes]
                for b in self.backups
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What `as_dict` gave."""
        return cls(
            **{key: data[key] for key in _PLAIN},
            checks=tuple(data["checks"]),
            suffixes=tuple(data["suffixes"]),
            files=data["files"] and Files(data["files"]),
            started_at=datetime.fromisoformat(data["started_at"]),
            duration=_duration(data["duration"]),
            checked_at=data["checked_at"] and datetime.fromisoformat(data["checked_at"]),
            backups=tuple(
                ReportedBackup(
                    name=name,
                    started_at=datetime.fromisoformat(at),
                    duration=timedelta(seconds=seconds),
                    stored_bytes=size,
                )
                for name, at, seconds, size in data["backups"]
            ),
        )


_PLAIN = (
    "name",
    "runbook",
    "cluster",
    "outcome",
    "reason",
    "actor",
    "host",
    "changed",
    "signed",
)


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()


def _duration(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
