"""How fresh a cluster's protection is: a pure function of the backups, the WAL archive, what was tried, and now.

Silence is the failure that nobody reports: no backup came, and nothing says so. So what is judged first is the age of
the newest backup that is there, whatever anybody recorded; then what failed and did not succeed since; then the
archive. Nothing here trusts a clock: a backup of the future is not fresh, and what came later is told by the order of
the records, not by their times.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise

from opskit.model.backup import BaseBackup
from opskit.model.format import format_duration, format_time

GRACE = timedelta(
    hours=2
)  # five tries after a failure, or a backup that takes longer than the last one
SKEW = timedelta(minutes=5)  # the clocks of two hosts
NEWEST_BACKUP = "newest backup"
BACKUP, WAL_STREAM = "backup", "wal stream"  # as `OperationKind` calls them


class Severity(StrEnum):
    """How a finding stands: well; something failed and nothing is lost yet; what shall be restorable is not."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshnessFinding:
    """One thing that was judged: what, how bad it is, what was seen, and what to do where it is not well.

    `name` is the same for the same thing at every time, so that whoever was told of it need not be told again.
    """

    name: str
    severity: Severity
    message: str
    hint: str = ""

    @property
    def passed(self) -> bool:
        """Whether it is well."""
        return self.severity is Severity.OK


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Something that was tried and has ended (a stream of WAL: that goes on), well or not."""

    what: str
    passed: bool
    at: datetime
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveState:
    """The WAL archive: when something was stored last, and what was found wrong with it."""

    stored_at: datetime | None = None
    findings: tuple[FreshnessFinding, ...] = ()


def allowance(taken_for: datetime, times: Sequence[datetime]) -> timedelta:
    """How old a backup may become by the schedule: until the next one is due, and some grace.

    Parameters
    ----------
    taken_for
        The time of the schedule that it was taken for, or its start.
    times
        Times of the schedule: the last one up to that, and some after it. A backup that somebody took just before one
        of them is allowed the shortest of the intervals between them.
    """
    shortest = min(later - earlier for earlier, later in pairwise(times))
    return max(times[1] - taken_for, shortest) + GRACE


def judge_freshness(
    cluster: str,
    backups: Iterable[BaseBackup],
    now: datetime,
    *,
    allowed: Callable[[datetime], timedelta] | None = None,
    outcomes: Sequence[Outcome] = (),
    archive: ArchiveState | None = None,
    running_since: datetime | None = None,
) -> list[FreshnessFinding]:
    """What there is to say on a cluster's protection, what is well too.

    Parameters
    ----------
    allowed
        How old a backup may become that was taken for that time; `None` when no age is too old.
    outcomes
        The last ones begun first, whatever their times say.
    archive
        `None` when no WAL is kept.
    running_since
        When the backup began that is being taken.
    """
    held = sorted(backups, key=lambda backup: backup.stopped_at, reverse=True)
    return [
        _newest(cluster, held, now, allowed, running_since),
        *_failed(cluster, held, now, outcomes, archive),
        *(archive.findings if archive is not None else ()),
    ]


def _newest(
    cluster: str,
    backups: Sequence[BaseBackup],
    now: datetime,
    allowed: Callable[[datetime], timedelta] | None,
    running_since: datetime | None,
) -> FreshnessFinding:
    past = [backup for backup in backups if backup.stopped_at <= now + SKEW]
    if not past:
        return _none(cluster, backups, now, allowed, running_since)
    newest = past[0]
    age = now - newest.stopped_at
    told = f"the newest backup is {format_duration(age)} old"
    if allowed is None:
        message = f"{told}; neither a schedule nor stale_after says how old it may be"
        return _well(NEWEST_BACKUP, message)
    limit = allowed(newest.scheduled_for or newest.started_at)
    if age <= limit:
        return _well(NEWEST_BACKUP, f"{told}, up to {format_duration(limit)} is allowed")
    ahead = len(backups) - len(past)
    return FreshnessFinding(
        name=NEWEST_BACKUP,
        severity=Severity.CRITICAL,
        message=f"{told}, more than the {format_duration(limit)} allowed"
        + (f"; {ahead} of the future do not count" if ahead else ""),
        hint=_what_to_do(cluster),
    )


def _none(
    cluster: str,
    backups: Sequence[BaseBackup],
    now: datetime,
    allowed: Callable[[datetime], timedelta] | None,
    running_since: datetime | None,
) -> FreshnessFinding:
    """There is no backup, or none that was taken before now."""
    if backups:
        return FreshnessFinding(
            name=NEWEST_BACKUP,
            severity=Severity.CRITICAL,
            message=f"every backup is dated in the future, the newest {format_time(backups[0].stopped_at)}:"
            " a clock was set back, so its age is unknown",
            hint=f"Set the clocks right, then take a new one: 'opskit backup {cluster}'.",
        )
    if allowed is None:
        return _well(NEWEST_BACKUP, "there is no backup yet")
    if running_since is not None and abs(now - running_since) <= allowed(running_since):
        return _well(NEWEST_BACKUP, "the first backup is being taken")
    return FreshnessFinding(
        name=NEWEST_BACKUP,
        severity=Severity.CRITICAL,
        message="there is no backup",
        hint=_what_to_do(cluster),
    )


def _failed(
    cluster: str,
    backups: Sequence[BaseBackup],
    now: datetime,
    outcomes: Sequence[Outcome],
    archive: ArchiveState | None,
) -> list[FreshnessFinding]:
    """What failed, and nothing of its kind succeeded since."""
    found = []
    for what in dict.fromkeys(outcome.what for outcome in outcomes):
        last = next(outcome for outcome in outcomes if outcome.what == what)
        since = backups[0].stopped_at if backups and what == BACKUP else None
        if what == WAL_STREAM and archive is not None and archive.stored_at is not None:
            since = (
                archive.stored_at - SKEW
            )  # what it stored when it failed is none that came since
        if last.passed or (since is not None and last.at < since <= now + SKEW):
            continue
        found.append(
            FreshnessFinding(
                name=f"last {what}",
                severity=Severity.WARNING,
                message=f"failed at {format_time(last.at)}, and none succeeded since: {last.message}",
                hint=f"Remove the cause and run it again; 'opskit reports {cluster}' leads to the report of a runbook.",
            )
        )
    if outcomes and not found:
        return [_well("last operations", "nothing failed that has not succeeded since")]
    return found


def _well(name: str, message: str) -> FreshnessFinding:
    return FreshnessFinding(name=name, severity=Severity.OK, message=message)


def _what_to_do(cluster: str) -> str:
    return (
        "Check that 'opskit schedule run' or the platform's timer is running, and look at 'opskit schedule show';"
        f" 'opskit backup {cluster}' takes one now."
    )
