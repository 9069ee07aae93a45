"""What becomes of a wish for a moment, compared with what the ranges themselves say."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from opskit.model.reach import Range, Reach
from tests.property import repeatable

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
HERE, GAP, NO_WAL = "the archive ends here", "segment x is missing", "no WAL"
LENGTH = 40


def at(minute: int) -> datetime:
    """So many minutes after noon."""
    return NOON + timedelta(minutes=minute)


@st.composite
def ranges(draw: st.DrawFn) -> Range:
    """A range of a whole number of minutes."""
    start = draw(st.integers(0, LENGTH))
    because = draw(st.sampled_from((HERE, GAP, NO_WAL)))
    return Range(
        timeline=draw(st.integers(1, 3)),
        from_at=at(start),
        to_at=at(start + draw(st.integers(0, 8))),
        ends_because=because,
        leads_on=because != NO_WAL,
    )


wishes = st.integers(-5, LENGTH + 15).map(at)
some = st.lists(ranges(), max_size=12)
lanes = st.sampled_from((None, 1, 2, 3))


@repeatable
@given(some, wishes, lanes)
def test_a_wish_is_granted_exactly_where_it_can_be_restored(
    given_ranges: list[Range], wish: datetime, lane: int | None
) -> None:
    """What is in a range is granted on the newest timeline that has it; nothing else is granted as it is."""
    holding = {r.timeline for r in given_ranges if r.holds(wish) and lane in (None, r.timeline)}
    answer = Reach(given_ranges).choose(wish, lane)
    assert (answer.moment == wish) == bool(holding)
    if holding:
        assert (answer.timeline, answer.reason) == (max(holding), "")
        assert answer.before == answer.after == wish
    else:
        assert answer.reason


@repeatable
@given(some, wishes, lanes, st.integers(0, 10))
def test_what_is_chosen_can_be_restored(
    given_ranges: list[Range], wish: datetime, lane: int | None, near: int
) -> None:
    """A wish that is moved becomes a moment of its timeline: near by, or before it with only idleness between."""
    answer = Reach(given_ranges).choose(wish, lane, timedelta(minutes=near))
    if answer.moment is None:
        assert answer.timeline is None
        sides = [side for side in (answer.before, answer.after) if side is not None]
        assert all(abs(side - wish) > timedelta(minutes=near) for side in sides)
        return
    assert any(r.timeline == answer.timeline and r.holds(answer.moment) for r in given_ranges)
    if answer.moment != wish and abs(answer.moment - wish) > timedelta(minutes=near):
        own = [r for r in given_ranges if r.timeline == answer.timeline]
        assert answer.moment == max(r.to_at for r in own if r.to_at < wish)
        ended = {r.ends_because for r in own if r.to_at == answer.moment}
        following = min((r for r in own if r.from_at > wish), key=lambda r: r.from_at)
        assert following.ends_because in ended and following.ends_because != NO_WAL


@repeatable
@given(some, wishes, lanes)
def test_the_nearest_on_both_sides(
    given_ranges: list[Range], wish: datetime, lane: int | None
) -> None:
    """What is offered instead of a wish is the nearest that can be restored, before and after it."""
    minutes = {
        at(minute)
        for r in given_ranges
        if lane in (None, r.timeline)
        for minute in range(-5, LENGTH + 20)
        if r.holds(at(minute))
    }
    answer = Reach(given_ranges).choose(wish, lane)
    assert answer.before == max((m for m in minutes if m <= wish), default=None)
    assert answer.after == min((m for m in minutes if m >= wish), default=None)


@repeatable
@given(some, st.integers(1, 12), st.booleans())
def test_steps_lead_through_everything(
    given_ranges: list[Range], minutes: int, forward: bool
) -> None:
    """Steps go from one end of what can be restored to the other, over gaps and idle times, and never outside of it."""
    reach = Reach(given_ranges)
    start, goal = (reach.first, reach.last) if forward else (reach.last, reach.first)
    by = timedelta(minutes=minutes) * (1 if forward else -1)
    if start is None:
        return
    moment = start
    for _ in range(200):
        answer = reach.step(moment, by)
        assert answer.moment is not None
        assert any(r.timeline == answer.timeline and r.holds(answer.moment) for r in given_ranges)
        if answer.moment == moment:
            break
        assert (answer.moment > moment) == forward
        assert abs(answer.moment - moment) <= abs(by) or answer.reason
        moment = answer.moment
    assert moment == goal


@repeatable
@given(some)
def test_between_the_ranges_lie_the_breaks(given_ranges: list[Range]) -> None:
    """The ranges of a timeline rise and do not touch, with a break between any two and nowhere else."""
    reach = Reach(given_ranges)
    for timeline in reach.timelines:
        merged, breaks = reach.ranges[timeline], reach.breaks[timeline]
        assert len(breaks) == len(merged) - 1
        for before, between, after in zip(merged, breaks, merged[1:], strict=False):
            assert before.to_at == between.after < between.until == after.from_at
        own = [r for r in given_ranges if r.timeline == timeline]
        assert (merged[0].from_at, merged[-1].to_at) == (
            min(r.from_at for r in own),
            max(r.to_at for r in own),
        )
