"""Delete one backup by hand: planned and shown first, then carried out as an expire is.

The policy is what lets backups go (`opskit.operations.expire`); this is for the one that somebody points at. What is
held, read at the moment or needed by an increment is refused, and so is the last one of a server, unless that is said.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from opskit.errors import ConflictError, ErrorKind, InputError
from opskit.model.backup import BaseBackup
from opskit.model.retention import Decision
from opskit.operations.expire import (
    Expired,
    ExpirePlan,
    execute_expire,
    unneeded_wal,
    whole_survey,
)
from opskit.operations.monitor import Monitor
from opskit.repository import Repository


def plan_delete(
    repository: Repository,
    cluster: str,
    name: str,
    now: datetime,
    *,
    in_use: Mapping[str, str] | None = None,
    even_last: bool = False,
) -> ExpirePlan:
    """What deleting the backup `name` takes away: it, and the WAL that no other backup needs. Nothing is changed.

    Parameters
    ----------
    in_use
        For backups that something reads at the moment: by what, in words.
    even_last
        Whether it may be the only backup of its server.

    Raises
    ------
    InputError
        The backup is not named in full.
    NotFoundError
        There is no such backup.
    ConflictError
        It is held, in use, the parent of another backup, or the last one.
    IntegrityError
        As `opskit.operations.expire.plan_expire`.
    """
    if name == "latest":
        raise InputError(
            "a backup that is to be deleted is named 'latest', expected its own name",
            hint=f"List the names with 'opskit backups {cluster}'.",
        )
    backup = repository.backup(cluster, name)
    survey = whole_survey(repository, cluster)
    others = [other for other in survey.backups if other.name != name]
    _refuse_needed(repository, backup, others, now, in_use or {})
    if not even_last and not any(_lineage(other) == _lineage(backup) for other in others):
        raise ConflictError(
            f"backup {name!r} is the last one of system identifier {backup.system_identifier}",
            ErrorKind.BACKUP_KEPT,
            "Take another one first; or insist, by --even-last or even_last=True.",
        )
    running = any(not repository.is_abandoned(cluster, n, now) for n in survey.incomplete)
    return ExpirePlan(
        cluster=cluster,
        decisions=tuple(
            Decision(b, False, ("to be deleted",))
            if b.name == name
            else Decision(b, True, ("not meant",))
            for b in survey.backups
        ),
        abandoned=(),
        wal=tuple(unneeded_wal(repository, cluster, others, backup_running=running)),
    )


def execute_delete(
    plan: ExpirePlan,
    repository: Repository,
    now: datetime,
    monitor: Monitor,
    *,
    in_use: Callable[[], Mapping[str, str]] = dict,
) -> Expired:
    """Carry out the plan of a delete; parameters as `opskit.operations.expire.execute_expire`.

    Raises
    ------
    ConflictError
        The backup is held, read, or the parent of a newer one, since the plan.
    IntegrityError, StoreError
        As `opskit.operations.expire.execute_expire`; what is left is no backup, and the next expire removes it.
    Cancelled
        The monitor asked for the end; what is removed stays removed.
    """
    done = execute_expire(plan, repository, now, monitor, in_use=in_use)
    for name, reason in done.kept_after_all.items():
        raise _kept(name, reason)
    return done


def _refuse_needed(
    repository: Repository,
    backup: BaseBackup,
    others: Sequence[BaseBackup],
    now: datetime,
    in_use: Mapping[str, str],
) -> None:
    hold = repository.holds(backup.cluster).of(backup.name)
    if hold is not None and hold.holds(now):
        raise _kept(backup.name, hold.words, f"opskit release {backup.cluster} {backup.name}")
    if backup.name in in_use:
        raise _kept(backup.name, in_use[backup.name])
    children = [other.name for other in others if other.parent == backup.name]
    if children:
        raise _kept(
            backup.name,
            f"parent of {', '.join(children)}",
            f"opskit delete {backup.cluster} {children[0]}",
        )


def _kept(name: str, reason: str, first: str = "") -> ConflictError:
    return ConflictError(
        f"backup {name!r} is not deleted: {reason}",
        ErrorKind.BACKUP_KEPT,
        f"Run '{first}' first." if first else "Try again when that has ended.",
    )


def _lineage(backup: BaseBackup) -> tuple[str, int]:
    return backup.system_identifier, backup.major
