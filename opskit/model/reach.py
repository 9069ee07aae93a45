"""Which moments can be restored: the ranges of each timeline, what parts them, and what becomes of a wish for a moment.

A *range* is what the backups lead to without a break. Between two ranges of a timeline lies a *gap*, where log is
missing, or an *idle* time, in which no transaction ended.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from opskit.model.format import format_duration
from opskit.model.target import time_text

_NOTHING = "nothing can be restored yet: there is no backup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Moments of one timeline, both ends included, each of which can be restored.

    `ends_because` says why it goes no further, in words. `leads_on` is false where the backup's own end is all there
    is, since no log behind it is archived.
    """

    timeline: int
    from_at: datetime
    to_at: datetime
    ends_because: str
    leads_on: bool = True

    def holds(self, moment: datetime) -> bool:
        """Whether `moment` lies in it."""
        return self.from_at <= moment <= self.to_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """What lies between two ranges of a timeline, neither end included."""

    timeline: int
    after: datetime
    until: datetime
    is_idle: bool
    because: str

    def holds(self, moment: datetime) -> bool:
        """Whether `moment` lies in it."""
        return self.after < moment < self.until

    def __str__(self) -> str:
        between = f"between {time_text(self.after)} and {time_text(self.until)}"
        if self.is_idle:
            return f"no transaction ended {between}"
        return f"{self.because}: nothing {between} can be restored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What becomes of a wish.

    `moment` is what is chosen, on `timeline`; both are `None` for a wish that is refused. `reason` says why a wish was
    refused or moved, and is empty for one that is granted as it is. `before` and `after` are the nearest moments that
    can be restored, on both sides of the wish, whichever timeline they are on.
    """

    wish: datetime
    moment: datetime | None
    timeline: int | None
    reason: str
    before: datetime | None
    after: datetime | None


class Reach:
    """Everything that can be restored.

    Parameters
    ----------
    ranges
        In any order; they may overlap and touch.
    """

    def __init__(self, ranges: Iterable[Range]) -> None:
        given = sorted(ranges, key=lambda r: (r.timeline, r.from_at, r.to_at))
        self.timelines: tuple[int, ...] = tuple(sorted({r.timeline for r in given}, reverse=True))
        self.ranges: dict[int, list[Range]] = {timeline: [] for timeline in self.timelines}
        self.breaks: dict[int, list[Break]] = {timeline: [] for timeline in self.timelines}
        for one in given:
            self._add(one)
        self._starts = {t: [r.from_at for r in ranges] for t, ranges in self.ranges.items()}

    def _add(self, one: Range) -> None:
        ranges = self.ranges[one.timeline]
        last = ranges[-1] if ranges else None
        if last is None or one.from_at > last.to_at:
            if last is not None:
                self.breaks[one.timeline].append(_break(last, one))
            ranges.append(one)
        elif one.to_at >= last.to_at:
            ranges[-1] = Range(
                timeline=one.timeline,
                from_at=last.from_at,
                to_at=one.to_at,
                ends_because=one.ends_because,
                leads_on=one.leads_on,
            )

    @property
    def gaps(self) -> list[Break]:
        """The breaks where log is missing, of the newest timeline first, in the order of time."""
        return [b for breaks in self.breaks.values() for b in breaks if not b.is_idle]

    @property
    def first(self) -> datetime | None:
        """The earliest moment that can be restored."""
        return min((ranges[0].from_at for ranges in self.ranges.values()), default=None)

    @property
    def last(self) -> datetime | None:
        """The latest moment that can be restored."""
        return max((ranges[-1].to_at for ranges in self.ranges.values()), default=None)

    def choose(
        self, wish: datetime, timeline: int | None = None, near: timedelta = timedelta()
    ) -> Answer:
        """What becomes of the wish for a moment.

        A moment in a range is granted. One in an idle time becomes the idle time's beginning, which is the same state.
        Any other becomes the nearest end of a range, when that is at most `near` away, or is refused.

        Parameters
        ----------
        timeline
            Where to look; by default on all, of which the newest that has the moment is taken.
        """
        lanes = [t for t in self.timelines if timeline in (None, t)]
        before, after = self._neighbours(wish, lanes)
        for lane in lanes:
            if self._range_at(wish, lane) is not None:
                return _answer(wish, wish, lane, "", before, after)
        for lane in lanes:
            idle = self._break_at(wish, lane)
            if idle is not None and idle.is_idle:
                reason = f"{idle}: the state is the same as at its beginning"
                return _answer(wish, idle.after, lane, reason, before, after)
        ends = [end for end in (before, after) if end is not None and abs(end - wish) <= near]
        if ends:
            end = min(ends, key=lambda e: abs(e - wish))
            reason = f"moved by {format_duration(abs(end - wish))}: {self._refusal(wish, lanes)}"
            return _answer(wish, end, self._timeline_of(end, lanes), reason, before, after)
        return _answer(wish, None, None, self._refusal(wish, lanes), before, after)

    def step(self, moment: datetime, by: timedelta, timeline: int | None = None) -> Answer:
        """What becomes of the wish to go on from `moment` by `by`.

        Where that leads out of a range, it goes to the range's end, and from there over to the next range; where there
        is none, it stays.
        """
        wish = moment + by
        answer = self.choose(wish, timeline)
        if answer.moment == wish:
            return answer
        lanes = [t for t in self.timelines if timeline in (None, t)]
        forward = by > timedelta()
        to = self._end_ahead(moment, lanes, forward=forward)
        if to is None:  # it is at the end: the next one begins where there is another
            beside = timedelta(microseconds=1 if forward else -1)
            to = self._neighbours(moment + beside, lanes)[1 if forward else 0]
        before, after = answer.before, answer.after
        reason = self._refusal(wish, lanes)
        if to is None:
            return _answer(wish, moment, self._timeline_of(moment, lanes), reason, before, after)
        return _answer(wish, to, self._timeline_of(to, lanes), f"moved: {reason}", before, after)

    def _timeline_of(self, moment: datetime, lanes: Sequence[int]) -> int | None:
        return next((t for t in lanes if self._range_at(moment, t) is not None), None)

    def _end_ahead(
        self, moment: datetime, lanes: Sequence[int], *, forward: bool
    ) -> datetime | None:
        """The end of the range that `moment` lies in and before the end of, as seen in a direction."""
        held = [r for lane in lanes if (r := self._range_at(moment, lane)) is not None]
        ends = [r.to_at if forward else r.from_at for r in held]
        ends = [end for end in ends if end != moment]
        return (max(ends) if forward else min(ends)) if ends else None

    def _range_before(self, moment: datetime, timeline: int) -> Range | None:
        """The last range that begins at `moment` or before."""
        at = bisect_right(self._starts[timeline], moment) - 1
        return self.ranges[timeline][at] if at >= 0 else None

    def _range_at(self, moment: datetime, timeline: int) -> Range | None:
        found = self._range_before(moment, timeline)
        return found if found is not None and found.holds(moment) else None

    def _break_at(self, moment: datetime, timeline: int) -> Break | None:
        """The break that holds a moment which is in no range."""
        at = bisect_right(self._starts[timeline], moment) - 1
        breaks = self.breaks[timeline]
        return breaks[at] if 0 <= at < len(breaks) else None

    def _neighbours(
        self, wish: datetime, lanes: Sequence[int]
    ) -> tuple[datetime | None, datetime | None]:
        before: list[datetime] = []
        after: list[datetime] = []
        for lane in lanes:
            starts, ranges = self._starts[lane], self.ranges[lane]
            at = bisect_right(starts, wish) - 1
            if at >= 0:
                before.append(min(ranges[at].to_at, wish))
            if at >= 0 and ranges[at].holds(wish):
                after.append(wish)
            elif (following := bisect_left(starts, wish)) < len(starts):
                after.append(starts[following])
        return max(before, default=None), min(after, default=None)

    def _refusal(self, wish: datetime, lanes: Sequence[int]) -> str:
        """Why a moment that is in no range cannot be restored."""
        if not lanes:
            return _NOTHING
        gaps = [gap for lane in lanes if (gap := self._break_at(wish, lane)) is not None]
        if gaps:
            return str(max(gaps, key=lambda gap: gap.after))
        before, after = self._neighbours(wish, lanes)
        if before is None and after is not None:
            return f"the oldest backup ended at {time_text(after)}, and nothing before that can be restored"
        ended = [r for lane in lanes if (r := self._range_before(wish, lane)) is not None]
        last = max(ended, key=lambda r: r.to_at)
        return f"the last transaction that is archived ended at {time_text(last.to_at)}; {last.ends_because}"


def _break(last: Range, following: Range) -> Break:
    """What lies between two ranges: idle where the log leads from both to the same end, so from one to the other."""
    is_idle = last.leads_on and last.ends_because == following.ends_because
    return Break(
        timeline=last.timeline,
        after=last.to_at,
        until=following.from_at,
        is_idle=is_idle,
        because=last.ends_because,
    )


def _answer(
    wish: datetime,
    moment: datetime | None,
    timeline: int | None,
    reason: str,
    before: datetime | None,
    after: datetime | None,
) -> Answer:
    return Answer(
        wish=wish, moment=moment, timeline=timeline, reason=reason, before=before, after=after
    )
