"""What a run leaves behind for programs: its steps, its checks, and how it ended.

The records travel inside the executed notebook, as outputs of MIME types of our own beside the HTML for people, so that
they are there even when the run ends in the middle.
"""

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

STEP = "application/vnd.opskit.step+json"
CHECK = "application/vnd.opskit.check+json"
RUN = "application/vnd.opskit.run+json"
FORMAT = 1


class Outcome(StrEnum):
    """How a run ended. `PASSED` needs ``run.finish()`` and every check passed.

    `FAILED`: a check or a cell failed, or the notebook ended without ``run.finish()``. `ABORTED`: somebody, or the time
    limit, ended it. `DIED`: its kernel or its process was lost.
    """

    PASSED = "passed"
    FAILED = "failed"
    ABORTED = "aborted"
    DIED = "died"


class CheckResult(StrEnum):
    """How a check came out. What could not be run is said as such, and never counts as passed."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What must hold, and whether it did."""

    what: str
    result: CheckResult
    detail: str = ""

    def as_dict(self) -> dict[str, str]:
        """The check as plain data."""
        return {"what": self.what, "result": str(self.result), "detail": self.detail}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Check":
        """What `as_dict` gave."""
        return cls(
            what=data["what"], result=CheckResult(data["result"]), detail=data.get("detail", "")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A timed part of a run; `error` is empty when it went well."""

    name: str
    started_at: datetime
    duration: timedelta
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The step as plain data."""
        return {
            "name": self.name,
            "started_at": timestamp(self.started_at),
            "duration_seconds": round(self.duration.total_seconds(), 3),
            "error": self.error,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Step":
        """What `as_dict` gave."""
        return cls(
            name=data["name"],
            started_at=datetime.fromisoformat(data["started_at"]),
            duration=timedelta(seconds=data["duration_seconds"]),
            error=data.get("error", ""),
        )


def timestamp(moment: datetime) -> str:
    """A moment as records keep it: ``2026-11-22T14:03:05.120Z``."""
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def count(checks: tuple[Check, ...] | list[Check], result: CheckResult) -> int:
    """How many of the checks came out so."""
    return sum(check.result is result for check in checks)


def summary(checks: tuple[Check, ...] | list[Check]) -> str:
    """The checks in one clause: ``7 checks passed, 1 not run``; ``1 of 8 checks failed: it has every tablespace``."""
    passed, not_run = count(checks, CheckResult.PASSED), count(checks, CheckResult.NOT_RUN)
    failed = [check.what for check in checks if check.result is CheckResult.FAILED]
    if failed:
        return f"{len(failed)} of {len(checks)} checks failed: {'; '.join(failed)}"
    parts = [f"{passed} check{'s' if passed != 1 else ''} passed"] if passed else []
    if not_run:
        parts.append(f"{not_run} not run")
    return ", ".join(parts) or "no check was made"


def actor() -> str:
    """The account that runs this process, as the system knows it; the environment could say anything."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
