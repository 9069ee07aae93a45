"""Which backups a policy keeps and which it lets go, with the reason for each.

A pure function of the backups, the policy, the holds and now, so that what an expire would do can be shown before it is
done, and tried against thousands of histories. What it never does, whatever the policy says: let the newest backup go,
or the parent of a kept one, or one that is held or in use.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from opskit.model.backup import BaseBackup, Trigger
from opskit.model.shown import Shown

PARENT_OF = "parent of "  # begins the reason of what is kept for the backup that is based on it


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """A policy, as ``retention = { daily = 7, weekly = 4, monthly = 3, on_demand = 3 }`` says it.

    `daily`, `weekly` and `monthly` count the days, ISO weeks and months in UTC that have a scheduled backup, the newest
    first, and keep the newest backup of each; a machine that slept for a month loses nothing by it. `on_demand` counts
    backups on demand. `None` sets no limit: without any of the three periods every scheduled backup is kept, without
    `on_demand` every one on demand.

    `max_age` lets go what is older, whatever the counts keep. The newest `min_backups` are kept in any case.
    """

    daily: int | None = None
    weekly: int | None = None
    monthly: int | None = None
    on_demand: int | None = None
    min_backups: int = 1
    max_age: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold(Shown):
    """A backup that nobody's policy may remove: by whom, why, since when, and until when (`None`: until released)."""

    backup: str
    by: str
    reason: str
    placed_at: datetime
    until: datetime | None = None

    def __repr__(self) -> str:
        return f"<opskit hold: backup {self.backup} is {self.words}>"

    def holds(self, now: datetime) -> bool:
        """Whether it does at `now`."""
        return self.until is None or now < self.until

    @property
    def words(self) -> str:
        """``held until 2027-01-01 by anna: audit``."""
        end = "" if self.until is None else f" until {self.until.astimezone(UTC):%Y-%m-%d}"
        return f"held{end} by {self.by}" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one backup, and why: every reason that keeps it, or the one that lets it go."""

    backup: BaseBackup
    keep: bool
    reasons: tuple[str, ...]


def decide(
    backups: Iterable[BaseBackup],
    retention: Retention,
    now: datetime,
    *,
    holds: Iterable[Hold] = (),
    in_use: Mapping[str, str] | None = None,
) -> list[Decision]:
    """A decision on each of a cluster's backups, newest first; the order in which they come does not matter.

    Backups of another system identifier or major version are counted by themselves, so that after an upgrade neither
    side pushes the other out.

    Parameters
    ----------
    in_use
        For backups that something reads at the moment: by what, in words.
    """
    ordered = sorted(backups, key=_age, reverse=True)
    reasons: dict[str, list[str]] = {backup.name: [] for backup in ordered}
    current = _lineage(ordered[0]) if ordered else None
    for lineage in dict.fromkeys(map(_lineage, ordered)):
        group = [backup for backup in ordered if _lineage(backup) == lineage]
        _keep_by_policy(group, retention, now, lineage == current, reasons)
    for hold in holds:
        if hold.backup in reasons and hold.holds(now):
            reasons[hold.backup].append(hold.words)
    for name, use in (in_use or {}).items():
        if name in reasons:
            reasons[name].append(use)
    _keep_parents(ordered, reasons)
    return [
        Decision(backup, True, tuple(reasons[backup.name]))
        if reasons[backup.name]
        else Decision(backup, False, (_why_not(backup, retention, now),))
        for backup in ordered
    ]


def _age(backup: BaseBackup) -> tuple[datetime, str]:
    return backup.started_at, backup.name


def _lineage(backup: BaseBackup) -> tuple[str, int]:
    return backup.system_identifier, backup.major


def _keep_by_policy(
    group: Sequence[BaseBackup],
    retention: Retention,
    now: datetime,
    is_current: bool,
    reasons: dict[str, list[str]],
) -> None:
    """Note why backups of one lineage, newest first, are kept. Only the current lineage outlives `max_age`."""
    kept_anyway = max(retention.min_backups, 1)
    for position, backup in enumerate(group):
        young = not _too_old(backup, retention, now)
        if position < kept_anyway and (is_current or young):
            reasons[backup.name].append(
                "newest" if position == 0 else f"one of the newest {kept_anyway}"
            )
    # Should the server's clock have gone back, what was backed up last is not what has the latest time.
    last = max(group, key=lambda backup: (backup.timeline, backup.stop_lsn))
    if last is not group[0] and (is_current or not _too_old(last, retention, now)):
        reasons[last.name].append("newest by its WAL")
    by_schedule = [backup for backup in group if backup.trigger is Trigger.SCHEDULED]
    by_people = [backup for backup in group if backup.trigger is Trigger.ON_DEMAND]
    for backup, reason in [
        *_by_period(by_schedule, retention),
        *_by_number(by_people, retention.on_demand),
    ]:
        if not _too_old(backup, retention, now):
            reasons[backup.name].append(reason)


def _too_old(backup: BaseBackup, retention: Retention, now: datetime) -> bool:
    return retention.max_age is not None and now - backup.started_at > retention.max_age


def _by_period(backups: Sequence[BaseBackup], retention: Retention) -> list[tuple[BaseBackup, str]]:
    limits = [getattr(retention, name) for name, _, _ in _PERIODS]
    if all(limit is None for limit in limits):
        return [(backup, "scheduled, without a limit") for backup in backups]
    kept = []
    for limit, (name, period, shown) in zip(limits, _PERIODS, strict=True):
        newest: dict[str, BaseBackup] = {}
        for backup in backups:
            newest.setdefault(period(backup), backup)
        kept += [
            (backup, f"{name} of {shown}{key}")
            for key, backup in list(newest.items())[: limit or 0]
        ]
    return kept


def _by_number(backups: Sequence[BaseBackup], limit: int | None) -> list[tuple[BaseBackup, str]]:
    if limit is None:
        return [(backup, "on demand, without a limit") for backup in backups]
    return [
        (backup, f"on demand, {number} of {limit}")
        for number, backup in enumerate(backups[:limit], start=1)
    ]


def _keep_parents(backups: Sequence[BaseBackup], reasons: dict[str, list[str]]) -> None:
    by_name = {backup.name: backup for backup in backups}
    for backup in backups:
        child = backup
        while reasons[child.name] and child.parent in by_name:
            reason = f"{PARENT_OF}{child.name}"
            if reason in reasons[child.parent]:
                break
            reasons[child.parent].append(reason)
            child = by_name[child.parent]


def _why_not(backup: BaseBackup, retention: Retention, now: datetime) -> str:
    if _too_old(backup, retention, now) and retention.max_age is not None:
        return f"older than {retention.max_age.days} days"
    if backup.trigger is Trigger.ON_DEMAND:
        return f"on demand, behind the newest {retention.on_demand}"
    limits = [
        f"{getattr(retention, name)} {name}" for name, _, _ in _PERIODS if getattr(retention, name)
    ]
    return f"behind the {', '.join(limits)}" if limits else "no scheduled backup is to be kept"


def _day(backup: BaseBackup) -> str:
    return f"{backup.started_at.astimezone(UTC):%Y-%m-%d}"


def _week(backup: BaseBackup) -> str:
    year, week, _ = backup.started_at.astimezone(UTC).isocalendar()
    return f"{week:02} of {year}"


def _month(backup: BaseBackup) -> str:
    return f"{backup.started_at.astimezone(UTC):%Y-%m}"


_PERIODS: tuple[tuple[str, Callable[[BaseBackup], str], str], ...] = (
    ("daily", _day, ""),
    ("weekly", _week, "week "),
    ("monthly", _month, ""),
)
