"""What a policy keeps, over histories that nobody would think of, against a slow and obvious model."""

import random
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opskit.model.backup import BackupKind, BaseBackup, Trigger
from opskit.model.lsn import Lsn
from opskit.model.retention import Hold, Retention, decide
from opskit.model.timeline import TimelineHistory, read_history
from opskit.model.wal import WalSegment
from opskit.model.wal_retention import wal_needs
from tests.property import repeatable
from tests.support.records import EPOCH, SEGMENT_BYTES, record

HOURS = 24 * 120
FORKS = {2: 40, 3: 90}  # timeline 2 left 1 and 3 left 2 in the middle of these segments
limits = st.none() | st.integers(0, 5)


@st.composite
def policies(draw: st.DrawFn) -> Retention:
    """Any mixture of limits."""
    return Retention(
        daily=draw(limits),
        weekly=draw(limits),
        monthly=draw(limits),
        on_demand=draw(limits),
        min_backups=draw(st.integers(1, 4)),
        max_age=draw(st.none() | st.integers(1, 200).map(lambda days: timedelta(days=days))),
    )


@st.composite
def histories(draw: st.DrawFn) -> list[BaseBackup]:
    """Backups of up to four months: upgrades, chains, forks, clocks that went back and forth."""
    backups: list[BaseBackup] = []
    for hour in draw(st.lists(st.integers(0, HOURS), min_size=1, max_size=25, unique=True)):
        major = draw(st.sampled_from([17, 18, 18, 18]))
        number = draw(st.integers(0, 120))
        timeline = draw(st.integers(1, 3))
        parents = [b.name for b in backups if b.major == major]
        parent = draw(st.none() | st.sampled_from(parents)) if parents else None
        backups.append(
            record(
                EPOCH + timedelta(hours=hour),
                trigger=draw(st.sampled_from(Trigger)),
                postgresql_version=f"{major}.1",
                system_identifier=draw(st.sampled_from("7779")),
                kind=BackupKind.INCREMENTAL if parent else BackupKind.FULL,
                parent=parent,
                start_lsn=Lsn(number * SEGMENT_BYTES + 40),
                stop_lsn=Lsn(number * SEGMENT_BYTES + 90),
                timeline=timeline,
            )
        )
    return backups


@st.composite
def holds_on(draw: st.DrawFn, backups: list[BaseBackup]) -> list[Hold]:
    """Some holds, some of which have ended."""
    return [
        Hold(backup=b.name, by="anna", reason="", placed_at=EPOCH, until=draw(st.none() | moments))
        for b in draw(st.lists(st.sampled_from(backups), max_size=3))
    ]


moments = st.integers(-HOURS, 2 * HOURS).map(lambda hours: EPOCH + timedelta(hours=hours))


def obvious(
    backups: list[BaseBackup], policy: Retention, now: datetime, held: set[str]
) -> set[str]:
    """The names that are kept, found by asking for each backup alone whether a sentence of the policy names it."""

    def later(b: BaseBackup) -> list[BaseBackup]:
        return [o for o in backups if kin(o, b) and (o.started_at, o.name) > (b.started_at, b.name)]

    def kin(a: BaseBackup, b: BaseBackup) -> bool:
        return (a.system_identifier, a.major) == (b.system_identifier, b.major)

    def of_period(b: BaseBackup, period: str, limit: int | None) -> bool:
        after = [o for o in later(b) if o.trigger is Trigger.SCHEDULED]
        own = b.started_at.strftime(period)
        others = {o.started_at.strftime(period) for o in after}
        return own not in others and len(others) < (limit or 0)

    def wanted(b: BaseBackup) -> bool:
        last = max(backups, key=lambda o: (o.started_at, o.name))
        old = policy.max_age is not None and now - b.started_at > policy.max_age
        furthest = not any(
            (o.timeline, o.stop_lsn) > (b.timeline, b.stop_lsn) for o in backups if kin(o, b)
        )
        if (kin(b, last) or not old) and (
            len(later(b)) < policy.min_backups
            or (furthest and not any(same_place(o, b) for o in later(b)))
        ):
            return True
        if b.name in held:
            return True
        if old:
            return False
        if b.trigger is Trigger.ON_DEMAND:
            before = [o for o in later(b) if o.trigger is Trigger.ON_DEMAND]
            return policy.on_demand is None or len(before) < policy.on_demand
        periods = {"%Y-%m-%d": policy.daily, "%G-%V": policy.weekly, "%Y-%m": policy.monthly}
        if all(limit is None for limit in periods.values()):
            return True
        return any(of_period(b, period, limit) for period, limit in periods.items())

    def same_place(a: BaseBackup, b: BaseBackup) -> bool:
        return kin(a, b) and (a.timeline, a.stop_lsn) == (b.timeline, b.stop_lsn)

    kept = {b.name for b in backups if wanted(b)}
    while parents := {b.parent for b in backups if b.name in kept and b.parent} - kept:
        kept |= parents
    return kept


