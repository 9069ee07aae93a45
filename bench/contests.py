"""What is measured, and against what: the aims of the project stand here."""

import shlex
from dataclasses import replace

from bench.contest import Contest, Side
from bench.measure import Cost
from bench.place import Place
from opskit.postgres.server import LocalServer

SLOWEST_CROWDED = 1.5


def backup_contest(
    place: Place, cluster: str, server: LocalServer, *, title: str, at_most: float | None = None
) -> Contest:
    """A full backup, beside what ``pg_basebackup`` does; leaves none."""
    sender = _pg_basebackup(server, "-", "-Ft")
    return Contest(
        title=title,
        note="`pg_basebackup` to nothing is the protocol's limit: nobody who asks the server for a backup is faster."
        " The file of the piped one is synced, as opskit's volumes are.",
        opskit=Side(
            name="opskit backup",
            run=lambda: place.opskit("backup", cluster)[0],
            clear=lambda: place.remove_backups(cluster),
        ),
        others=[
            *senders(place, server),
            Side(
                name="pg_basebackup | zstd -1 -T0 > file; sync",
                run=lambda: place.shell(
                    f"{sender} | zstd -q -1 -T0 > piped.tar.zst; sync piped.tar.zst"
                ),
                clear=lambda: place.remove("piped.tar.zst"),
                at_most=at_most,
            ),
        ],
    )


def senders(place: Place, server: LocalServer) -> list[Side]:
    """The server's sender with nobody who stores what it sends."""
    sender = _pg_basebackup(server, "-", "-Ft")
    return [
        Side(name="pg_basebackup > /dev/null", run=lambda: place.shell(f"{sender} > /dev/null"))
    ]


def crowded_backup_contest(
    place: Place, cluster: str, server: LocalServer, *, title: str
) -> Contest:
    """A full backup of many small files, beside ``pg_basebackup`` as it is typed, too; leaves none."""
    contest = backup_contest(place, cluster, server, title=title)
    plain = Side(
        name="pg_basebackup -D directory",
        run=lambda: place.shell(_pg_basebackup(server, "plain", "-Fp")),
        clear=lambda: place.put_aside("plain"),
        at_most=SLOWEST_CROWDED,
    )
    return replace(
        contest,
        note=f"{contest.note} Into a directory is how `pg_basebackup` works when nothing else is asked of it; it syncs"
        " its files. With so little data the start of a process that has Python, psycopg and SQLAlchemy to load is"
        " a good part of opskit's time.",
        others=[plain, *contest.others],
    )


def restore_contest(place: Place, cluster: str, *, title: str, at_most: float) -> Contest:
    """A restore of the cluster's only backup, beside ``tar``."""
    unpack = f"mkdir tar && cat {place.volumes(cluster)} | zstd -q -d | tar -x -C tar"

    def opskit() -> Cost:
        return place.opskit("restore", cluster, str(place.directory / "restored"))[0]

    return Contest(
        title=title,
        note="opskit's files are synced when it returns, and every volume has been held against its SHA-256;"
        " `tar` alone leaves its files to be written later.",
        opskit=Side(name="opskit restore", run=opskit, clear=lambda: place.put_aside("restored")),
        others=[
            Side(
                name="cat volumes | zstd -d | tar -x; sync -f",
                run=lambda: place.shell(f"{unpack}; sync -f tar"),
                clear=lambda: place.put_aside("tar"),
                at_most=at_most,
            ),
            Side(
                name="cat volumes | zstd -d | tar -x",
                run=lambda: place.shell(unpack),
                clear=lambda: place.put_aside("tar"),
            ),
        ],
    )


def start_contest(place: Place, cluster: str) -> Contest:
    """What a command takes before its own work begins: nobody stands beside it."""
    return Contest(
        title="Start-up",
        note="Contained in every figure of opskit above. With little data it is most of them, so ratios count from"
        " scale 10 on.",
        weighs_memory=False,
        opskit=Side(name="opskit --version", run=lambda: place.opskit("--version")[0]),
        others=[
            Side(
                name="opskit show (reads the configuration and a backup's record)",
                run=lambda: place.opskit("show", cluster, "latest")[0],
            )
        ],
    )


def _pg_basebackup(server: LocalServer, target: str, form: str) -> str:
    words = ["-D", target, form, "-X", "fetch", "-c", "fast", "-d", server.conninfo()]
    return shlex.join([str(server.programs.path("pg_basebackup")), *words])
