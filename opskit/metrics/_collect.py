"""One look at a cluster, as samples."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cronsim import CronSim

from opskit.cluster import Cluster
from opskit.model.backup import BaseBackup, Trigger
from opskit.model.operation import Operation, OperationKind, OperationStatus
from opskit.model.schedule import ScheduleState, schedule_state
from opskit.operations.wal_status import WalStatus

SOURCES = ("repository", "catalog", "reports", "WAL archive", "server")
SLOT_STATES = ("reserved", "extended", "unreserved", "lost")
_FAILED = (OperationStatus.FAILED, OperationStatus.DIED)
# Those that `Cluster.read_sources` reads.
_KINDS = (OperationKind.BACKUP, OperationKind.EXPIRE, OperationKind.WAL_STREAM)

_Value = float | datetime | timedelta | None
_Values = Iterator[tuple[str, _Value, dict[str, str]]]


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of the metric that `opskit.metrics._exposition` describes under `name`."""

    name: str
    value: float
    labels: Mapping[str, str]


def collect(cluster: Cluster) -> list[Sample]:
    """Everything that can be read of a cluster now. Nothing is waited for, and nothing but a fault raised."""
    found = cluster.read_sources(patience_seconds=0)
    failed = set(found.errors)
    if found.wal is not None and found.wal.server is None:
        failed.add("server")
    # Without an archive the server is not asked.
    sources = [s for s in SOURCES if s != "server" or found.wal is not None]
    told: list[tuple[str, _Value, dict[str, str]]] = []
    if "repository" not in failed:
        told += _backups(cluster, found.backups)
    if "catalog" not in failed:
        told += _operations(found.operations)
    if not failed & {"repository", "catalog"}:
        told += _schedule(cluster, found.backups, found.operations, found.at)
    if found.wal is not None:
        told += _wal(found.wal)
    told += [
        ("finding_failing", not finding.passed, {"finding": finding.name})
        for finding in cluster.judge(found)
    ]
    told += [("source_up", source not in failed, {"source": source}) for source in sources]
    told += [("up", not failed, {}), ("collected_timestamp_seconds", found.at, {})]
    return [
        Sample(name, _number(value), {"cluster": cluster.name, **labels})
        for name, value, labels in told
        if value is not None
    ]


def _number(value: float | datetime | timedelta) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value.timestamp() if isinstance(value, datetime) else float(value)


def _backups(cluster: Cluster, backups: Sequence[BaseBackup]) -> _Values:
    yield "backups", len(backups), {}
    yield "backups_stored_bytes", sum(backup.stored_bytes for backup in backups), {}
    last: dict[tuple[str, str], datetime] = {}
    for backup in backups:
        key = (str(backup.kind), str(backup.trigger))
        last[key] = max(backup.stopped_at, last.get(key, backup.stopped_at))
    for (kind, trigger), at in last.items():
        yield "backup_last_success_timestamp_seconds", at, {"kind": kind, "trigger": trigger}
    if not backups:
        return
    newest = max(backups, key=lambda backup: backup.stopped_at)
    yield "backup_newest_duration_seconds", newest.stopped_at - newest.started_at, {}
    yield "backup_newest_cluster_bytes", newest.cluster_bytes, {}
    yield "backup_newest_stored_bytes", newest.stored_bytes, {}
    allowed = cluster.allowed_age()
    if allowed is not None:
        limit = allowed(newest.scheduled_for or newest.started_at)
        yield "backup_allowed_age_seconds", limit, {}


def _operations(operations: Sequence[Operation]) -> _Values:
    for kind in _KINDS:
        ours = [operation for operation in operations if operation.kind is kind]
        running = sum(operation.status is OperationStatus.RUNNING for operation in ours)
        yield "operations_running", running, {"kind": str(kind)}
        for name, statuses in (
            ("operation_last_failure_timestamp_seconds", _FAILED),
            ("operation_last_success_timestamp_seconds", (OperationStatus.COMPLETE,)),
        ):
            ended = [o.ended_at or o.heartbeat_at for o in ours if o.status in statuses]
            if ended:
                yield name, max(ended), {"kind": str(kind)}


def _schedule(
    cluster: Cluster, backups: Sequence[BaseBackup], operations: Sequence[Operation], now: datetime
) -> _Values:
    schedule = cluster.configuration.schedule
    if schedule is None:
        return
    state = _state(cluster, schedule, backups, operations, now)
    due = state.next_period if state.backup is not None else state.not_before
    yield "schedule_next_due_timestamp_seconds", due, {}
    yield "schedule_failures", state.failures, {}


def _state(
    cluster: Cluster,
    schedule: str,
    backups: Sequence[BaseBackup],
    operations: Sequence[Operation],
    now: datetime,
) -> ScheduleState:
    minute = now.replace(second=0, microsecond=0) + timedelta(minutes=1)
    return schedule_state(
        cluster.name,
        next(CronSim(schedule, minute, reverse=True)),
        next(CronSim(schedule, now)),
        [backup for backup in backups if backup.trigger is Trigger.SCHEDULED],
        now,
        failed_at=[
            operation.ended_at or operation.heartbeat_at
            for operation in operations
            if operation.kind is OperationKind.BACKUP
            and operation.status in _FAILED
            and operation.parameters.get("trigger") == str(Trigger.SCHEDULED)
        ],
        jitter=cluster.settings.scheduler.jitter,
    )


def _wal(status: WalStatus) -> _Values:
    gaps = [gap for gap in status.gaps if gap.matters]
    yield "wal_gaps", len(gaps), {}
    yield "wal_missing_segments", sum(gap.segments for gap in gaps), {}
    stored = sum(held.stored_bytes for one in status.timelines for held in one.ranges)
    yield "wal_stored_bytes", stored, {}
    if status.end is not None:
        yield "wal_archive_end_lsn_bytes", int(status.end), {}
    yield "wal_last_stored_timestamp_seconds", status.stored_at, {}
    yield "wal_behind_bytes", status.behind_bytes, {}
    yield "wal_behind_seconds", status.behind, {}
    if status.server is None:
        return
    slot = status.server.slot
    yield "wal_slot_exists", slot is not None, {}
    if slot is None:
        return
    yield "wal_slot_active", slot.is_active, {}
    for state in SLOT_STATES:
        yield "wal_slot_status", slot.wal_status == state, {"status": state}
    if slot.restart_lsn is not None:
        kept = max(status.server.flushed_lsn - slot.restart_lsn, 0)
        yield "wal_slot_kept_bytes", kept, {}
    yield "wal_slot_safe_bytes", slot.safe_bytes, {}
