"""Whether a cluster is still being backed up, asked where it cannot be mistaken: of the cluster itself.

A worker that shows no sign of life may be dead, or only cut off from the queue while its backup goes on. A backup
holds a lock and a slot on its cluster for as long as it runs, and they go with its connections.
"""

from opskit.config import ClusterSettings
from opskit.errors import OpskitError
from opskit.operations.backup import SLOT
from opskit.postgres.connection import connect
from opskit.postgres.facts import backup_is_running, slot_facts


def still_held(cluster: ClusterSettings) -> str | None:
    """Why a job of the cluster must be left alone; `None` when nobody backs it up."""
    try:
        connection = connect(cluster.conninfo)
        try:
            running = backup_is_running(connection)
            slot = slot_facts(connection, SLOT)
        finally:
            connection.close()
    except OpskitError as error:
        # Unreachable from here is not unreachable from there.
        return f"whether it is still backed up is not known: {error.message}"
    if running is not None:
        return running.message
    if slot is not None and slot.is_active:
        return "another backup of this cluster is running"
    return None