@pytest.mark.parametrize("count", [200, pytest.param(5000, marks=pytest.mark.sweep)])
def test_it_keeps_what_the_obvious_model_keeps(count: int) -> None:
    """In any order of the backups; everything has a reason; a second run finds nothing to do; never all go."""
    histories_of = given(st.data(), histories(), policies(), moments, st.randoms())
    settings(repeatable, max_examples=count)(histories_of(_agree_with_the_obvious_model))()


def _agree_with_the_obvious_model(
    data: st.DataObject,
    backups: list[BaseBackup],
    policy: Retention,
    now: datetime,
    order: random.Random,
) -> None:
    holds = data.draw(holds_on(backups))
    held = {hold.backup for hold in holds if hold.until is None or now < hold.until}
    decisions = decide(backups, policy, now, holds=holds)
    kept = {d.backup.name for d in decisions if d.keep}
    assert kept == obvious(backups, policy, now, held)
    assert held <= kept
    assert kept
    assert all(d.reasons and all(d.reasons) for d in decisions)
    shuffled = order.sample(backups, len(backups))
    assert decide(shuffled, policy, now, holds=holds) == decisions
    left = [b for b in backups if b.name in kept]
    assert all(d.keep for d in decide(left, policy, now, holds=holds)), "a second run goes on"


def path(timeline: int) -> TimelineHistory:
    """How the log comes to a timeline."""
    lines = [
        f"{t - 1}\t{Lsn(number * SEGMENT_BYTES + 20)}\tfork\n"
        for t, number in FORKS.items()
        if t <= timeline
    ]
    return read_history(timeline, "".join(lines).encode())


@repeatable
@given(histories(), policies(), moments)
def test_no_path_from_a_kept_backup_loses_a_segment(
    backups: list[BaseBackup], policy: Retention, now: datetime
) -> None:
    """Byte by byte: what lies at or behind a kept backup's start on any way on from it is needed, whatever goes."""
    kept = [d.backup for d in decide(backups, policy, now) if d.keep]
    needs = {need.timeline: need for need in wal_needs(kept, [path(t) for t in (1, 2, 3)])}
    for backup in kept:
        for history in (path(t) for t in (1, 2, 3)):
            stretch = history.stretch_of(backup.timeline)
            if stretch is None or not stretch.holds(backup.start_lsn):
                continue
            for number in range(backup.start_lsn // SEGMENT_BYTES, 121):
                for on in history.stretches:
                    begins, ends = number * SEGMENT_BYTES, (number + 1) * SEGMENT_BYTES
                    if on.start < ends and (on.end is None or begins <= on.end):
                        if on.timeline < backup.timeline:
                            continue
                        segment = WalSegment(on.timeline, number, SEGMENT_BYTES)
                        assert needs[on.timeline].needs(segment), (backup.name, segment.name)
