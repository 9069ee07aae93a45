"""What the cells of ``point_in_time_restore.ipynb`` call, beside those of ``local_restore.ipynb``."""

from datetime import datetime
from pathlib import Path

import pandas as pd

from opskit.cluster import Cluster
from opskit.errors import OpskitError, RecoveryError
from opskit.local_copy import CopyServer, LocalCopy
from opskit.model.lsn import Lsn
from opskit.model.target import TargetArguments, TargetKind, parse_target, time_text
from opskit.operations.check import Finding
from opskit.operations.monitor import SilentMonitor
from opskit.operations.recover import await_target, read_recovery
from opskit.operations.recoverable import recoverable_intervals
from opskit.operations.recovery import RecoveryPlan
from opskit.reports.charts import recoverability_chart
from opskit.reports.drawing import Chart
from opskit.reports.format import format_bytes
from opskit.reports.view import View, facts, time_and_local
from opskit.runbooks import local_restore
from opskit.runbooks._evidence import facts_of
from opskit.runbooks.contract import Run

# Between the end of a record and the beginning of the next one lies at most the header of a page (PostgreSQL,
# ``XLogLongPageHeaderData``).
_PAGE_HEADER_BYTES = 40


def goal(at: str) -> TargetArguments:
    """The target that the parameter `at` names: a time, or when it is empty, the archive's end."""
    return {"at": at} if at else {"latest": True}


def source(main: Cluster) -> View:
    """Which cluster it is, and what there is of it. The running server is not asked: it may be gone."""
    newest, backups = main.backup(), main.repository.backups(main.name)
    return facts(
        {
            "Cluster": newest.cluster,
            "System identifier": newest.system_identifier,
            "PostgreSQL": newest.postgresql_version,
            "Repository": main.repository.url,
            "Backups": f"{len(backups)}, the newest is {newest.name}, {time_and_local(newest.started_at)}",
        }
    )


def plan(run: Run, main: Cluster, place: Path, at: str) -> RecoveryPlan:
    """How the target will be reached; stops the run when it cannot be, or when a restore into `place` would fail.

    Raises
    ------
    ChecksFailed
        A precondition does not hold.
    """
    planned, finding = _planned(main, at)
    findings = [finding]
    if planned is not None:
        wal_bytes = len(planned.path.names) * planned.backup.wal_segment_bytes
        findings += local_restore.preconditions(main, planned.backup, place, wal_bytes)
    run.require(findings)
    assert planned is not None  # or its finding had failed
    return planned


def _planned(main: Cluster, at: str) -> tuple[RecoveryPlan | None, Finding]:
    try:
        target = parse_target(**goal(at))
        assert target is not None
        planned = main.plan_recovery(target)
    except OpskitError as error:
        return None, Finding(name="target", passed=False, message=error.message, hint=error.hint)
    return planned, Finding(
        name="target",
        passed=True,
        message=f"{target} can be reached from backup {planned.backup.name}",
    )


def steps(main: Cluster, planned: RecoveryPlan, place: Path, keep: bool) -> View:
    """What is going to be done."""
    backup, path = planned.backup, planned.path
    timelines = sorted({segment.timeline for segment in path.names}) or [planned.timeline]
    count = len(path.names)
    needed = format_bytes(count * backup.wal_segment_bytes)
    return facts_of(
        backup,
        {
            "Recover to": str(planned.target),
            "From backup": f"{backup.name} of {backup.cluster!r}: {planned.why}",
            "WAL": f"{_segments(count)}, {needed}" if count else "none",
            "Timelines": " → ".join(map(str, timelines)),
            "Read": f"{format_bytes(backup.stored_bytes)} and the WAL from {main.repository.url}",
            "Write": f"{format_bytes(backup.cluster_bytes)} and the WAL to {place}",
            "Then": "start the copy, recover it, ask it questions, check its tables and indexes, stop it",
            "At the end": "the copy is kept" if keep else "the copy is removed",
        },
    )


def coverage(main: Cluster, at: str) -> Chart:
    """Which times can be restored at all, and where among them the target is."""
    target = parse_target(**goal(at))
    time = target.value if target is not None else None
    intervals = recoverable_intervals(main.repository, main.name, main.settings.postgres)
    return recoverability_chart(intervals, time if isinstance(time, datetime) else None)


def verify_target(run: Run, copy: LocalCopy, server: CopyServer, planned: RecoveryPlan) -> None:
    """Hold what recovery reached, by the server's log and its own functions, against the plan."""
    recovery = read_recovery(copy.directory)
    assert recovery is not None  # the copy was restored with a target
    try:
        told = await_target(server.server, recovery, 0, SilentMonitor()).stopped
        reached = True
    except RecoveryError as error:
        told, reached = error.message, False
    run.check("recovery reached the target", reached, told)
    row = server.query(
        "select pg_last_wal_replay_lsn()::text as lsn, pg_last_xact_replay_timestamp() as at"
    ).iloc[0]
    lsn = Lsn.parse(row.lsn) if row.lsn else Lsn(0)
    expected, as_planned = _against_plan(lsn, planned)
    run.check(
        "it replayed the log up to where the plan says",
        as_planned,
        f"up to {lsn}, the plan is {expected}",
    )
    if isinstance(planned.target.value, datetime):
        last = None if pd.isna(row["at"]) else row["at"].to_pydatetime()
        run.check(
            "no transaction behind the target is in the copy",
            last is None or last <= planned.target.value,
            f"the last one that was replayed ended at {time_text(last)}"
            if last
            else "none was replayed",
        )


def _against_plan(lsn: Lsn, planned: RecoveryPlan) -> tuple[str, bool]:
    """What the plan expects of the address that was reached, in words, and whether it holds."""
    if planned.target.kind is TargetKind.TIME and planned.stops_at is not None:
        short = planned.stops_at - lsn
        return f"to stop before {planned.stops_at}", 0 <= short <= _PAGE_HEADER_BYTES
    if planned.stops_at is not None:
        return f"to replay the record at {planned.stops_at}", lsn > planned.stops_at
    if planned.last_record is not None:
        return f"to replay the record at {planned.last_record}, the last one", (
            lsn > planned.last_record
        )
    return f"to reach the backup's end at {planned.backup.stop_lsn}", lsn >= planned.backup.stop_lsn


def _segments(count: int) -> str:
    return f"{count:,} segment{'s' if count != 1 else ''}"
