"""Which contests are held, on which clusters, and the report of them."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from bench.busy_contest import busy_contest
from bench.chart import chart
from bench.contest import Contest
from bench.contests import SLOWEST_CROWDED, crowded_backup_contest, restore_contest
from bench.file_contests import get_contest, push_all, push_contest
from bench.fleet_contests import (
    look_contest,
    planning_contest,
    queue_contest,
    simulated_fleet,
)
from bench.jupyter_contests import jupyter_contest
from bench.keepers import Kind
from bench.large import CHAIN_ROWS, Large, Section
from bench.large import ROWS as FULL_ROWS
from bench.log_contests import fill_archive, stream_contest
from bench.logged import CLUSTER, SEGMENT_BYTES, logged_cluster, plain_segments, write_log
from bench.peers import Installed, get_side, installed_peers, push_side, said_of
from bench.pgbackrest import PgBackRestKeeper
from bench.place import AWAY, Place
from bench.recovery_contests import recovery_contest
from bench.report import machine, memory_table, table
from bench.servers import crowded_cluster, empty_cluster
from bench.summary import aims_table, growth_table
from opskit.postgres.programs import find_programs

MAJOR = 18
OF_LARGE = (*FULL_ROWS, *CHAIN_ROWS)
OF_LOG = ("stream", "push", "get", "recovery", "busy")
SEGMENTS_ONE_BY_ONE = 16
DAYS = 6
ROWS = (*OF_LARGE, "crowded", *OF_LOG, "fleet", "jupyter", "peers")


@dataclass(frozen=True, slots=True)
class Report:
    """The figures, and a chart of them as SVG where there is one."""

    text: str
    chart: str | None


class Agenda:
    """Holds the contests of the rows that are asked for, one cluster after the other."""

    def __init__(self, place: Place, options: argparse.Namespace) -> None:
        self._place, self._options = place, options
        self._peers = [] if options.no_peers else installed_peers()
        self._sections: list[Section] = []
        self._rest = Section(heading=f"The rest, scale {options.scale[-1]:g}", scale=0)
        self._notes: list[str] = []

    def hold(self) -> Report:
        """Hold them; the report."""
        if self._wants(*OF_LARGE):
            self._hold_large()
        if self._wants("crowded"):
            self._hold_crowded()
        if self._wants(*OF_LOG):
            self._hold_log()
        if self._wants("fleet"):
            self._hold_fleet()
        if self._wants("jupyter"):
            self._hold_jupyter()
        if self._wants("peers"):
            self._hold_peers()
        return self._report()

    def _hold_large(self) -> None:
        programs = find_programs(MAJOR).usable_by(self._place.account)
        knowing = [peer for peer in self._peers if peer.major >= MAJOR]
        for scale in self._options.scale:
            large = Large(self._place, self._options, scale, knowing, self._options.rows, tell)
            self._sections.append(large.hold(programs))
            self._clear_all()

    def _hold_crowded(self) -> None:
        place, relations = self._place, self._options.relations
        programs = find_programs(MAJOR).usable_by(place.account)
        tell(f"making {relations:,} relations")
        title = f"{relations:,} small relations"
        with crowded_cluster(
            programs, place.directory / "crowded", place.account, relations
        ) as server:
            place.configure({"crowded": server})
            self._hold(
                "crowded",
                lambda: crowded_backup_contest(
                    place, "crowded", server, title=f"{title}: full backup"
                ),
            )
            place.opskit("backup", "crowded")
            self._hold(
                "crowded",
                lambda: restore_contest(
                    place, "crowded", title=f"{title}: restore", at_most=SLOWEST_CROWDED
                ),
            )
        self._clear_all()

    def _hold_log(self) -> None:
        place, scale = self._place, self._options.scale[-1]
        tell("making WAL")
        with logged_cluster(place, MAJOR, scale) as logged:
            version = logged.server.programs.version
            self._notes.append(f"the WAL archive with PostgreSQL {version}")
            self._hold("stream", lambda: stream_contest(place, logged))
            files = logged.files[:SEGMENTS_ONE_BY_ONE]
            self._hold("push", lambda: push_contest(place, CLUSTER, files, title="WAL push"))
            if self._wants("get", "recovery"):
                fill_archive(place, logged)
            self._hold("get", lambda: get_contest(place, CLUSTER, files, title="WAL get"))
            self._hold("recovery", lambda: recovery_contest(place, logged))
            self._hold("busy", lambda: busy_contest(place, logged, scale))
        self._clear_all()

    def _hold_fleet(self) -> None:
        place, clusters = self._place, self._options.clusters
        programs = find_programs(MAJOR).usable_by(place.account)
        tell(f"making up {clusters:,} clusters")
        with simulated_fleet(place, programs, clusters) as fleet:
            self._notes.append(f"the fleet's queue in PostgreSQL {programs.version}")
            self._hold("fleet", lambda: look_contest(fleet))
            self._hold("fleet", lambda: planning_contest(fleet))
            self._hold("fleet", lambda: queue_contest(fleet))
        self._clear_all()

    def _hold_jupyter(self) -> None:
        tell("making a backup to be served")
        self._notes.append(f"downloads from Jupyter Server {version('jupyter-server')}")
        with jupyter_contest(self._place, self._options.scale[-1]) as contest:
            self._hold("jupyter", lambda: contest)

    def _hold_peers(self) -> None:
        """Those that do not know the newest PostgreSQL, on the newest they know; and segments one by one."""
        for major in sorted({peer.major for peer in self._peers if peer.major}, reverse=True):
            peers = [peer for peer in self._peers if peer.major == major]
            programs = find_programs(major).usable_by(self._place.account)
            if major < MAJOR:
                scale = self._options.scale[-1]
                large = Large(self._place, self._options, scale, peers, ("full", "restore"), tell)
                self._sections.append(large.hold(programs))
                self._clear_all()
            for peer in peers:
                if peer.program == "pgbackrest":
                    self._hold_files_beside(peer)

    def _hold_files_beside(self, peer: Installed) -> None:
        place = self._place
        programs = find_programs(peer.major).usable_by(place.account)
        home = place.directory / "beside"
        with empty_cluster(programs, home, place.account, {}) as server:
            place.configure({"beside": server})
            place.opskit("backup", "beside")
            keeper = PgBackRestKeeper(Kind.TUNED, peer.release, peer.label, place, server)
            segments = write_log(server, SEGMENTS_ONE_BY_ONE * SEGMENT_BYTES)[:SEGMENTS_ONE_BY_ONE]
            folder = plain_segments(place, server, segments)
            files = [folder / segment.name for segment in segments]
            pushing = push_contest(place, "beside", files, title=f"WAL push beside {peer.label}")
            pushing.others.append(push_side(keeper, place, files))
            self._hold("peers", lambda: pushing)
            push_all(place, "beside", files)
            getting = get_contest(place, "beside", files, title=f"WAL get beside {peer.label}")
            getting.others.append(get_side(keeper, place, files))
            self._hold("peers", lambda: getting)
        self._clear_all()

    def _wants(self, *rows: str) -> bool:
        return bool(set(rows) & set(self._options.rows))

    def _hold(self, row: str, make: Callable[[], Contest]) -> None:
        if self._wants(row):
            contest = make()
            contest.hold(self._options.rounds, tell)
            self._rest.contests.append(contest)

    def _clear_all(self) -> None:
        """What a cluster's contests left: the next one's begin in an empty place, but for what was put aside."""
        for entry in self._place.directory.iterdir():
            if not self._options.keep and entry.name != AWAY:
                self._place.remove(entry.name)

    def _report(self) -> Report:
        options = self._options
        rows = "" if options.rows == ROWS else f" --rows {','.join(options.rows)}"
        rows += "" if options.days == DAYS else f" --days {options.days}"
        scales = ",".join(f"{scale:g}" for scale in options.scale)
        sections = [*self._sections, *([self._rest] if self._rest.contests else [])]
        held = [contest for section in sections for contest in section.contests]
        lines = [
            f"# Measured on {datetime.now(UTC):%Y-%m-%d}, scale {scales.replace(',', ' and ')}",
            "",
            f"By `python -m bench --scale {scales} --rounds {options.rounds}{rows}`"
            f"{''.join(f'; {note}' for note in self._notes)}. Every side ran once a round, in an order shuffled by the"
            " round's number; one that takes long ran in fewer, and is compared with those. A figure is the median of"
            " the rounds, with the smallest and the largest; a ratio is taken round by round. All data was in the page"
            " cache, and what was to be written had been written before each run. CPU seconds are those of the"
            " commands; the server's stand beside them, where it works for them. Memory is the largest sum of what the"
            " command's processes had resident, and what the server's process for it had of its own.",
            "",
            *(f"- {line}" for line in machine(self._place.directory)),
            *(f"- {line}" for line in said_of(self._peers)),
            "",
        ]
        lines += [aims_table(sections), growth_table(self._sections)]
        for section in sections:
            lines += [f"## {section.heading}", "", *(table(one) for one in section.contests)]
        weighed = [contest for contest in held if contest.weighs_memory]
        if weighed:
            lines.append(memory_table(weighed))
        return Report("\n".join(lines), chart(self._sections) if self._sections else None)


def tell(text: str) -> None:
    """What is being done, to who waits."""
    print(text, file=sys.stderr, flush=True)
