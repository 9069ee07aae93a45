"""How fresh a cluster's protection is, gathered from the repository, the catalog, the reports and the server."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from opskit.cluster._opened import OpenedCluster
from opskit.errors import ErrorKind, NotFoundError, OpskitError, StoreError
from opskit.model.backup import BaseBackup
from opskit.model.freshness import (
    ArchiveState,
    FreshnessFinding,
    Outcome,
    Severity,
    allowance,
    judge_freshness,
)
from opskit.model.operation import Operation, OperationKind, OperationStatus

if TYPE_CHECKING:
    from opskit.operations.check import Finding
    from opskit.operations.wal_status import WalStatus
    from opskit.reports.report import Report

_JUDGED = (OperationKind.BACKUP, OperationKind.WAL_STREAM, OperationKind.EXPIRE)
_RUNBOOKS = {"scheduled_backup": OperationKind.BACKUP, "expire_backups": OperationKind.EXPIRE}
_BAD = (OperationStatus.FAILED, OperationStatus.DIED)
_LOOKED_AT = 50  # operations of a kind
# Who was refused because it is done, or being done, has not failed.
_REFUSED = (ErrorKind.BACKED_UP_ALREADY, ErrorKind.BACKUP_RUNNING, ErrorKind.SLOT_IN_USE)
_STEADY = timedelta(minutes=1)  # a stream that ends sooner has not begun to flow
_BEGINNING = timedelta(minutes=5)
_FOLLOWING = 8  # times of the schedule, to find the shortest interval
_REMEMBERED = timedelta(days=7)  # a run that failed and that nobody repeats

Read = TypeVar("Read")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What was read of a cluster at one moment; what could not be read is empty, and its error is kept by its name."""

    at: datetime
    backups: Sequence[BaseBackup] = ()
    operations: Sequence[Operation] = ()
    reports: "Sequence[Report]" = ()
    wal: "WalStatus | None" = None
    errors: dict[str, OpskitError] = field(default_factory=dict)


class Fresh(OpenedCluster):
    """Whether backups and WAL come as they should."""

    def freshness(self, now: datetime | None = None) -> list[FreshnessFinding]:
        """What there is to say on the newest backup, what failed last, and the WAL archive; what is well, too.

        A server that is away costs nothing but the comparison with its log. What cannot be read is a finding.

        Parameters
        ----------
        now
            When it is judged; by default as soon as everything is read.
        """
        found = self.read_sources()
        return self.judge(found if now is None else replace(found, at=now))

    def allowed_age(self) -> Callable[[datetime], timedelta] | None:
        """How old a backup may become that was taken for a given time; `None` when nothing says so."""
        limit, schedule = self.configuration.stale_after, self.configuration.schedule
        if limit is not None:
            return lambda taken_for: limit
        if schedule is None:
            return None
        from cronsim import CronSim

        def by_schedule(taken_for: datetime) -> timedelta:
            minute = taken_for.replace(second=0, microsecond=0) + timedelta(minutes=1)
            last = next(CronSim(schedule, minute, reverse=True))
            return allowance(taken_for, [last, *islice(CronSim(schedule, last), _FOLLOWING)])

        return by_schedule

    def read_sources(self, patience_seconds: float = 15) -> Sources:
        """Read what is judged.

        Parameters
        ----------
        patience_seconds
            As `opskit.operations.wal_status.wal_status`.
        """
        errors: dict[str, OpskitError] = {}

        def read(name: str, what: Callable[[], Read], otherwise: Read) -> Read:
            try:
                return what()
            except OpskitError as error:
                errors[name] = error
            except OSError as error:  # of the reports' directory
                reason = (error.strerror or type(error).__name__).lower()
                errors[name] = StoreError(f"{error.filename!r} cannot be read: {reason}")
            return otherwise

        no_reports: list[Report] = []
        no_backups: list[BaseBackup] = []
        operations: list[Operation] = []
        operations = read("catalog", self._operations, operations)
        return Sources(
            operations=operations,
            reports=read("reports", self._reports, no_reports),
            wal=read("WAL archive", lambda: self._wal(patience_seconds), None),
            backups=read("repository", lambda: self._held(operations), no_backups),
            errors=errors,
            at=datetime.now(UTC),
        )

    def judge(self, found: Sources) -> list[FreshnessFinding]:
        """Judge what was read."""
        unreadable = [
            FreshnessFinding(
                name=name, severity=Severity.CRITICAL, message=error.message, hint=error.hint
            )
            for name, error in found.errors.items()
        ]
        backups = [o for o in found.operations if o.kind is OperationKind.BACKUP]
        running = [o.started_at for o in backups if o.status is OperationStatus.RUNNING]
        judged = judge_freshness(
            self.name,
            found.backups,
            found.at,
            allowed=self.allowed_age(),
            outcomes=_outcomes(found),
            archive=_archive(found),
            running_since=running[0] if running else None,
        )
        if "repository" in found.errors:
            judged = judged[1:]  # that there is no backup is not known
        return [*unreadable, *judged]

    def _operations(self) -> list[Operation]:
        return [
            operation
            for kind in _JUDGED
            for operation in self.catalog.operations(cluster=self.name, kind=kind, limit=_LOOKED_AT)
        ]

    def _held(self, operations: Sequence[Operation]) -> list[BaseBackup]:
        """The backups that are there; an error where nothing is, and something was: a disk that is not mounted."""
        backups = self.repository.backups(self.name)
        taken = [o for o in operations if o.kind is OperationKind.BACKUP]
        if backups or all(o.status is not OperationStatus.COMPLETE for o in taken):
            return backups
        try:
            self.repository.system_identifier(self.name)
        except NotFoundError as error:
            raise StoreError(
                f"{error.message}, though backups of it were taken",
                ErrorKind.STORE_UNREACHABLE,
                "See whether it is mounted, and whether repository.url still names it.",
            ) from None
        return backups

    def _reports(self) -> "list[Report]":
        from opskit.reports.index import read_reports

        return read_reports(self.settings.reports_directory, self.name)

    def _wal(self, patience_seconds: float) -> "WalStatus | None":
        from opskit.operations.wal_status import wal_status  # loads psycopg

        try:
            return wal_status(
                self.configuration, self.repository, patience_seconds=patience_seconds
            )
        except NotFoundError:  # nothing of the cluster is kept yet
            return None


