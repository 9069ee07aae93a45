"""What the policies keep of histories that one can count by hand."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from opskit.model.backup import BackupKind, BaseBackup, Trigger
from opskit.model.lsn import Lsn
from opskit.model.retention import Decision, Hold, Retention, decide
from opskit.model.timeline import TimelineHistory, first_timeline, read_history
from opskit.model.wal import WalSegment
from opskit.model.wal_retention import wal_needs
from tests.support.records import SEGMENT_BYTES, record

POLICY = Retention(daily=7, weekly=4, monthly=3, on_demand=3)
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def nightly(days: int) -> list[BaseBackup]:
    """One at two in the night, so many days up to today."""
    return [record(NOW.replace(hour=2) - timedelta(days=day)) for day in range(days)]


def kept(decisions: Iterable[Decision]) -> dict[str, tuple[str, ...]]:
    """Names of days by what keeps them."""
    return {f"{d.backup.started_at:%m-%d}": d.reasons for d in decisions if d.keep}


def test_daily_weekly_monthly_of_a_year() -> None:
    """Seven days, four weeks' Sundays and three months' last days remain of a year of nights, each with its reasons."""
    assert kept(decide(nightly(365), POLICY, NOW)) == {
        "11-22": (
            "newest",
            "daily of 2026-11-22",
            "weekly of week 47 of 2026",
            "monthly of 2026-11",
        ),
        "11-21": ("daily of 2026-11-21",),
        "11-20": ("daily of 2026-11-20",),
        "11-19": ("daily of 2026-11-19",),
        "11-18": ("daily of 2026-11-18",),
        "11-17": ("daily of 2026-11-17",),
        "11-16": ("daily of 2026-11-16",),
        "11-15": ("weekly of week 46 of 2026",),
        "11-08": ("weekly of week 45 of 2026",),
        "11-01": ("weekly of week 44 of 2026",),
        "10-31": ("monthly of 2026-10",),
        "09-30": ("monthly of 2026-09",),
    }


def test_on_demand_are_counted_by_themselves() -> None:
    """The newest three on demand stay, however many scheduled ones are newer; the fourth says why it goes."""
    by_hand = [
        record(NOW - timedelta(days=200 + day), trigger=Trigger.ON_DEMAND) for day in range(5)
    ]
    decisions = {d.backup.name: d for d in decide([*nightly(10), *by_hand], POLICY, NOW)}
    assert [decisions[b.name].keep for b in by_hand] == [True, True, True, False, False]
    assert decisions[by_hand[0].name].reasons == ("on demand, 1 of 3",)
    assert decisions[by_hand[3].name].reasons == ("on demand, behind the newest 3",)


def test_what_has_no_limit_is_kept() -> None:
    """A policy that only speaks of backups on demand leaves the scheduled ones alone, and the other way round."""
    backups = [*nightly(3), record(NOW - timedelta(days=90), trigger=Trigger.ON_DEMAND)]
    assert all(d.keep for d in decide(backups, Retention(on_demand=1), NOW))
    assert all(d.keep for d in decide(backups, Retention(daily=3), NOW))
    assert sum(d.keep for d in decide(backups, Retention(daily=2), NOW)) == 3


def test_the_last_good_backup_is_never_let_go() -> None:
    """Neither an age nor a policy of nothing removes it; `min_backups` keeps more."""
    old = [record(NOW - timedelta(days=days)) for days in (400, 401, 402)]
    nothing = Retention(daily=0, on_demand=0, max_age=timedelta(days=30))
    assert kept(decide(old, nothing, NOW)) == {"10-18": ("newest",)}
    two = Retention(daily=0, on_demand=0, max_age=timedelta(days=30), min_backups=2)
    assert kept(decide(old, two, NOW)) == {"10-18": ("newest",), "10-17": ("one of the newest 2",)}


def test_an_age_ends_what_counts_keep() -> None:
    """What is older than the limit goes, and says so, though it is a month's last."""
    decisions = decide(nightly(365), Retention(monthly=12, max_age=timedelta(days=90)), NOW)
    assert list(kept(decisions)) == ["11-22", "10-31", "09-30", "08-31"]
    assert decisions[-1].reasons == ("older than 90 days",)


def test_an_upgrade_pushes_nothing_out() -> None:
    """The backups of the former version are counted by themselves; an age is what lets all of them go."""
    before = [record(b.started_at, postgresql_version="17.2") for b in nightly(30)[10:]]
    after = nightly(10)
    assert set(kept(decide([*before, *after], Retention(daily=2), NOW))) == {
        "11-22",
        "11-21",
        "11-12",
        "11-11",
    }
    young = Retention(daily=2, max_age=timedelta(days=5))
    assert set(kept(decide([*before, *after], young, NOW))) == {"11-22", "11-21"}


