"""Plan a recovery: which backup, through which WAL, and whether the target can be reached at all.

A target that cannot be reached is refused here, before anything is copied. PostgreSQL could not tell: to it a missing
segment is the end of the log.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NoReturn

from opskit.config import PostgresSettings
from opskit.errors import ErrorKind, InputError, NotFoundError, RecoveryError
from opskit.model.backup import BaseBackup
from opskit.model.lsn import Lsn
from opskit.model.shown import Shown
from opskit.model.target import (
    BACKUP_TIMELINE,
    NEWEST_TIMELINE,
    RecoveryTarget,
    TargetKind,
    time_text,
)
from opskit.model.timeline import Stretch, TimelineHistory, first_timeline
from opskit.model.wal import WalSegment
from opskit.operations.wal_path import LogReader, PathFinder, WalPath
from opskit.operations.wal_search import find_target
from opskit.postgres.programs import Programs, find_programs
from opskit.repository import Repository
from opskit.repository.wal import WalArchive


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPlan(Shown):
    """How a target will be reached.

    `why` says in words why this backup; `path` is the WAL that is needed, up to the target and no further; `stops_at`
    is where the record begins that ends the recovery, `None` where that is the backup's end or the archive's;
    `last_record` is where the archive's last record begins, for a recovery to the archive's end.
    """

    backup: BaseBackup
    target: RecoveryTarget
    path: WalPath
    why: str
    stops_at: Lsn | None = None
    last_record: Lsn | None = None

    def __repr__(self) -> str:
        count = len(self.path.segments)
        return (
            f"<opskit plan: reach {self.target} from backup {self.backup.name} of {self.backup.cluster!r}"
            f" by {count:,} WAL segment{'s'[: count != 1]} on timeline {self.timeline}; nothing is done yet>"
        )

    @property
    def timeline(self) -> int:
        """The timeline that the recovery follows."""
        return self.path.history.timeline


class RecoveryPlanner:
    """Plans recoveries of one cluster from its backups and its WAL archive.

    Parameters
    ----------
    backups
        The complete backups, newest first.
    programs
        PostgreSQL's programs of the cluster's major version: ``pg_waldump`` reads the archive.
    """

    def __init__(
        self, backups: Sequence[BaseBackup], archive: WalArchive, programs: Programs
    ) -> None:
        self._backups = backups
        self._archive = archive
        self._programs = programs
        self._finder = PathFinder(archive)

    def plan(self, target: RecoveryTarget, backup: str | None = None) -> RecoveryPlan:
        """The plan for a target, from `backup` or from the newest one that leads there.

        Raises
        ------
        InputError
            `backup` ends behind the target.
        RecoveryError
            The target cannot be reached; the hint names what can.
        """
        history = self._history(target)
        chosen = [b for b in self._backups if backup is None or b.name == backup]
        candidates = [
            b for b in chosen if history is None or history.passes(b.timeline, b.stop_lsn)
        ]
        if not candidates:
            raise RecoveryError(
                f"no backup lies on the way to timeline {history.timeline if history else target.timeline}",
                hint="See the timelines with 'opskit wal status', and name one by --timeline.",
            )
        before = [b for b in candidates if _ends_before(b, target)]
        if not before:
            self._refuse_early(target, candidates, named=backup is not None)
        for candidate in before:
            path = self._finder.from_backup(
                candidate, history or own_history(self._archive, candidate)
            )
            plan = self._plan_on(target, candidate, path)
            if plan is not None:
                return plan
            if target.kind not in (TargetKind.XID, TargetKind.RESTORE_POINT):
                self._refuse_late(target, candidate, path)
        raise RecoveryError(
            f"the archive holds no {target}",
            hint="Look for it with pg_waldump, or name a time.",
        )

    def _history(self, target: RecoveryTarget) -> TimelineHistory | None:
        """The history to follow; `None` for each backup's own."""
        if target.timeline == BACKUP_TIMELINE:
            return None
        if target.timeline == NEWEST_TIMELINE:
            for history in self._finder.histories:
                if any(history.passes(b.timeline, b.stop_lsn) for b in self._backups):
                    return history
            return (
                own_history(self._archive, self._backups[0]) if self._backups else first_timeline()
            )
        for history in self._finder.histories:
            if history.timeline == target.timeline:
                return history
        raise RecoveryError(
            f"the archive does not know timeline {target.timeline}",
            hint=f"It knows {', '.join(str(h.timeline) for h in reversed(self._finder.histories)) or 'none'}.",
        )

    def _plan_on(
        self, target: RecoveryTarget, backup: BaseBackup, path: WalPath
    ) -> RecoveryPlan | None:
        """The plan along a path; `None` when the path does not lead to the target."""
        if target.kind is TargetKind.IMMEDIATE:
            return RecoveryPlan(
                backup=backup,
                target=target,
                path=_shortened(path, 0),
                why="the newest backup; no WAL after it is needed",
            )
        if not path.names:
            return _at_the_end(target, backup, path)
        reader = LogReader(self._archive, self._programs, path)
        if target.kind is TargetKind.LATEST:
            if path.gap is not None:
                return None
            return RecoveryPlan(
                backup=backup,
                target=target,
                path=path,
                why="the newest backup from which the archive leads to its end without a gap",
                last_record=reader.last_record(),
            )
        found = find_target(target, backup.stop_lsn, path, reader)
        if found is None:
            return self._to_the_last(target, backup, path, reader)
        index, stops_at = found
        return RecoveryPlan(
            backup=backup,
            target=target,
            path=_shortened(path, index + 1),
            why=f"the newest backup that ends before {_plain(target)}",
            stops_at=stops_at,
        )

    def _to_the_last(
        self, target: RecoveryTarget, backup: BaseBackup, path: WalPath, reader: LogReader
    ) -> RecoveryPlan | None:
        """The plan for the very time of the path's last transaction.

        PostgreSQL stops at a time only before a later transaction, and would look for one in vain; so the plan names
        the transaction instead. It may lie behind the backup's end although its time does not: a standby is behind
        its primary.
        """
        last = reader.last_end()
        if last is None or last[1].lsn < backup.stop_lsn:
            return _at_the_end(target, backup, path)
        if target.value != max(last[1].at, backup.stopped_at) or not target.inclusive:
            return None
        return RecoveryPlan(
            backup=backup,
            target=replace(target, kind=TargetKind.XID, value=last[1].xid, words=str(target)),
            path=_shortened(path, last[0] + 1),
            why=f"the newest backup that ends before {_plain(target)}, the time of the last transaction",
            stops_at=last[1].lsn,
        )

    def _refuse_early(
        self, target: RecoveryTarget, candidates: Sequence[BaseBackup], *, named: bool
    ) -> NoReturn:
        first = candidates[-1]
        nearest = (
            f"the earliest that can be reached is {time_text(first.stopped_at)} ({first.stop_lsn}),"
            f" where backup {first.name} ends"
        )
        if named:
            raise InputError(
                f"backup {first.name!r} ends behind {target}",
                hint=f"{nearest[0].upper()}{nearest[1:]}; leave --backup out to have an older one chosen.",
            )
        raise RecoveryError(
            f"{target} lies before the first backup's end",
            hint=f"{nearest[0].upper()}{nearest[1:]}.",
        )

    def _refuse_late(self, target: RecoveryTarget, backup: BaseBackup, path: WalPath) -> NoReturn:
        if not path.names and path.gap is None:
            begins = WalSegment.ending_at(
                backup.stop_lsn, path.history.timeline, self._archive.segment_bytes
            )
            raise RecoveryError(
                f"the archive does not lead on from backup {backup.name!r}: it does not hold WAL segment {begins.name}",
                hint=f"Keep 'opskit wal stream {backup.cluster}' running; until then only the backup's end can be"
                f" reached, {time_text(backup.stopped_at)}, by leaving the target out.",
            )
        before = LogReader(self._archive, self._programs, path).last_end()
        shown = (
            f"{time_text(max(before[1].at, backup.stopped_at))} ({before[1].lsn})"
            if before and before[1].lsn >= backup.stop_lsn
            else f"{time_text(backup.stopped_at)} ({backup.stop_lsn})"
        )
        if path.gap is None:
            raise RecoveryError(
                f"{target} lies behind the last transaction in the archive",
                hint=f"The latest that can be reached is {shown}; --latest recovers to the archive's end.",
            )
        later = [b for b in self._backups if b.start_lsn >= path.gap.end]
        after = (
            f"; the next one behind it is {time_text(later[-1].stopped_at)}, where backup {later[-1].name} ends"
            if later
            else ""
        )
        raise RecoveryError(
            f"WAL segment {path.gap.name} is missing on the way to {target}",
            ErrorKind.WAL_GAP,
            f"The latest before the gap that can be reached is {shown}{after}.",
        )