def _outcomes(found: Sources) -> list[Outcome]:
    """What ended, the last first: runs that came to no operation, then operations in the order of the catalog."""
    told = [outcome for report in found.reports if (outcome := _of_run(report, found)) is not None]
    for operation in found.operations:
        at = operation.ended_at or operation.heartbeat_at
        if operation.status in _BAD:
            if not _was_refused(operation):
                message = (operation.error or {}).get("message") or "its process died"
                told.append(Outcome(what=operation.kind, passed=False, at=at, message=message))
        elif operation.status is OperationStatus.COMPLETE or (
            operation.kind is OperationKind.WAL_STREAM
            and operation.status is OperationStatus.RUNNING
            and abs(found.at - operation.started_at) >= _STEADY
        ):
            told.append(Outcome(what=operation.kind, passed=True, at=at))
    return told


def _was_refused(operation: Operation) -> bool:
    return (operation.error or {}).get("kind") in _REFUSED


def _of_run(report: "Report", found: Sources) -> Outcome | None:
    """How a run ended, where no operation of its own or a later one tells it."""
    if report.outcome not in ("passed", "failed", "died"):
        return None
    kind = _RUNBOOKS.get(report.runbook)
    if kind is None:
        if abs(found.at - report.started_at) > _REMEMBERED:
            return None
    elif report.outcome == "passed" or any(
        o.kind is kind and o.started_at >= report.started_at for o in found.operations
    ):
        return None
    return Outcome(
        what=kind or f"run of {report.runbook}",
        passed=report.outcome == "passed",
        at=report.started_at + (report.duration or timedelta()),
        message=report.reason or f"the run {report.name} {report.outcome}",
    )


def _archive(found: Sources) -> ArchiveState | None:
    status = found.wal
    if status is None:
        return None
    if not status.timelines:
        return _empty(status, found)
    faults: dict[str, FreshnessFinding] = {}
    for finding in status.findings:
        if not finding.passed and finding.name not in faults:
            faults[finding.name] = _fault(finding)
    gaps = [gap for gap in status.gaps if gap.matters]
    if len(gaps) > 1:
        told = f"{faults['gap'].message}; and {len(gaps) - 1} more"
        faults["gap"] = replace(faults["gap"], message=told)
    compared = "" if status.server else ", not compared with the server, which does not answer"
    well = FreshnessFinding(
        name="WAL archive",
        severity=Severity.OK,
        message=f"up to {status.end} on timeline {status.timeline}{compared}",
    )
    return ArchiveState(stored_at=status.stored_at, findings=tuple(faults.values()) or (well,))


def _fault(finding: "Finding") -> FreshnessFinding:
    lost = finding.name in ("gap", "slot")
    return FreshnessFinding(
        name=f"WAL {finding.name}" if finding.name != "newest backup" else "WAL behind the backup",
        severity=Severity.CRITICAL if lost else Severity.WARNING,
        message=finding.message,
        hint=finding.hint,
    )


def _empty(status: "WalStatus", found: Sources) -> ArchiveState | None:
    """Nothing is stored: nobody wants it, or somebody has just begun, or it does not come."""
    begun = [
        o.started_at
        for o in found.operations
        if o.kind is OperationKind.WAL_STREAM and o.status is OperationStatus.RUNNING
    ]
    if begun and abs(found.at - begun[0]) <= _BEGINNING:
        return None
    if not begun and (status.server is None or status.server.slot is None):
        return None
    return ArchiveState(findings=tuple(_fault(f) for f in status.findings if not f.passed))
