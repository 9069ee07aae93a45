"""Which contests are held, on which clusters, and the report of them."""

import argparse
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version

from bench.busy_contest import busy_contest
from bench.contest import Contest
from bench.contests import (
    SLOWEST_CROWDED,
    backup_contest,
    crowded_backup_contest,
    download_contest,
    restore_contest,
    start_contest,
)
from bench.file_contests import get_contest, push_all, push_contest
from bench.fleet_contests import (
    look_contest,
    planning_contest,
    queue_contest,
    simulated_fleet,
)
from bench.jupyter_contests import jupyter_contest
from bench.log_contests import fill_archive, stream_contest
from bench.logged import CLUSTER, PLAIN, SEGMENT_BYTES, logged_cluster, plain_segments, write_log
from bench.peers import Installed, get_side, installed_peers, join, push_side, server_options
from bench.place import Place
from bench.recovery_contests import recovery_contest
from bench.report import machine, memory_table, table
from bench.servers import crowded_cluster, large_cluster
from opskit.postgres.programs import find_programs
from opskit.postgres.server import LocalServer
from opskit.reports.format import format_bytes

MAJOR = 18
OF_LARGE = ("backup", "restore", "download", "start")
OF_LOG = ("stream", "push", "get", "recovery", "busy")
SEGMENTS_ONE_BY_ONE = 16
ROWS = (*OF_LARGE, "crowded", *OF_LOG, "fleet", "jupyter", "peers")


class Agenda:
    """Holds the contests of the rows that are asked for, one cluster after the other."""

    def __init__(self, place: Place, options: argparse.Namespace) -> None:
        self._place, self._options = place, options
        self._held: list[Contest] = []
        self._notes: list[str] = []

    def hold(self) -> str:
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
        place, options = self._place, self._options
        programs = find_programs(MAJOR).usable_by(place.account)
        tell(f"making data of scale {options.scale:g} in PostgreSQL {programs.version}")
        with large_cluster(
            programs, place.directory / "large", place.account, options.scale
        ) as large:
            place.configure({"large": large})
            self._hold(
                "backup",
                lambda: backup_contest(place, "large", large, title="Full backup", at_most=1.0),
            )
            place.opskit("backup", "large")
            self._notes.append(f"PostgreSQL {programs.version}, {self._size('large')}")
            self._hold(
                "restore", lambda: restore_contest(place, "large", title="Restore", at_most=1.0)
            )
            self._hold("download", lambda: download_contest(place, "large"))
            self._hold("start", lambda: start_contest(place, "large"))
        self._clear("large", "large")

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
        self._clear("crowded", "crowded")

    def _hold_log(self) -> None:
        place, scale = self._place, self._options.scale
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
        self._clear(CLUSTER, CLUSTER)

    def _hold_fleet(self) -> None:
        place, clusters = self._place, self._options.clusters
        programs = find_programs(MAJOR).usable_by(place.account)
        tell(f"making up {clusters:,} clusters")
        with simulated_fleet(place, programs, clusters) as fleet:
            self._notes.append(f"the fleet's queue in PostgreSQL {programs.version}")
            self._hold("fleet", lambda: look_contest(fleet))
            self._hold("fleet", lambda: planning_contest(fleet))
            self._hold("fleet", lambda: queue_contest(fleet))
        self._clear("fleet", "fleet")

    def _hold_jupyter(self) -> None:
        tell("making a backup to be served")
        self._notes.append(f"downloads from Jupyter Server {version('jupyter-server')}")
        with jupyter_contest(self._place, self._options.scale) as contest:
            self._hold("jupyter", lambda: contest)

    def _hold_peers(self) -> None:
        peers = installed_peers()
        if not peers:
            self._notes.append("pgBackRest and Barman are not installed here")
        for major in sorted({peer.major for peer in peers if peer.major}, reverse=True):
            self._hold_beside([peer for peer in peers if peer.major == major], major)

    def _hold_beside(self, peers: list[Installed], major: int) -> None:
        place, scale = self._place, self._options.scale
        names = " and ".join(f"{peer.program} {peer.version}" for peer in peers)
        programs = find_programs(major).usable_by(place.account)
        tell(f"making data of scale {scale:g} in PostgreSQL {programs.version} for {names}")
        home = place.directory / f"peers-{major}"
        with large_cluster(programs, home, place.account, scale, server_options(place)) as server:
            place.configure({"beside": server})
            on = f"on PostgreSQL {programs.version}, the newest that {names} know"
            backup, restoring = join(
                peers,
                place,
                server,
                backup_contest(place, "beside", server, title=f"Full backup {on}", at_most=1.0),
                lambda: restore_contest(place, "beside", title=f"Restore {on}", at_most=1.0),
            )
            self._hold("peers", lambda: backup)
            place.opskit("backup", "beside")
            self._hold("peers", restoring)
            for peer in peers:
                if peer.program == "pgbackrest":
                    self._hold_files_beside(peer, server, on)
        self._clear("beside", home.name)

    def _hold_files_beside(self, peer: Installed, server: LocalServer, on: str) -> None:
        place = self._place
        segments = write_log(server, SEGMENTS_ONE_BY_ONE * SEGMENT_BYTES)[:SEGMENTS_ONE_BY_ONE]
        folder = plain_segments(place, server, segments)
        files = [folder / segment.name for segment in segments]
        pushing = push_contest(place, "beside", files, title=f"WAL push {on}")
        pushing.others.append(push_side(place, peer, files))
        self._hold("peers", lambda: pushing)
        push_all(place, "beside", files)
        getting = get_contest(place, "beside", files, title=f"WAL get {on}")
        getting.others.append(get_side(place, peer, files))
        self._hold("peers", lambda: getting)

    def _wants(self, *rows: str) -> bool:
        return bool(set(rows) & set(self._options.rows))

    def _hold(self, row: str, make: Callable[[], Contest]) -> None:
        if self._wants(row):
            contest = make()
            contest.hold(self._options.rounds, tell)
            self._held.append(contest)

    def _clear(self, cluster: str, home: str) -> None:
        if not self._options.keep:
            for name in (f"repository/{cluster}", home, PLAIN):
                self._place.remove(name)

    def _size(self, cluster: str) -> str:
        backup = json.loads(self._place.opskit("show", cluster, "latest", "--json")[1])
        whole, stored = backup["cluster_bytes"], backup["stored_bytes"]
        return f"{format_bytes(whole)} of data, stored as {format_bytes(stored)}"

    def _report(self) -> str:
        options = self._options
        rows = "" if options.rows == ROWS else f" --rows {','.join(options.rows)}"
        lines = [
            f"# Measured on {datetime.now(UTC):%Y-%m-%d}, scale {options.scale:g}",
            "",
            f"By `python -m bench --scale {options.scale:g} --rounds {options.rounds}{rows}`:"
            f" {'; '.join(self._notes)}. Every side ran once a round, in shuffled order. A figure is the median of the"
            " rounds, with the smallest and the largest; a ratio is taken round by round. All data was in the page"
            " cache. CPU seconds are those of the commands, not of the server, unless it says so.",
            "",
            *(f"- {line}" for line in machine(self._place.directory)),
            "",
            *(table(contest) for contest in self._held),
        ]
        weighed = [contest for contest in self._held if contest.weighs_memory]
        if weighed:
            lines.append(memory_table(weighed))
        return "\n".join(lines)


def tell(text: str) -> None:
    """What is being done, to who waits."""
    print(text, file=sys.stderr, flush=True)