def _plain(target: RecoveryTarget) -> str:
    """A target within a sentence: a time speaks for itself."""
    return str(target).removeprefix("time ")


def recovery_planner(
    repository: Repository, cluster: str, postgres: PostgresSettings
) -> RecoveryPlanner:
    """A planner for a cluster as its repository is now.

    Raises
    ------
    NotFoundError
        The repository has no backup of the cluster, or this machine no programs of its major version.
    """
    newest = repository.backup(cluster)
    return RecoveryPlanner(
        repository.backups(cluster),
        repository.known_wal(cluster),
        find_programs(newest.major, postgres.programs),
    )


def own_history(archive: WalArchive, backup: BaseBackup) -> TimelineHistory:
    """The history of a backup's own timeline; of that timeline alone where the archive knows no more."""
    try:
        return archive.history(backup.timeline)
    except NotFoundError:
        return TimelineHistory(backup.timeline, (Stretch(backup.timeline, Lsn(0), None),))


def _at_the_end(target: RecoveryTarget, backup: BaseBackup, path: WalPath) -> RecoveryPlan | None:
    """The plan for the very time of a backup's end, behind which no transaction is archived; else `None`."""
    if target.value != backup.stopped_at or not target.inclusive:
        return None
    return RecoveryPlan(
        backup=backup,
        target=replace(target, kind=TargetKind.IMMEDIATE, value=None),
        path=_shortened(path, 0),
        why=f"the newest backup; {target} is its end, and no transaction behind it is archived",
    )


def _shortened(path: WalPath, count: int) -> WalPath:
    """The path with its first `count` segments."""
    whole = path.segments[:count]
    return WalPath(
        path.history,
        whole,
        path.partial if count > len(path.segments) else None,
        None,
        path.stored_bytes * len(whole) // max(len(path.segments), 1),
    )


def _ends_before(backup: BaseBackup, target: RecoveryTarget) -> bool:
    """Whether a copy of the backup can be recovered to the target, as far as times and addresses tell."""
    if isinstance(target.value, datetime):
        return backup.stopped_at <= target.value
    if isinstance(target.value, Lsn):
        return backup.stop_lsn <= target.value
    return True
