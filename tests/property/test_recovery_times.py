"""The search for a time in the log finds where PostgreSQL stops, and finds nothing wrong when a clock jumped."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from opskit.model.lsn import Lsn
from opskit.model.target import RecoveryTarget, TargetKind
from opskit.model.timeline import first_timeline
from opskit.model.wal import WalSegment
from opskit.operations.wal_path import WalPath
from opskit.operations.wal_search import find_target
from opskit.postgres.waldump import LoggedEnd, LoggedRecords
from tests.property import repeatable

SIZE = 1 << 20
BEGINNING = datetime(2026, 11, 22, 14, tzinfo=UTC)
ticks = st.integers(0, 12)


class Log:
    """A log whose transactions ended at these ticks, segment by segment; it reads as `LogReader` does."""

    def __init__(self, segments: list[list[int]]) -> None:
        self.ends = [
            [
                LoggedEnd(Lsn(number * SIZE + 100 * (place + 1)), 700 + place, time(tick), True)
                for place, tick in enumerate(ended)
            ]
            for number, ended in enumerate(segments)
        ]
        names = tuple(WalSegment(1, number, SIZE) for number in range(len(segments)))
        self.path = WalPath(first_timeline(), names, None, None, 0)

    def records(self, index: int, *, every_record: bool = False) -> LoggedRecords:
        """See `LogReader`."""
        return LoggedRecords(tuple(self.ends[index]), (), None)


def time(tick: int) -> datetime:
    """The time of a tick."""
    return BEGINNING + timedelta(seconds=tick)


def stops(log: Log, begins: int, wanted: datetime, *, inclusive: bool) -> list[tuple[int, Lsn]]:
    """Every transaction behind the backup's end before which PostgreSQL would stop, as `recoveryStopsBefore` does."""
    return [
        (index, end.lsn)
        for index, ends in enumerate(log.ends)
        for end in ends
        if end.lsn >= begins and (end.at > wanted or (not inclusive and end.at == wanted))
    ]


logs = st.lists(st.lists(ticks, max_size=4), min_size=1, max_size=8)
begins = st.integers(0, SIZE)


def found(log: Log, begin: int, tick: int, *, inclusive: bool) -> tuple[int, Lsn] | None:
    """What the search finds."""
    target = RecoveryTarget(kind=TargetKind.TIME, value=time(tick), inclusive=inclusive)
    return find_target(target, Lsn(begin), log.path, log)


@repeatable
@given(logs, begins, ticks, st.booleans())
def test_while_times_rise_the_first_later_transaction_is_found(
    segments: list[list[int]], begin: int, tick: int, inclusive: bool
) -> None:
    """The very one before which PostgreSQL stops, and none when there is none."""
    rising = iter(sorted(tick for segment in segments for tick in segment))
    log = Log([[next(rising) for _ in segment] for segment in segments])
    possible = stops(log, begin, time(tick), inclusive=inclusive)
    assert found(log, begin, tick, inclusive=inclusive) == (possible[0] if possible else None)


@repeatable
@given(logs, begins, ticks, st.booleans())
def test_whatever_the_clock_did_recovery_ends_by_the_target(
    segments: list[list[int]], begin: int, tick: int, inclusive: bool
) -> None:
    """What is found may be a later one, or nothing, but recovery never runs out of log before it stops."""
    log = Log(segments)
    hit = found(log, begin, tick, inclusive=inclusive)
    assert hit is None or hit in stops(log, begin, time(tick), inclusive=inclusive)
