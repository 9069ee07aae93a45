"""Programs that keep backups of one cluster, each in a repository of its own, and how they stand in a contest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Protocol

from bench.contest import Side
from bench.measure import Cost


class Kind(StrEnum):
    """What keeps; pgBackRest in three set-ups."""

    OPSKIT = "opskit"
    NATIVE = "pg_basebackup"
    TUNED = "pgbackrest, tuned"
    SAME_LEVEL = "pgbackrest, tuned, zstd 1"
    DEFAULTS = "pgbackrest at its defaults"
    BARMAN = "barman"


class Keeper(Protocol):
    """One of them, set up. All errors are `CommandFailed`."""

    @property
    def kind(self) -> Kind:
        """Which it is."""
        ...

    @property
    def label(self) -> str:
        """What the report calls it."""
        ...

    def full(self) -> Cost:
        """Take a full backup."""
        ...

    def increment(self) -> Cost:
        """Take what has changed since the newest backup."""
        ...

    def drop_newest(self) -> None:
        """As if the newest backup had not been taken."""
        ...

    def drop_all(self) -> None:
        """As if none had."""
        ...

    def stored_bytes(self) -> int:
        """What all backups take."""
        ...

    def restore(self) -> Cost:
        """Put the newest backup back, into a place of its own."""
        ...

    def clear_restored(self) -> None:
        """Take away what was put back."""
        ...

    def verify(self) -> Cost:
        """Hold what is kept against its checksums."""
        ...


def taking(keeper: Keeper, take: Callable[[], Cost], name: str) -> Side:
    """A side that takes a backup, and drops it before the next."""
    taken: list[Cost] = []

    def run() -> Cost:
        cost = weighed(keeper, take)
        taken.append(cost)
        return cost

    def clear() -> None:
        if taken:
            keeper.drop_newest()
            taken.clear()

    return Side(name=name, run=run, clear=clear)


def weighed(keeper: Keeper, take: Callable[[], Cost]) -> Cost:
    """What a backup costs, with what it adds to what is stored."""
    before = keeper.stored_bytes()
    cost = take()
    return replace(cost, stored_bytes=keeper.stored_bytes() - before)


def with_aims(
    side: Side,
    kind: Kind,
    *,
    at_most: Mapping[Kind, float] | None = None,
    stored_at_most: Mapping[Kind, float] | None = None,
    rounds: Mapping[Kind, int] | None = None,
) -> Side:
    """A side with what is aimed at against its kind, and the rounds after which that kind stands aside."""
    return replace(
        side,
        at_most=(at_most or {}).get(kind),
        stored_at_most=(stored_at_most or {}).get(kind),
        rounds=(rounds or {}).get(kind),
    )


def of_kinds(keepers: Sequence[Keeper], *kinds: Kind) -> list[Keeper]:
    """Those of these kinds."""
    return [keeper for keeper in keepers if keeper.kind in kinds]
