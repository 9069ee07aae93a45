"""``python -m bench``: make the data, hold the contests, write the report."""

import argparse
import json
import shutil
import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from bench.contest import Contest
from bench.contests import (
    SLOWEST_CROWDED,
    backup_contest,
    crowded_backup_contest,
    download_contest,
    restore_contest,
    start_contest,
)
from bench.peers import Installed, installed_peers, join, server_options
from bench.place import Place
from bench.report import machine, memory_table, table
from bench.servers import crowded_cluster, large_cluster
from opskit.errors import OpskitError
from opskit.postgres.account import server_account
from opskit.postgres.programs import find_programs
from opskit.reports.format import format_bytes

MAJOR = 18
PLACES = Path("/var/tmp")


def main() -> int:
    """Run the bench and print its report."""
    options = _options()
    account = server_account()
    directory = Path(tempfile.mkdtemp(prefix="opskit-bench-", dir=options.directory))
    directory.chmod(0o755)
    try:
        report = _report(Place(directory, account), options)
    except OpskitError as error:
        print(f"bench: {error.message}\nHINT: {error.hint}", file=sys.stderr)
        return 1
    finally:
        if options.keep:
            _tell(f"kept {directory}")
        else:
            shutil.rmtree(directory)
    print(report)
    if options.write:
        options.write.parent.mkdir(parents=True, exist_ok=True)
        options.write.write_text(report, encoding="utf-8")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="times 0.3 GB of data")
    parser.add_argument("--rounds", type=int, default=5, help="how often each side runs")
    parser.add_argument("--relations", type=int, default=10_000, help="of the crowded cluster")
    parser.add_argument("--no-peers", action="store_true", help="without pgBackRest and Barman")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the report there too")
    parser.add_argument("--directory", type=Path, default=PLACES, help="where to work, on a disk")
    parser.add_argument("--keep", action="store_true", help="leave the work directory")
    return parser.parse_args()


def _report(place: Place, options: argparse.Namespace) -> str:
    contests, versions = _main_contests(place, options)
    peers = [] if options.no_peers else installed_peers()
    beside: list[Contest] = []
    for major in sorted({peer.major for peer in peers if peer.major}, reverse=True):
        beside += _peer_contests(place, [p for p in peers if p.major == major], major, options)
    *measured, start = contests
    lines = [
        f"# Measured on {datetime.now(UTC):%Y-%m-%d}, scale {options.scale:g}",
        "",
        f"By `python -m bench --scale {options.scale:g} --rounds {options.rounds}`: {versions}. Every"
        " side ran once a round, in shuffled order. A figure is the median of the rounds, with the smallest and the"
        " largest; a ratio is taken round by round. All data was in the page cache. CPU seconds are"
        " those of the commands, not of the server.",
        "",
        *(f"- {line}" for line in machine(place.directory)),
        "",
    ]
    lines += [table(contest) for contest in measured]
    lines += [memory_table(measured), table(start)]
    if beside:
        lines += [table(contest) for contest in beside]
    elif not options.no_peers:
        lines.append("pgBackRest and Barman are not installed here.\n")
    return "\n".join(lines)


def _main_contests(place: Place, options: argparse.Namespace) -> tuple[list[Contest], str]:
    programs = find_programs(MAJOR).usable_by(place.account)
    held: list[Contest] = []

    def hold(contest: Contest) -> None:
        contest.hold(options.rounds, _tell)
        held.append(contest)

    with ExitStack() as stack:
        _tell(f"making data of scale {options.scale:g} in PostgreSQL {programs.version}")
        large = stack.enter_context(
            large_cluster(programs, place.directory / "large", place.account, options.scale)
        )
        place.configure({"large": large})
        hold(backup_contest(place, "large", large, title="Full backup", at_most=1.0))
        place.opskit("backup", "large")
        size = _size(place, "large")
        hold(restore_contest(place, "large", title="Restore", at_most=1.0))
        hold(download_contest(place, "large"))
        start = start_contest(place, "large")
        start.hold(options.rounds, _tell)
    place.remove_backups("large")
    place.remove("large")
    _tell(f"making {options.relations:,} relations")
    with crowded_cluster(
        programs, place.directory / "crowded", place.account, options.relations
    ) as crowded:
        place.configure({"crowded": crowded})
        title = f"{options.relations:,} small relations"
        hold(crowded_backup_contest(place, "crowded", crowded, title=f"{title}: full backup"))
        place.opskit("backup", "crowded")
        hold(restore_contest(place, "crowded", title=f"{title}: restore", at_most=SLOWEST_CROWDED))
    place.remove_backups("crowded")
    place.remove("crowded")
    return [*held, start], f"PostgreSQL {programs.version}, {size}"


def _peer_contests(
    place: Place, peers: list[Installed], major: int, options: argparse.Namespace
) -> list[Contest]:
    names = " and ".join(f"{peer.program} {peer.version}" for peer in peers)
    programs = find_programs(major).usable_by(place.account)
    _tell(f"making data of scale {options.scale:g} in PostgreSQL {programs.version} for {names}")
    home = place.directory / f"peers-{major}"
    with large_cluster(
        programs, home, place.account, options.scale, server_options(place)
    ) as server:
        place.configure({"beside": server})
        on = f"on PostgreSQL {programs.version}, the newest that {names} know"
        backup, restoring = join(
            peers,
            place,
            server,
            backup_contest(place, "beside", server, title=f"Full backup {on}", at_most=1.0),
            lambda: restore_contest(place, "beside", title=f"Restore {on}", at_most=1.0),
        )
        backup.hold(options.rounds, _tell)
        place.opskit("backup", "beside")
        restore = restoring()
        restore.hold(options.rounds, _tell)
    place.remove_backups("beside")
    place.remove(home.name)
    return [backup, restore]


def _size(place: Place, cluster: str) -> str:
    backup = json.loads(place.opskit("show", cluster, "latest", "--json")[1])
    whole, stored = backup["cluster_bytes"], backup["stored_bytes"]
    return f"{format_bytes(whole)} of data, stored as {format_bytes(stored)}"


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
