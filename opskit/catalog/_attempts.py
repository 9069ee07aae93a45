"""What was tried of the scheduled backups of many clusters, in one query, for a planner that asks it several times a
minute.

Of each cluster only the newest rows are looked at, along the index by cluster, so that the cost is that of the number
of clusters, however long the history is.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from sqlalchemy import Connection, text

from opskit.model.backup import Trigger
from opskit.model.operation import OperationKind, OperationStatus
from opskit.model.schedule import Attempt

# More backups of one cluster in one period than these are not looked at. Who then takes a period for due that is not
# does no harm: whether it has its backup is asked again before anything is begun.
_LOOKED_AT = 20

_QUERY = text(
    """
SELECT asked.cluster, found.status, found.backup, found.at, found.started_at,
       found.parameters ->> 'scheduled_for', now() - found.heartbeat_at > :limit
  FROM unnest(CAST(:clusters AS text[]), CAST(:since AS timestamptz[])) AS asked (cluster, since)
 CROSS JOIN LATERAL (
       SELECT o.status, o.backup, o.parameters, o.started_at, o.heartbeat_at,
              coalesce(o.ended_at, o.heartbeat_at) AS at
         FROM opskit_operations AS o
        WHERE o.cluster = asked.cluster AND o.kind = :kind
        ORDER BY o.number DESC
        LIMIT :looked_at
       ) AS found
 WHERE found.at >= asked.since AND found.parameters ->> 'trigger' = :trigger
 ORDER BY asked.cluster, found.at
"""
)


def read_attempts(
    connection: Connection, since: Mapping[str, datetime], limit: object
) -> dict[str, list[Attempt]]:
    """Of each cluster what ended, or was alive, since its time; the oldest first.

    A running row whose heartbeat is older than `limit` reads as died.
    """
    asked = {
        "clusters": list(since),
        "since": list(since.values()),
        "kind": str(OperationKind.BACKUP),
        "trigger": str(Trigger.SCHEDULED),
        "limit": limit,
        "looked_at": _LOOKED_AT,
    }
    found: dict[str, list[Attempt]] = {}
    for cluster, status, backup, at, started_at, scheduled_for, is_late in connection.execute(
        _QUERY, asked
    ):
        died = is_late and status == OperationStatus.RUNNING
        period = datetime.fromisoformat(scheduled_for) if scheduled_for else started_at
        found.setdefault(cluster, []).append(
            Attempt(
                period=period.astimezone(UTC),
                status=OperationStatus.DIED if died else OperationStatus(status),
                backup=backup,
                at=at.astimezone(UTC),
            )
        )
    return found