def test_holds_and_readers_keep() -> None:
    """A hold keeps a backup until it ends, and what reads one keeps it meanwhile."""
    backups = nightly(4)
    hold = Hold(
        backup=backups[3].name,
        by="anna",
        reason="audit",
        placed_at=NOW - timedelta(days=1),
        until=NOW + timedelta(days=1),
    )
    policy = Retention(daily=1)
    in_use = {backups[2].name: "restore 12ab reads it"}
    assert kept(decide(backups, policy, NOW, holds=[hold], in_use=in_use)) == {
        "11-22": ("newest", "daily of 2026-11-22"),
        "11-20": ("restore 12ab reads it",),
        "11-19": ("held until 2026-11-23 by anna: audit",),
    }
    assert len(kept(decide(backups, policy, NOW + timedelta(days=1), holds=[hold]))) == 1


def test_a_parent_lives_as_long_as_its_kept_child() -> None:
    """The whole chain below a kept increment stays; the increments behind it go."""
    full, one, two = reversed(nightly(3))
    one = record(one.started_at, kind=BackupKind.INCREMENTAL, parent=full.name)
    two = record(two.started_at, kind=BackupKind.INCREMENTAL, parent=one.name)
    aside = record(NOW - timedelta(days=1), kind=BackupKind.INCREMENTAL, parent=full.name)
    decisions = {d.backup.name: d for d in decide([full, one, two, aside], Retention(daily=1), NOW)}
    assert decisions[one.name].reasons == (f"parent of {two.name}",)
    assert decisions[full.name].reasons == (f"parent of {one.name}",)
    assert not decisions[aside.name].keep


def test_a_clock_that_went_back_does_not_hide_the_newest() -> None:
    """What the WAL says is the newest backup stays, though others have a later time."""
    ahead = nightly(5)
    behind = record(NOW - timedelta(days=700), stop_lsn=Lsn(2**50), start_lsn=Lsn(2**50 - 1))
    assert "newest by its WAL" in kept(decide([*ahead, behind], Retention(daily=1), NOW))["12-22"]


def segments(timeline: int, needs_from: TimelineHistory, backups: list[BaseBackup]) -> list[int]:
    """Which of the first ten segments of a timeline are needed."""
    [need] = wal_needs(backups, [needs_from])
    return [n for n in range(10) if need.needs(WalSegment(timeline, n, SEGMENT_BYTES))]


def test_wal_is_needed_from_the_oldest_kept_backup_on() -> None:
    """The segment in which it starts is the first one; what is before goes."""
    backups = [
        record(NOW, start_lsn=Lsn(number * SEGMENT_BYTES + 40), stop_lsn=Lsn(9 * SEGMENT_BYTES))
        for number in (7, 4, 5)
    ]
    assert segments(1, first_timeline(), backups) == [4, 5, 6, 7, 8, 9]
    on_boundary = record(NOW, start_lsn=Lsn(4 * SEGMENT_BYTES))
    assert segments(1, first_timeline(), [on_boundary]) == [4, 5, 6, 7, 8, 9]


def test_wal_of_other_timelines() -> None:
    """Ancestors are needed up to the fork, descendants whole, abandoned ones not, unknown ones to be sure."""
    second = read_history(2, f"1\t{Lsn(5 * SEGMENT_BYTES)}\tpromoted\n".encode())
    before = record(NOW, start_lsn=Lsn(3 * SEGMENT_BYTES))
    after = record(NOW, start_lsn=Lsn(7 * SEGMENT_BYTES), timeline=2)
    abandoned = record(NOW, start_lsn=Lsn(8 * SEGMENT_BYTES))
    assert segments(2, second, [before]) == list(range(3, 10))
    assert segments(2, second, [after]) == [7, 8, 9]
    assert segments(1, first_timeline(), [after]) == []
    assert segments(1, first_timeline(), [after, abandoned]) == [8, 9]
    assert segments(2, second, [abandoned]) == list(range(10))  # its first backup may come
    assert segments(3, TimelineHistory.alone(3), [after]) == list(range(10))
    assert segments(1, first_timeline(), []) == list(range(10))
    [need] = wal_needs([after], [first_timeline()], backup_running=True)
    assert need.needs(WalSegment(1, 0, SEGMENT_BYTES))
