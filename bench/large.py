"""The contests on one large cluster: full backups, a week of increments, and what comes of them."""

import argparse
import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench.backup_contests import (
    again_contest,
    download_contest,
    full_contest,
    restore_contest,
    verify_contest,
)
from bench.barman import archive_options
from bench.chain_contests import (
    CHANGES,
    chain_contest,
    consolidate_contest,
    increment_contest,
    week_contest,
)
from bench.contest import Contest
from bench.contests import senders, start_contest
from bench.keepers import Keeper, Kind
from bench.own_keepers import INCREMENTAL_RULES, NativeKeeper, OpskitKeeper
from bench.peers import Installed, set_up
from bench.place import Place
from bench.servers import large_cluster
from opskit.postgres.programs import Programs
from opskit.postgres.server import LocalServer
from opskit.reports.format import format_bytes

CLUSTER = "large"
ROWS = ("full", "again", "restore", "download", "verify", "start")
CHAIN_ROWS = ("week", "chain", "consolidate", "increments")
_KINDS = (Kind.TUNED, Kind.BARMAN)
_KINDS_OF_FULLS = (Kind.TUNED, Kind.SAME_LEVEL, Kind.DEFAULTS, Kind.BARMAN)
_MOST_ROUNDS_OF_A_CHANGE = 2  # five changes, and no aim
_LARGE_SCALE = 5.0  # from here on, who takes a minute or more runs once


@dataclass(slots=True)
class Section:
    """The contests that were held on one cluster, under a heading."""

    heading: str
    scale: float
    contests: list[Contest] = field(default_factory=list)


class Large:
    """Holds them, for the rows that are asked for, at one scale."""

    def __init__(
        self,
        place: Place,
        options: argparse.Namespace,
        scale: float,
        peers: list[Installed],
        rows: Collection[str],
        tell: Callable[[str], None],
    ) -> None:
        self._place, self._options, self._scale, self._peers = place, options, scale, peers
        self._rows, self._tell = rows, tell
        self._section = Section(heading=f"Scale {scale:g}", scale=scale)
        often = {} if scale < _LARGE_SCALE else dict.fromkeys((Kind.DEFAULTS, Kind.BARMAN), 1)
        self._rounds: dict[Kind, int] = often

    def hold(self, programs: Programs) -> Section:
        """Hold them."""
        with self._cluster(programs) as server:
            place = self._place.watching(server)
            opskit = OpskitKeeper(place, CLUSTER)
            native = NativeKeeper(place, server)
            kinds = _KINDS_OF_FULLS if self._wants("full") else _KINDS
            found, failures = set_up(self._peers, place, server, kinds)
            others: list[Keeper] = [native, *found]
            if self._wants("full"):
                full = full_contest(opskit, others, senders(place, server), failures, self._rounds)
                self._hold(full)
                others = [keeper for keeper in others if keeper.label not in full.failures]
            else:
                for keeper in (opskit, *others):
                    keeper.full()
            self._section.heading += f": PostgreSQL {programs.version}, {self._size()}"
            self._hold_fulls(place, opskit, others)
            if self._wants(*CHAIN_ROWS):
                self._hold_chain(place, server, opskit, native, others)
        return self._section

    @contextmanager
    def _cluster(self, programs: Programs) -> Iterator[LocalServer]:
        place, scale = self._place, self._scale
        self._tell(f"making data of scale {scale:g} in PostgreSQL {programs.version}")
        options = {"summarize_wal": "on"} if self._wants(*CHAIN_ROWS) else {}
        options |= archive_options(place) if self._peers else {}
        home = place.directory / CLUSTER
        with large_cluster(programs, home, place.account, scale, options) as server:
            place.configure({CLUSTER: server}, INCREMENTAL_RULES)
            yield server

    def _hold_fulls(self, place: Place, opskit: OpskitKeeper, others: list[Keeper]) -> None:
        if self._wants("again"):
            self._hold(again_contest(opskit, others))
        if self._wants("restore"):
            self._hold(restore_contest(opskit, others, self._rounds))
        if self._wants("download"):
            self._hold(download_contest(place, opskit))
        if self._wants("verify"):
            self._hold(verify_contest(opskit, others))
        if self._wants("start"):
            self._hold(start_contest(place, CLUSTER))

    def _hold_chain(
        self,
        place: Place,
        server: LocalServer,
        opskit: OpskitKeeper,
        native: NativeKeeper,
        others: list[Keeper],
    ) -> None:
        days = self._options.days
        if self._wants("week", "chain", "consolidate"):
            self._hold(week_contest(place, server, opskit, others, days), rounds=days)
        if self._wants("chain"):
            self._hold(chain_contest(opskit, others, days, self._rounds))
        if self._wants("consolidate"):
            can = "consolidate" in place.opskit("--help")[1]
            self._hold(consolidate_contest(opskit, native, days, can))
        if self._wants("increments"):
            for change in CHANGES:
                contest = increment_contest(place, server, opskit, others, change)
                self._hold(contest, rounds=min(self._options.rounds, _MOST_ROUNDS_OF_A_CHANGE))

    def _wants(self, *rows: str) -> bool:
        return bool(set(rows) & set(self._rows))

    def _hold(self, contest: Contest, rounds: int | None = None) -> None:
        contest.hold(rounds or self._options.rounds, self._tell)
        self._section.contests.append(contest)

    def _size(self) -> str:
        backup = json.loads(self._place.opskit("show", CLUSTER, "latest", "--json")[1])
        whole, stored = backup["cluster_bytes"], backup["stored_bytes"]
        return (
            f"{format_bytes(whole)} of data, stored by opskit as {format_bytes(stored)}"
            f" ({whole / stored:.1f}:1)"
        )
