"""What is called fresh is fresh, whatever the clocks do, and what is silent is found out in time."""

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import islice, pairwise

from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from opskit.model.freshness import (
    GRACE,
    SKEW,
    Outcome,
    Severity,
    allowance,
    judge_freshness,
)
from tests.support.records import EPOCH, record

CRONS = (
    "0 2 * * *",
    "*/15 * * * *",
    "0 2 * * mon-fri",
    "30 3 * * sun",
    "0 0 1 * *",
    "0 6,18 * * *",
)
spans = st.timedeltas(min_value=timedelta(minutes=-90 * 1440), max_value=timedelta(days=90))
moments = st.timedeltas(min_value=timedelta(days=1), max_value=timedelta(days=400)).map(
    lambda since: EPOCH + since.__class__(seconds=int(since.total_seconds()))
)


def times(cron: str, moment: datetime) -> list[datetime]:
    """The last time of a schedule up to a moment, and those that follow."""
    minute = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
    last = next(CronSim(cron, minute, reverse=True))
    return [last, *islice(CronSim(cron, last), 8)]


def by(cron: str) -> Callable[[datetime], timedelta]:
    """The allowed age by a schedule."""
    return lambda taken_for: allowance(taken_for, times(cron, taken_for))


@given(st.lists(moments, max_size=6), moments, st.timedeltas(timedelta(hours=1), timedelta(days=9)))
def test_fresh_is_only_what_a_backup_of_the_past_makes_so(
    starts: list[datetime], now: datetime, limit: timedelta
) -> None:
    """It passes exactly when a backup ended within the allowed age; one of the future never makes it pass."""
    backups = [record(start) for start in starts]
    newest = judge_freshness("main", backups, now, allowed=lambda _: limit)[0]
    ages = [now - backup.stopped_at for backup in backups]
    assert newest.passed == any(-SKEW <= age <= limit for age in ages)
    assert newest.passed or (newest.severity is Severity.CRITICAL and newest.hint)


@given(moments, st.sampled_from(CRONS), st.timedeltas(timedelta(0), timedelta(hours=9)))
def test_a_schedule_that_stops_is_found_out_and_one_that_runs_is_left_alone(
    moment: datetime, cron: str, takes: timedelta
) -> None:
    """Until the next backup is done, if it takes no longer than the last, all is well; after the grace it is not."""
    due = next(CronSim(cron, moment))
    following = next(CronSim(cron, due))
    last = record(due, scheduled_for=due, stopped_at=due + takes)

    def judged(now: datetime) -> bool:
        return judge_freshness("main", [last], now, allowed=by(cron))[0].passed

    assert judged(following + takes)
    assert not judged(following + takes + GRACE + timedelta(seconds=1))


@given(moments, st.sampled_from(CRONS))
def test_what_somebody_took_by_hand_counts_for_an_interval(moment: datetime, cron: str) -> None:
    """A backup on demand just before the schedule's time does not alarm at that time."""
    shortest = min(b - a for a, b in pairwise(times(cron, moment)))
    by_hand = record(moment)
    until = by_hand.stopped_at + shortest
    assert judge_freshness("main", [by_hand], until, allowed=by(cron))[0].passed


@given(st.lists(st.tuples(st.booleans(), spans), min_size=1, max_size=8), moments)
def test_the_last_outcome_counts_by_its_place_not_by_its_clock(
    ended: list[tuple[bool, timedelta]], now: datetime
) -> None:
    """Whatever the clocks told: it is a failure exactly when the last one begun failed."""
    outcomes = [
        Outcome(what="expire", passed=passed, at=now + moved, message="it broke")
        for passed, moved in ended
    ]
    [_, found] = judge_freshness("main", [], now, outcomes=outcomes)
    assert found.passed == ended[0][0]
    assert found.passed or "it broke" in found.message


@given(moments, spans)
def test_a_backup_that_is_there_ends_its_failure(now: datetime, moved: timedelta) -> None:
    """Also when another host took it and this catalog knows nothing of it; one before the failure does not."""
    failed = Outcome(what="backup", passed=False, at=now - timedelta(hours=3), message="no room")
    backup = record(now + moved)
    found = judge_freshness("main", [backup], now, outcomes=[failed])[1]
    assert found.passed == (failed.at < backup.stopped_at <= now + SKEW)
