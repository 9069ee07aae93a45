"""A full backup by everybody who keeps some: taken, restored, downloaded, verified. The aims stand here."""

from dataclasses import replace

from bench.contest import Contest, Side
from bench.keepers import Keeper, Kind, of_kinds, taking, weighed, with_aims
from bench.own_keepers import OpskitKeeper
from bench.place import Place

SLOWEST_FULL = {Kind.NATIVE: 1.0, Kind.TUNED: 0.9, Kind.DEFAULTS: 0.2}
SLOWEST_RESTORE = {Kind.NATIVE: 1.0, Kind.TUNED: 0.65}
SLOWEST_DOWNLOAD = 2.0


def full_contest(
    opskit: OpskitKeeper,
    others: list[Keeper],
    senders: list[Side],
    failures: dict[str, str],
    rounds: dict[Kind, int],
) -> Contest:
    """A full backup into an empty repository; leaves everybody with one."""

    def side(keeper: Keeper) -> Side:
        plain = Side(
            name=keeper.label if keeper is not opskit else "opskit backup",
            run=lambda: weighed(keeper, keeper.full),
            clear=keeper.drop_all,
        )
        return with_aims(plain, keeper.kind, at_most=SLOWEST_FULL, rounds=rounds)

    return Contest(
        title="Full backup",
        note="`pg_basebackup` to nothing is the protocol's limit: nobody who asks the server for a backup is faster."
        " All files are synced. opskit's and `pg_basebackup`'s hold the WAL that makes them whole; pgBackRest's and"
        " Barman's do not, and nobody waits for it here. Barman stores the files as they are, uncompressed.",
        opskit=side(opskit),
        others=[*senders, *(side(keeper) for keeper in others)],
        failures=failures,
        leaves=True,
    )


def again_contest(opskit: OpskitKeeper, others: list[Keeper]) -> Contest:
    """A full backup when there is one already; leaves those that were there."""
    return Contest(
        title="Full backup, repeated",
        note="Nothing has changed since the one before, which everybody still has.",
        opskit=taking(opskit, opskit.full, "opskit backup --full"),
        others=[
            with_aims(taking(keeper, keeper.full, keeper.label), keeper.kind, at_most=SLOWEST_FULL)
            for keeper in of_kinds(others, Kind.TUNED)
        ],
    )


def restore_contest(opskit: OpskitKeeper, others: list[Keeper], rounds: dict[Kind, int]) -> Contest:
    """The full backup put back."""

    def side(keeper: Keeper) -> Side:
        plain = Side(name=keeper.label, run=keeper.restore, clear=keeper.clear_restored)
        return with_aims(plain, keeper.kind, at_most=SLOWEST_RESTORE, rounds=rounds)

    return Contest(
        title="Restore of a full backup",
        note="opskit and pgBackRest sync every file and hold what they read against checksums (opskit: SHA-256 of each"
        " volume; pgBackRest: SHA-1 of each file). `zstd` checks its own frames and `sync -f` is counted. Barman copies"
        " by rsync, and neither checks nor syncs.",
        opskit=Side(name="opskit restore", run=opskit.restore, clear=opskit.clear_restored),
        others=[
            replace(side(keeper), name="zstd -d | tar -x; sync -f")
            if keeper.kind is Kind.NATIVE
            else side(keeper)
            for keeper in others
        ],
    )


def download_contest(place: Place, opskit: OpskitKeeper) -> Contest:
    """A download of the full backup, beside ``cat``."""
    volumes = place.volumes(opskit.cluster)
    return Contest(
        title="Download",
        note="opskit holds every volume against its SHA-256 on the way. The aim is half of `cat`'s speed.",
        opskit=Side(name="opskit download", run=opskit.download, clear=opskit.clear_downloaded),
        others=[
            Side(
                name="cat volumes > file; sync",
                run=lambda: place.shell(f"cat {volumes} > cat.tar.zst; sync cat.tar.zst"),
                clear=lambda: place.remove("cat.tar.zst"),
                at_most=SLOWEST_DOWNLOAD,
            )
        ],
    )


def verify_contest(opskit: OpskitKeeper, others: list[Keeper]) -> Contest:
    """The full backup's bytes held against its checksums."""
    names = {
        Kind.NATIVE: "zstd -d | tar -x; pg_verifybackup",
        Kind.TUNED: "{} verify",
        Kind.BARMAN: "{} verify-backup",
    }
    return Contest(
        title="Verify",
        note="opskit has no command that only verifies: its download reads every volume and holds it against its"
        " SHA-256, and writes the archive besides. pgBackRest reads what is stored, Barman has `pg_verifybackup` read"
        " its files, which are not compressed.",
        weighs_memory=False,
        opskit=Side(name="opskit download", run=opskit.verify, clear=opskit.clear_downloaded),
        others=[
            Side(
                name=names[keeper.kind].format(keeper.label),
                run=keeper.verify,
                clear=keeper.clear_restored if keeper.kind is Kind.NATIVE else _nothing,
                rounds=1 if keeper.kind is Kind.NATIVE else None,
            )
            for keeper in of_kinds(others, *names)
        ],
    )


def _nothing() -> None:
    """A verification leaves nothing."""
