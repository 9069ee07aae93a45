"""Contests: several sides do the same work, in turn, for some rounds."""

import os
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.measure import CommandFailed, Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One way to do the work.

    `run` does it once and tells its cost; `clear` takes away what a run left, and is not counted. `at_most` is the
    aim: the ratio of opskit's time to this side's, `None` where the comparison is for information; `stored_at_most`
    the same of what is stored. `rounds`: it stands aside after so many, because it takes long.
    """

    name: str
    run: Callable[[], Cost]
    clear: Callable[[], None] = lambda: None
    at_most: float | None = None
    stored_at_most: float | None = None
    rounds: int | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """Smallest, median and largest of some figures."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> "Spread":
        """The spread of at least one figure."""
        return cls(min(figures), statistics.median(figures), max(figures))


@dataclass(slots=True, kw_only=True)
class Contest:
    """A piece of work, done by opskit and by others.

    `note` says what a reader must know of it, `facts` what else has been seen when it was held; `weighs_memory`:
    opskit's memory is of interest, too. `prepare` is called with each round's number before it; what the last round
    left stays if `leaves`.
    """

    title: str
    note: str
    opskit: Side
    others: list[Side]
    facts: Callable[[], list[str]] = list
    weighs_memory: bool = True
    prepare: Callable[[int], None] = lambda _: None
    leaves: bool = False
    costs: dict[str, dict[int, Cost]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def hold(self, rounds: int, tell: Callable[[str], None]) -> None:
        """Run every side once a round, in a shuffled order that is the same each time.

        A side that fails is left out from then on; opskit must not fail.
        """
        sides = (self.opskit, *self.others)
        for number in range(1, rounds + 1):
            self.prepare(number)
            # Memory that one side frees the next one gets, warm: nobody always follows the same side.
            for side in random.Random(number).sample(sides, len(sides)):
                if side.name in self.failures or number > (side.rounds or rounds):
                    continue
                tell(f"{self.title}, round {number} of {rounds}: {side.name}")
                side.clear()
                os.sync()  # nobody pays for what the one before left to be written
                try:
                    cost = side.run()
                except CommandFailed as error:
                    if side is self.opskit:
                        raise
                    self.failures[side.name] = " ".join(str(error).split())
                    self.costs.pop(side.name, None)
                    continue
                self.costs.setdefault(side.name, {})[number] = cost
                tell(f"  {cost.seconds:.2f} s")
        for side in sides if not self.leaves else ():
            side.clear()

    def ratios(self, side: Side) -> Spread:
        """Of opskit's time to `side`'s, round by round."""
        ours, theirs = self.costs[self.opskit.name], self.costs[side.name]
        return Spread.of([ours[number].seconds / cost.seconds for number, cost in theirs.items()])

    def stored_ratios(self, side: Side) -> Spread | None:
        """The same of what was stored, where that was looked at."""
        ours, theirs = self.costs[self.opskit.name], self.costs[side.name]
        found = [
            own.stored_bytes / cost.stored_bytes
            for own, cost in ((ours[number], cost) for number, cost in theirs.items())
            if own.stored_bytes and cost.stored_bytes
        ]
        return Spread.of(found) if found else None
