"""A year of schedules: machines that sleep, clocks that jump, backups that fail, two schedulers at once."""

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim

from opskit.model.backup import BaseBackup, Trigger
from opskit.model.schedule import ScheduleState, ScheduleStatus, schedule_state
from tests.support.records import EPOCH, record

NIGHTLY = "0 2 * * *"
TICK = timedelta(minutes=1)


def periods(cron: str, now: datetime) -> tuple[datetime, datetime]:
    """The period that goes on, and the next one's beginning."""
    begun = next(CronSim(cron, now + timedelta(minutes=1), reverse=True))
    return begun, next(CronSim(cron, now))


@dataclass
class World:
    """What schedulers share: the backups, the failures, and how a backup is taken."""

    cron: str
    chance: random.Random
    failing: float
    backups: list[BaseBackup] = field(default_factory=list)
    failed_at: list[datetime] = field(default_factory=list)
    refused: int = 0
    going: tuple[datetime, datetime] = (EPOCH, EPOCH)

    def state(self, now: datetime, jitter: timedelta = timedelta(0)) -> ScheduleState:
        """How it stands, by a scheduler's clock."""
        if not self.going[0] <= now < self.going[1]:
            self.going = periods(self.cron, now)
        period, following = self.going
        recent = self.backups[-40:]
        return schedule_state(
            "main", period, following, recent, now, failed_at=self.failed_at[-40:], jitter=jitter
        )

    def work(self, state: ScheduleState, now: datetime, server_ahead: timedelta) -> None:
        """Take the backup that is due, as the operation does: one that is there already is refused."""
        if any(b.scheduled_for == state.period for b in self.backups):
            self.refused += 1
        elif self.chance.random() < self.failing:
            self.failed_at.append(now)
        else:
            at = now + server_ahead
            while self.backups and any(b.started_at == at for b in self.backups[-5:]):
                at += timedelta(seconds=1)
            self.backups.append(record(at, scheduled_for=state.period))


@pytest.mark.parametrize("cron", [NIGHTLY, "30 */6 * * *", "0 2 * * mon", "15 3 1 * *"])
def test_a_year_with_sleep_failures_and_two_schedulers(cron: str, seed: random.Random) -> None:
    """Each period in which a scheduler was awake for hours has its backup, and none has two."""
    world = World(cron, seed, failing=0.2)
    jitter = timedelta(minutes=20)
    ahead = timedelta(seconds=seed.uniform(-90, 90))  # the server's clock
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    awake_in: Counter[datetime] = Counter()
    awake, change = True, now
    while now < datetime(2027, 1, 1, tzinfo=UTC):
        if now >= change:
            awake = not awake
            change = now + timedelta(hours=seed.choice([1, 5, 9, 30, 80]))
        if awake:
            states = [world.state(now, jitter)] * 2  # both have looked before either works
            awake_in[states[0].period] += 1
            for state in states:
                if state.status is ScheduleStatus.DUE:
                    world.work(state, now, ahead)
            now += 5 * TICK
        else:
            now = min(change, now + timedelta(hours=1))
    taken = Counter(backup.scheduled_for for backup in world.backups)
    assert set(taken.values()) == {1}
    assert world.refused > 0, "two schedulers never met"
    long_awake = {period for period, ticks in awake_in.items() if ticks > 150}
    assert long_awake <= set(taken)
    assert len(long_awake) > (5 if cron.startswith("15 3 1") else 20) or cron == "30 */6 * * *"


def test_clocks_that_jump_double_nothing(seed: random.Random) -> None:
    """Set back and forth by minutes, hours and days, no period gets two, and none is waited for without end."""
    world = World(NIGHTLY, seed, failing=0.1)
    true = datetime(2026, 3, 1, 12, tzinfo=UTC)
    off = timedelta(0)
    seen: Counter[datetime] = Counter()
    for _ in range(12 * 24 * 90):
        true += 5 * TICK
        if seed.random() < 0.002:
            off = timedelta(minutes=seed.choice([-4000, -90, -10, 0, 0, 10, 90, 4000]))
        state = world.state(true + off)
        seen[state.period] += 1
        if state.status is ScheduleStatus.DUE:
            world.work(state, true + off, timedelta(0))
    taken = Counter(backup.scheduled_for for backup in world.backups)
    assert set(taken.values()) == {1}
    newest = max(period for period in taken if period is not None)
    wanted = {period for period, ticks in seen.items() if ticks > 40 and period <= newest}
    missing = wanted - set(taken)
    assert all(any(later is not None and later > p for later in taken) for p in missing)


def test_daylight_saving_is_nobody_s_business() -> None:
    """Periods of UTC are a day apart, also where the local clock has two or none of the hour."""
    for month, day in ((3, 28), (10, 24)):
        local = datetime(2026, month, day, 12, tzinfo=ZoneInfo("Europe/Berlin"))
        begun = [
            periods("30 0 * * *", local.astimezone(UTC) + timedelta(minutes=m))[0]
            for m in range(0, 3 * 24 * 60, 7)
        ]
        days = sorted(set(begun))
        assert begun == sorted(begun)
        assert {after - before for before, after in pairwise(days)} == {timedelta(days=1)}


def test_what_counts_for_a_period() -> None:
    """A scheduled backup for it or, where none says for what, one begun in it; none on demand, not the one before."""
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    period, following = periods(NIGHTLY, now)

    def status(*backups: BaseBackup) -> ScheduleStatus:
        return schedule_state("main", period, following, backups, now).status

    early = period - timedelta(seconds=30)  # the server's clock is behind
    assert status() is ScheduleStatus.DUE
    assert status(record(early)) is ScheduleStatus.DUE
    assert status(record(early, scheduled_for=period)) is ScheduleStatus.DONE
    assert status(record(period)) is ScheduleStatus.DONE
    assert status(record(now, trigger=Trigger.ON_DEMAND)) is ScheduleStatus.DUE
    late = record(now, scheduled_for=period - timedelta(days=1))
    assert status(late) is ScheduleStatus.DUE


def test_failures_are_followed_by_growing_pauses() -> None:
    """Five minutes after the first, an hour at most, and not because of what failed before the period."""
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    period, following = periods(NIGHTLY, now)

    def waits(count: int) -> timedelta:
        failed = [now - timedelta(days=2)] + [now - timedelta(minutes=n) for n in range(count)]
        state = schedule_state("main", period, following, [], now, failed_at=failed)
        assert state.failures == count
        return state.not_before - now if state.status is ScheduleStatus.WAITING else timedelta(0)

    assert [waits(n) / timedelta(minutes=1) for n in range(7)] == [0, 5, 10, 20, 40, 60, 60]


def test_jitter_spreads_and_stays() -> None:
    """Each cluster has its own moment of a period, the same whenever one asks, within the jitter."""
    period, following = periods(NIGHTLY, datetime(2026, 11, 22, 2, tzinfo=UTC))
    jitter = timedelta(hours=1)
    moments = [
        schedule_state(f"c{n}", period, following, [], period, jitter=jitter).not_before
        for n in range(200)
    ]
    again = schedule_state("c7", period, following, [], period + jitter / 2, jitter=jitter)
    assert again.not_before == moments[7]
    assert all(period <= moment < period + jitter for moment in moments)
    assert len({moment.minute // 10 for moment in moments}) == 6
