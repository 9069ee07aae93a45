"""Increments: taken, and what a chain of them costs whoever wants it back. The aims stand here."""

from collections.abc import Iterator
from dataclasses import replace

from bench.barman import CLOSED
from bench.changes import Change, Pattern, make_change
from bench.contest import Contest, Side
from bench.keepers import Keeper, Kind, of_kinds, taking, weighed, with_aims
from bench.own_keepers import NativeKeeper, OpskitKeeper
from bench.place import Place
from opskit.postgres.server import LocalServer
from opskit.reports.format import format_bytes

SLOWEST_INCREMENT = {Kind.TUNED: 0.2}  # a fifth of the time: five times faster
MOST_STORED = {Kind.TUNED: 1.0}
SLOWEST_CHAIN = {Kind.NATIVE: 0.5}  # twice as fast
SLOWEST_CHAIN_TO_FULL = 1.3
WEEK = "Increment, 1 % of the rows changed, scattered"
CHANGES = (
    Change(1000, Pattern.CLUSTERED, 21),
    Change(1000, Pattern.SCATTERED, 22),
    Change(100, Pattern.CLUSTERED, 23),
    Change(10, Pattern.CLUSTERED, 24),
    Change(10, Pattern.SCATTERED, 25),
)
_KEEP_INCREMENTS = (Kind.NATIVE, Kind.TUNED, Kind.BARMAN)
_NOTE = (
    "Against the newest backup. opskit, `pg_basebackup` and Barman have the server send the blocks that changed,"
    " pgBackRest reads every file that was touched and stores its blocks of 8 to 88 KB that differ."
)


def week_contest(
    place: Place, server: LocalServer, opskit: OpskitKeeper, others: list[Keeper], days: int
) -> Contest:
    """A day a round: 1 % of the rows change all over the tables, then everybody takes an increment and keeps it."""
    keepers = of_kinds(others, *_KEEP_INCREMENTS)
    fulls = {keeper.label: keeper.stored_bytes() for keeper in (opskit, *keepers)}
    summarizer: list[float] = []

    def prepare(day: int) -> None:
        change = Change(100, Pattern.SCATTERED, day)
        summarizer.append(make_change(place, server, change, CLOSED))

    def side(keeper: Keeper) -> Side:
        plain = Side(name=keeper.label, run=lambda: weighed(keeper, keeper.increment))
        return with_aims(plain, keeper.kind, at_most=SLOWEST_INCREMENT, stored_at_most=MOST_STORED)

    contest = Contest(
        title=WEEK,
        note=f"{_NOTE} A round is a day: {days} of them, one after the other, and everybody keeps all.",
        opskit=side(opskit),
        others=[side(keeper) for keeper in keepers],
        prepare=prepare,
        leaves=True,
    )
    contest.facts = lambda: [
        *_stored(contest, fulls, days),
        f"summarizing a day's WAL took the server {max(summarizer):.2f} CPU s at most, for all who rely on it",
    ]
    return contest


def _stored(contest: Contest, fulls: dict[str, int], days: int) -> Iterator[str]:
    totals = {
        name: fulls[name] + sum(cost.stored_bytes or 0 for cost in costs.values())
        for name, costs in contest.costs.items()
    }
    for name, total in totals.items():
        yield (
            f"stored after {days + 1} days, {name}: {format_bytes(total)}, of which {format_bytes(fulls[name])} the"
            f" full backup; opskit stores {totals[contest.opskit.name] / total:.2f} times that"
        )


def increment_contest(
    place: Place,
    server: LocalServer,
    opskit: OpskitKeeper,
    others: list[Keeper],
    change: Change,
) -> Contest:
    """A change, and increments of it, of which everybody keeps the last."""

    def prepare(number: int) -> None:
        if number == 1:
            make_change(place, server, change, CLOSED)

    return Contest(
        title=f"Increment, {change.text}",
        note=_NOTE,
        opskit=taking(opskit, opskit.increment, "opskit backup"),
        others=[
            taking(keeper, keeper.increment, keeper.label)
            for keeper in of_kinds(others, Kind.NATIVE, Kind.TUNED)
        ],
        prepare=prepare,
        leaves=True,
    )


def chain_contest(
    opskit: OpskitKeeper, others: list[Keeper], increments: int, rounds: dict[Kind, int]
) -> Contest:
    """The newest backup of a chain put back."""

    def side(keeper: Keeper) -> Side:
        plain = Side(name=keeper.label, run=keeper.restore, clear=keeper.clear_restored)
        aimed = with_aims(plain, keeper.kind, at_most=SLOWEST_CHAIN, rounds=rounds)
        name = "unpack all, pg_combinebackup" if keeper.kind is Kind.NATIVE else aimed.name
        return replace(aimed, name=name)

    return Contest(
        title=f"Restore of a full backup and {increments} increments",
        note="`pg_combinebackup` needs every archive unpacked first (as many at a time as there are processors), Barman"
        " has it combine into a staging directory and copies from there. What is synced and checked is as with a full"
        " one; `pg_combinebackup` syncs what it makes.",
        opskit=Side(name="opskit restore", run=opskit.restore, clear=opskit.clear_restored),
        others=[
            Side(
                name="opskit restore of the full backup alone",
                run=opskit.restore_first,
                clear=opskit.clear_restored,
                at_most=SLOWEST_CHAIN_TO_FULL,
            ),
            *(side(keeper) for keeper in of_kinds(others, *_KEEP_INCREMENTS)),
        ],
    )


def consolidate_contest(
    opskit: OpskitKeeper, native: NativeKeeper, increments: int, can: bool
) -> Contest:
    """One full backup made of a chain: in the repository, or as an archive to take away."""

    def clear_download() -> None:
        opskit.clear_downloaded()
        if can:  # what is downloaded is the chain
            opskit.back_to_copy()

    download = Side(name="opskit download", run=opskit.download, clear=clear_download, rounds=1)
    consolidate = Side(name="opskit consolidate", run=opskit.consolidate, clear=opskit.back_to_copy)
    if can:
        opskit.keep_copy()
    return Contest(
        title=f"A full backup made of one and {increments} increments",
        note="In the repository by `consolidate`; as the archive that starts anywhere by `download`.",
        opskit=consolidate if can else replace(download, rounds=None),
        others=[
            *([download] if can else []),
            Side(
                name="unpack all, pg_combinebackup, tar | zstd -1 -T0; sync",
                run=native.pack_chain,
                clear=native.clear_packed,
                rounds=1,
            ),
        ],
    )
