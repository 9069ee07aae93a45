"""How long a restore will take, by how long earlier ones took."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from statistics import median

from opskit.model.operation import Operation, OperationKind, OperationStatus
from opskit.operations.restore import Layout, RestorePlan

_LEAST_SECONDS = 0.05
_LOOKED_AT = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A duration, and what it is based on: the median rate, in bytes a second, of so many restores."""

    duration: timedelta
    bytes_per_second: float
    restores: int


def predict_restore(
    operations: Iterable[Operation], plan: RestorePlan, host: str
) -> Prediction | None:
    """How long the restore of a plan will take, recovery not counted; `None` where no earlier one tells.

    Parameters
    ----------
    operations
        The newest first, of any cluster; the last 20 restores on `host` that were completed count.
    """
    rates = [
        written / seconds
        for operation in operations
        if operation.kind is OperationKind.RESTORE
        and operation.status is OperationStatus.COMPLETE
        and operation.host == host
        and operation.ended_at is not None
        and (written := operation.progress.bytes_done) > 0
        and (seconds := (operation.ended_at - operation.started_at).total_seconds())
        > _LEAST_SECONDS
    ][:_LOOKED_AT]
    if not rates:
        return None
    rate = median(rates)
    return Prediction(
        duration=timedelta(seconds=bytes_to_write(plan) / rate),
        bytes_per_second=rate,
        restores=len(rates),
    )


def bytes_to_write(plan: RestorePlan) -> int:
    """What a restore writes: the backup's files, and the WAL that is brought beside them."""
    total = plan.backup.cluster_bytes
    if plan.recovery is not None and plan.layout is Layout.ARCHIVE:
        total += len(plan.recovery.path.names) * plan.backup.wal_segment_bytes
    return total
