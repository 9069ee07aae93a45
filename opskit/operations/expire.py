"""Remove what a policy no longer keeps: planned and shown first, then carried out, each step of it safe to repeat.

What never happens, wherever it is cut off: a listed backup that lacks a byte (its record goes first), a kept backup
without its parent (children go first), WAL that a kept backup needs (what is needed is asked again when the backups are
gone, of those that are there then).
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile

from opskit.errors import NotFoundError
from opskit.model.backup import BaseBackup
from opskit.model.format import format_bytes
from opskit.model.increment import chain_of
from opskit.model.operation import Progress
from opskit.model.retention import PARENT_OF, Decision, Retention, decide
from opskit.model.shown import Shown
from opskit.model.timeline import TimelineHistory
from opskit.model.wal_retention import wal_needs
from opskit.operations.monitor import Monitor
from opskit.operations.recoverable import Interval
from opskit.repository import Repository, Survey
from opskit.repository.wal import StoredSegment, WalArchive

_LOOKING_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpirePlan(Shown):
    """What an expire of one cluster would do.

    `decisions` are all its backups, newest first. `abandoned` are names of what killed backups left behind. `wal` are
    the segments that no kept backup needs, by rising timeline and address. `leftovers` are those of the kept backups
    beside which a consolidation left something, and `leftover_bytes` what that takes.
    """

    cluster: str
    decisions: tuple[Decision, ...]
    abandoned: tuple[str, ...]
    wal: tuple[StoredSegment, ...]
    leftovers: tuple[BaseBackup, ...] = ()
    leftover_bytes: int = 0

    def __repr__(self) -> str:
        return (
            f"<opskit plan: remove {len(self.expired):,} of {len(self.decisions):,} backups of {self.cluster!r}"
            f" and {len(self.wal):,} WAL segments, which frees {format_bytes(self.freed_bytes)}; nothing is done yet>"
        )

    @property
    def expired(self) -> tuple[BaseBackup, ...]:
        """The backups that would go, newest first."""
        return tuple(d.backup for d in self.decisions if not d.keep)

    @property
    def kept(self) -> tuple[BaseBackup, ...]:
        """The backups that would stay, newest first."""
        return tuple(d.backup for d in self.decisions if d.keep)

    @property
    def only_parents(self) -> Mapping[str, tuple[BaseBackup, ...]]:
        """What is kept for nothing but a backup that is based on it, by that one's name, its parent first.

        Consolidated, that one would need them no more.
        """
        known = {
            decision.backup.name: decision.backup for decision in self.decisions if decision.keep
        }
        only = {
            d.backup.name
            for d in self.decisions
            if d.keep and all(reason.startswith(PARENT_OF) for reason in d.reasons)
        }
        chains = {
            name: tuple(chain_of(known[backup.parent], known))
            for name, backup in known.items()
            if name not in only and backup.parent in only
        }
        return {
            name: tuple(takewhile(lambda parent: parent.name in only, chain))
            for name, chain in chains.items()
        }

    @property
    def freed_bytes(self) -> int:
        """What the backups, the WAL and the leftovers take in the repository; abandoned backups are not counted."""
        backups = sum(backup.stored_bytes for backup in self.expired)
        return backups + sum(stored.stored_bytes for stored in self.wal) + self.leftover_bytes

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.expired or self.abandoned or self.wal or self.leftovers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired(Shown):
    """What an expire did: the names of the backups that went, what was kept after all and why, and the WAL."""

    backups: tuple[str, ...]
    kept_after_all: Mapping[str, str]
    abandoned: tuple[str, ...]
    wal_segments: int
    freed_bytes: int

    def __repr__(self) -> str:
        return (
            f"<opskit removed {len(self.backups):,} backups, {len(self.abandoned):,} unfinished ones and"
            f" {self.wal_segments:,} WAL segments, which freed {format_bytes(self.freed_bytes)}>"
        )


def plan_expire(
    repository: Repository,
    cluster: str,
    retention: Retention,
    now: datetime,
    *,
    in_use: Mapping[str, str] | None = None,
) -> ExpirePlan:
    """What `retention` lets go of a cluster's backups and WAL. Nothing is changed.

    Parameters
    ----------
    in_use
        As `decide` takes it.

    Raises
    ------
    IntegrityError
        The record of a backup, or a hold, is damaged: what depends on it cannot be known, so nothing is planned.
    StoreError
        The storage failed.
    """
    survey = whole_survey(repository, cluster)
    holds = repository.holds(cluster).all()
    decisions = decide(survey.backups, retention, now, holds=holds, in_use=in_use)
    abandoned = [n for n in survey.incomplete if repository.is_abandoned(cluster, n, now)]
    running = len(abandoned) < len(survey.incomplete)
    kept = [decision.backup for decision in decisions if decision.keep]
    # Who reads may have begun before a consolidation, whichever backup of a chain it names.
    strays = {} if in_use else _strays(repository, kept, now)
    return ExpirePlan(
        cluster=cluster,
        decisions=tuple(decisions),
        abandoned=tuple(abandoned),
        wal=tuple(unneeded_wal(repository, cluster, kept, backup_running=running)),
        leftovers=tuple(backup for backup in kept if backup.name in strays),
        leftover_bytes=sum(strays.values()),
    )


def _strays(repository: Repository, kept: Sequence[BaseBackup], now: datetime) -> dict[str, int]:
    """How many bytes consolidations left, by the names of the backups beside which they left some."""
    with ThreadPoolExecutor(_LOOKING_AT_ONCE, thread_name_prefix="strays") as looking:
        found = looking.map(lambda backup: repository.strays(backup, now), kept)
        return {
            backup.name: sum(stat.object_bytes for stat in strays)
            for backup, strays in zip(kept, found, strict=True)
            if strays
        }


def execute_expire(
    plan: ExpirePlan,
    repository: Repository,
    now: datetime,
    monitor: Monitor,
    *,
    in_use: Callable[[], Mapping[str, str]] = dict,
) -> Expired:
    """Carry out a plan. What was planned and is held, read or needed by an increment since then is kept.

    Parameters
    ----------
    in_use
        Tells before each removal what `plan_expire` was told.

    Raises
    ------
    IntegrityError, StoreError
        As `plan_expire`, or an object cannot be removed; the next expire goes on from there.
    Cancelled
        The monitor asked for the end; what is removed stays removed.
    """
    removed: list[str] = []
    kept_after_all: dict[str, str] = {}
    total, freed = plan.freed_bytes, 0

    def report(phase: str) -> None:
        monitor.check()
        monitor.report(Progress(phase=phase, bytes_done=freed, bytes_expected=total))

    children = _Children(repository, plan)
    for backup in _children_first(plan.expired):
        report("removing backups")
        reason = children.of(backup.name) or _held(repository, backup, now)
        reason = reason or in_use().get(backup.name)
        if reason is not None:
            kept_after_all[backup.name] = reason
            children.stays(backup)
            continue
        repository.remove_backup(plan.cluster, backup.name)
        removed.append(backup.name)
        freed += backup.stored_bytes
    for name in plan.abandoned:
        report("removing unfinished backups")
        if repository.is_abandoned(plan.cluster, name, now):
            repository.remove_backup(plan.cluster, name)
    for backup in plan.leftovers:
        report("removing what consolidations left")
        with suppress(NotFoundError):
            repository.remove_strays(repository.backup(plan.cluster, backup.name), now)
    freed += plan.leftover_bytes
    wal = _planned_and_unneeded(plan, repository, now)
    archive = repository.known_wal(plan.cluster) if wal else None
    for stored in wal:
        report("removing WAL")
        assert archive is not None
        archive.remove(stored.segment)
        freed += stored.stored_bytes
    return Expired(
        backups=tuple(removed),
        kept_after_all=kept_after_all,
        abandoned=plan.abandoned,
        wal_segments=len(wal),
        freed_bytes=freed,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LostInterval:
    """Points in time, along one timeline, that could be restored before an expire and cannot be after it."""

    timeline: int
    from_at: datetime
    to_at: datetime


def lost_intervals(intervals: Sequence[Interval], kept: Collection[str]) -> list[LostInterval]:
    """What the expire of all backups but the `kept` takes from the recoverable `intervals`, by timeline and time.

    What another kept backup leads to through the WAL archive is not lost.
    """
    lost = []
    for timeline in sorted({interval.timeline for interval in intervals}):
        on_it = [i for i in intervals if i.timeline == timeline]
        left = _joined([(i.from_at, i.to_at) for i in on_it if i.backup in kept])
        for start, end in _joined([(i.from_at, i.to_at) for i in on_it if i.backup not in kept]):
            lost += [
                LostInterval(timeline=timeline, from_at=a, to_at=b)
                for a, b in _without(start, end, left)
            ]
    return lost


def _joined(spans: list[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    joined: list[tuple[datetime, datetime]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _without(
    start: datetime, end: datetime, others: list[tuple[datetime, datetime]]
) -> Iterator[tuple[datetime, datetime]]:
    """The parts of a span, its ends included, that none of the others, rising and apart, holds."""
    for begins, ends in others:
        if ends < start or begins > end:
            continue
        if start < begins:
            yield start, begins
        if end <= ends:
            return
        start = ends
    yield start, end


def whole_survey(repository: Repository, cluster: str) -> Survey:
    """What lies below a cluster, if every record of it can be read."""
    survey = repository.survey(cluster)
    for error in survey.damaged.values():
        raise error
    return survey


def _children_first(backups: Sequence[BaseBackup]) -> list[BaseBackup]:
    """The longest chains first, whatever the clocks said when they were made."""
    known = {backup.name: backup for backup in backups}
    return sorted(backups, key=lambda backup: len(chain_of(backup, known)), reverse=True)


class _Children:
    """Which backups need which: those that a plan did not know, complete or begun, and those that stay after all."""

    def __init__(self, repository: Repository, plan: ExpirePlan) -> None:
        self._repository, self._cluster = repository, plan.cluster
        self._seen = {decision.backup.name for decision in plan.decisions} | set(plan.abandoned)
        self._reasons: dict[str, str] = {}

    def stays(self, backup: BaseBackup) -> None:
        """Note that a backup of the plan is kept, and with it what it is based on."""
        if backup.parent is not None:
            self._reasons.setdefault(backup.parent, f"{PARENT_OF}{backup.name}")

    def of(self, name: str) -> str | None:
        """Why a backup of the plan is kept, as of this moment."""
        for other in self._repository.names(self._cluster):
            if other in self._seen:
                continue
            with suppress(NotFoundError):
                parent = self._repository.based_on(self._cluster, other)
                self._seen.add(other)
                if parent is not None:
                    self._reasons[parent] = f"{PARENT_OF}{other}"
        return self._reasons.get(name)


def _held(repository: Repository, backup: BaseBackup, now: datetime) -> str | None:
    hold = repository.holds(backup.cluster).of(backup.name)
    return hold.words if hold is not None and hold.holds(now) else None


def _planned_and_unneeded(
    plan: ExpirePlan, repository: Repository, now: datetime
) -> list[StoredSegment]:
    """The WAL of the plan that no backup needs which is there now."""
    if not plan.wal:
        return []
    survey = whole_survey(repository, plan.cluster)
    running = any(not repository.is_abandoned(plan.cluster, n, now) for n in survey.incomplete)
    unneeded = unneeded_wal(repository, plan.cluster, survey.backups, backup_running=running)
    planned = {stored.segment for stored in plan.wal}
    return [stored for stored in unneeded if stored.segment in planned]


def unneeded_wal(
    repository: Repository, cluster: str, kept: Sequence[BaseBackup], *, backup_running: bool
) -> list[StoredSegment]:
    """The WAL that a cluster does not need when the `kept` are its backups."""
    try:
        archive = repository.known_wal(cluster)
    except NotFoundError:
        return []
    histories = [_history(archive, timeline) for timeline in archive.timelines()]
    unneeded = []
    for need in wal_needs(kept, histories, backup_running=backup_running):
        stored = archive.segments(need.timeline)
        # What is left of segments that never became whole; too little to be counted.
        stored += [
            StoredSegment(p.segment, 0, p.stored_at) for p in archive.partials(need.timeline)
        ]
        unneeded += [s for s in stored if not need.needs(s.segment)]
    return unneeded


def _history(archive: WalArchive, timeline: int) -> TimelineHistory:
    try:
        return archive.history(timeline)
    except NotFoundError:
        return TimelineHistory.alone(timeline)
