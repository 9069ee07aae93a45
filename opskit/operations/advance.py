"""Move a copy that is held at its target on, without copying its files again."""

import time

from opskit.errors import ConflictError, ErrorKind, InputError
from opskit.operations.copy import RestoredCopy
from opskit.operations.monitor import Monitor
from opskit.operations.recover import fetch_wal, write_target
from opskit.operations.recovery import RecoveryPlan
from opskit.postgres.server import LocalServer
from opskit.repository import Repository

_POLL_SECONDS = 0.1
_ONLY_FORWARD = "A copy moves only forward: restore again to go back."


def advance(
    copy: RestoredCopy,
    plan: RecoveryPlan,
    repository: Repository,
    monitor: Monitor,
    *,
    paused: bool,
    owner: tuple[int, int] | None,
) -> LocalServer:
    """Recover a held copy on to the plan's target; its server runs at the end, as it did or not before.

    Parameters
    ----------
    paused
        Whether it is held there again, or becomes a server of its own.
    owner
        (uid, gid) that new files are given to; `None` for the running user.

    Raises
    ------
    ConflictError
        The copy is no longer recovering.
    InputError
        The target lies before what the copy has reached.
    RecoveryError
        Recovery ended short of the target.
    """
    if not copy.is_recovering:
        raise ConflictError(
            f"the copy in {str(copy.directory)!r} has become a server of its own, or never had a target",
            ErrorKind.SERVER_RUNNING,
            "Only a copy that was restored with --pause can be moved on; restore again with it.",
        )
    if plan.backup.name != copy.backup:
        raise InputError(
            f"the target is reached from backup {plan.backup.name!r}, the copy is of {copy.backup!r}",
            hint="Name a target on the copy's timeline, or restore again.",
        )
    server = copy.attached() or copy.start(monitor=monitor)
    [[reached]] = server.query("SELECT pg_last_wal_replay_lsn() - '0/0'").rows
    if plan.stops_at is not None and plan.stops_at < int(reached):
        raise InputError(f"{plan.target} lies before what the copy has reached", hint=_ONLY_FORWARD)
    copy.stop()
    fetch_wal(plan, repository.known_wal(plan.backup.cluster), copy.directory, monitor, owner=owner)
    write_target(plan, copy.directory / "snapshot", paused=paused, owner=owner)
    return copy.start(monitor=monitor)


def promote(copy: RestoredCopy) -> LocalServer:
    """End the recovery of a held copy where it is: it becomes a server of its own, and runs.

    Raises
    ------
    ConflictError
        It is no longer recovering.
    """
    if not copy.is_recovering:
        raise ConflictError(
            f"the copy in {str(copy.directory)!r} is not recovering",
            ErrorKind.SERVER_RUNNING,
            "It has been promoted already, or never had a target.",
        )
    server = copy.attached() or copy.start()
    server.query("SELECT pg_wal_replay_resume()")
    while server.query("SELECT pg_is_in_recovery()").rows[0][0]:
        time.sleep(_POLL_SECONDS)
    return server
