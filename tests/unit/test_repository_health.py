"""What repository_health finds, one thing wrong at a time; the server is gone throughout."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from opskit.cluster import Cluster
from opskit.errors import InputError, IntegrityError
from opskit.model.backup import BaseBackup
from opskit.model.operation import OperationKind, OperationStatus
from opskit.operations.inventory import take_inventory
from opskit.reports.trends import backups_chart, growth_chart
from opskit.repository import Repository
from opskit.runbooks import CheckResult, Run, contract, run_runbook
from opskit.runbooks import repository_health as cells
from opskit.store import MemoryStore, Store, open_store
from tests.notebooks.books import write_settings
from tests.support.repositories import made_up_backup, made_up_wal

NOW = datetime.now(UTC).replace(microsecond=0)
RECENT = "the newest backup is not older than 26 hours"
WHOLE = "of every backup all is there, and as long as its record says"
READABLE_WAL = "the WAL archive can be read"
OWNED = "nothing is stored that belongs to no backup and no WAL"
READ = "every stored byte reads back with the checksum it was stored with"
GAP = "the WAL archive has no gap that a backup needs"
FOLLOWS = "the WAL archive goes on from the newest backup"
KEEPS_UP = "the WAL archive keeps up with the server"
SERVER = "the server is the one whose backups these are"
MENDED = "what failed in the last 7 days has succeeded since"


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster with two backups and the WAL behind them, whose server is not there."""
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "none"))
    cluster = Cluster("main", write_settings(tmp_path))
    kept = store(cluster)
    made_up_backup(kept, NOW - timedelta(hours=30), 3)
    made_up_backup(kept, NOW - timedelta(hours=6), 5)
    made_up_wal(kept, range(3, 9))
    yield cluster
    cluster.catalog.close()


def store(main: Cluster) -> Store:
    """The store of its repository."""
    return open_store(main.settings.repository_url)


def folder(backup: BaseBackup) -> str:
    """Where a backup's objects are."""
    return f"main/backups/{backup.name}"


@pytest.fixture
def look(main: Cluster, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Makes all the checks, as the notebook does; the result and detail of each."""
    monkeypatch.setattr(contract, "_show", lambda view: None)

    def make(newest_hours: int = 26, deep: bool = False) -> dict[str, Any]:
        run = Run(settings=main.settings, cluster="main", parameters={})
        run.require(cells.preconditions(main))
        stock = cells.take_stock(main)
        cells.check_backups(run, stock, newest_hours)
        cells.read_back(run, main, stock, deep)
        cells.check_wal(run, stock)
        cells.check_identity(run, main)
        cells.check_operations(run, main, 7)
        return {check.what: (check.result, check.detail) for check in run.checks}

    return make


def failed(checks: dict[str, Any]) -> dict[str, str]:
    """What failed, and why."""
    return {what: why for what, (result, why) in checks.items() if result is CheckResult.FAILED}


def test_all_is_well_without_a_server(main: Cluster, look: Callable[..., dict[str, Any]]) -> None:
    """Nothing fails; what only a server can tell is not run, and says so; what is there is told."""
    stock = cells.take_stock(main)
    assert "2, the oldest " in str(cells.stored(stock))
    assert "2 backups" in str(cells.history(stock))
    assert "WAL" in str(cells.growth(stock))
    assert "000000010000000000000008" in str(cells.wal_ranges(stock))
    checks = look(deep=True)
    assert failed(checks) == {}
    not_run = [what for what, (result, _) in checks.items() if result is CheckResult.NOT_RUN]
    assert not_run == [KEEPS_UP, SERVER]
    assert "does not answer" in checks[SERVER][1]
    assert checks[WHOLE][1] == "2 backups, 4 volumes"
    assert look()[READ] == (CheckResult.NOT_RUN, "the parameter deep is false")


def test_a_missing_volume_is_named(main: Cluster, look: Callable[..., dict[str, Any]]) -> None:
    """A backup without one of its volumes fails the run, by the volume's name."""
    gone = f"{folder(main.backup())}/snapshot-00002.tar.zst"
    store(main).delete(gone)
    assert failed(look()) == {WHOLE: f"{gone} is missing"}


def test_a_short_volume_is_named(main: Cluster, look: Callable[..., dict[str, Any]]) -> None:
    """So does a volume that is shorter than its record says, though it is there."""
    short = f"{folder(main.backup())}/snapshot-00001.tar.zst"
    store(main).put(short, [b"short"], replace=True)
    [why] = failed(look()).values()
    assert why.startswith(f"{short} has 5 bytes, expected ")


@pytest.mark.parametrize("name", ["index.json.zst", "backup_manifest.zst", "backup.json"])
@pytest.mark.parametrize("missing", [True, False])
def test_a_damaged_record_is_told(
    main: Cluster, look: Callable[..., dict[str, Any]], name: str, missing: bool
) -> None:
    """An index, manifest or record that is missing or differs is told; a backup without record is none yet."""
    backup = main.backup()
    if missing:
        store(main).delete(f"{folder(backup)}/{name}")
    else:
        store(main).put(f"{folder(backup)}/{name}", [b"damaged"], replace=True)
    found = look()
    if missing and name == "backup.json":
        assert RECENT in failed(found)
        assert take_inventory(main.repository, "main").begun == (backup.name,)
    else:
        assert backup.name in failed(found)[WHOLE]


def test_damage_within_a_volume_is_found_by_reading(
    main: Cluster, look: Callable[..., dict[str, Any]]
) -> None:
    """A flipped byte is found when every byte is read, in a volume and in the WAL, and not before."""
    kept, name = store(main), f"{folder(main.backup())}/snapshot-00001.tar.zst"
    wal = "main/wal/00000001/00000000/000000010000000000000006.zst"
    for damaged in (name, wal):
        content = bytearray(b"".join(kept.get(damaged)))
        content[len(content) // 2] ^= 1
        kept.put(damaged, [bytes(content)], replace=True)
    assert failed(look()) == {}
    why = failed(look(deep=True))[READ]
    assert name in why and "WAL segment 000000010000000000000006 cannot be read" in why


def test_a_gap_in_the_wal_is_named(main: Cluster, look: Callable[..., dict[str, Any]]) -> None:
    """A missing segment that a backup needs fails the run; the chart's table shows both sides."""
    store(main).delete("main/wal/00000001/00000000/000000010000000000000006.zst")
    why = failed(look())
    assert set(why) == {GAP}
    assert why[GAP].startswith("1 segment missing, 000000010000000000000006: backup ")


def test_an_archive_that_begins_too_late_is_told(
    main: Cluster, look: Callable[..., dict[str, Any]]
) -> None:
    """WAL that begins behind the newest backup leads on from nothing."""
    for number in (3, 4, 5):
        store(main).delete(f"main/wal/00000001/00000000/00000001000000000000000{number}.zst")
    assert FOLLOWS in failed(look())


def test_without_any_wal_nothing_is_claimed(
    main: Cluster, look: Callable[..., dict[str, Any]]
) -> None:
    """A cluster whose WAL is not archived is not faulty; nothing is said about times between its backups."""
    for number in range(3, 9):
        store(main).delete(f"main/wal/00000001/00000000/00000001000000000000000{number}.zst")
    checks = look()
    assert failed(checks) == {}
    assert {checks[what][0] for what in (GAP, FOLLOWS, KEEPS_UP)} == {CheckResult.NOT_RUN}


def test_an_old_newest_backup_fails(look: Callable[..., dict[str, Any]]) -> None:
    """The age that counts is that of the newest backup's end."""
    checks = look(newest_hours=5)
    [why] = failed(checks).values()
    assert "ended 6 h" in why


def test_what_belongs_to_nothing_is_named(
    main: Cluster, look: Callable[..., dict[str, Any]]
) -> None:
    """Strange objects are named wherever they lie; what a backup that is being written has stored is none."""
    kept = store(main)
    names = (
        f"{folder(main.backup())}/snapshot-00003.tar.zst",
        "main/backups/notes.txt",
        "main/old/copy.tar",
    )
    for name in names:
        kept.put(name, [b"x"])
    kept.put(f"main/backups/{NOW:%Y%m%dT%H%M%SZ}/snapshot-00001.tar.zst", [b"x"])
    kept.put(f"main/holds/{main.backup().name}.json", [b"{}"])
    [(what, why)] = failed(look()).items()
    assert what == OWNED
    assert all(name in why for name in names)
    assert f"{NOW:%Y%m%dT%H%M%SZ}" not in why


def test_a_stranger_in_the_wal_is_told(main: Cluster, look: Callable[..., dict[str, Any]]) -> None:
    """A file that is no segment is named, and passed over; a damaged history keeps the archive from being read."""
    store(main).put("main/wal/00000001/00000000/core", [b"x"])
    [(what, why)] = failed(look()).items()
    assert what == OWNED and "main/wal/00000001/00000000/core" in why
    store(main).put("main/wal/00000002.history.zst", [b"x"])
    store(main).put("main/wal/00000002/00000000/000000020000000000000009.zst", [b"x"])
    assert "'main/wal/00000002.history.zst' is damaged" in failed(look())[READABLE_WAL]


def test_what_failed_and_has_not_succeeded_since_is_told(
    main: Cluster, look: Callable[..., dict[str, Any]]
) -> None:
    """A backup that failed fails the run until one succeeds; other kinds of operations do not make up for it."""

    def operation(kind: OperationKind, status: OperationStatus) -> None:
        row = main.catalog.start(kind=kind, cluster="main", parameters={}, actor="operator")
        error = IntegrityError("it broke").as_dict() if status is OperationStatus.FAILED else None
        main.catalog.finish(row.id, status, error=error)

    operation(OperationKind.BACKUP, OperationStatus.FAILED)
    operation(OperationKind.RESTORE, OperationStatus.COMPLETE)
    [(what, why)] = failed(look()).items()
    assert what == MENDED and "backup of " in why and "it broke" in why
    operation(OperationKind.BACKUP, OperationStatus.CANCELLED)
    assert MENDED in failed(look())
    operation(OperationKind.BACKUP, OperationStatus.COMPLETE)
    assert failed(look()) == {}


def test_a_repository_that_knows_nothing_ends_the_run(tmp_path: Path) -> None:
    """A cluster of which nothing is stored fails the preconditions; the cell before them is no traceback."""
    main = Cluster("main", write_settings(tmp_path))
    [finding] = cells.preconditions(main)
    assert not finding.passed and "holds nothing of cluster 'main'" in finding.message
    assert "holds nothing" in str(cells.source(main))


@pytest.mark.parametrize(("name", "text"), [("newest_hours", "0"), ("failed_days", "-1")])
def test_limits_are_above_zero(main: Cluster, name: str, text: str) -> None:
    """A limit that every backup breaks, or that looks at nothing, is refused by its name."""
    with pytest.raises(InputError, match=f"'{name}' is {text}, expected a whole number from 1"):
        run_runbook(main.settings, "repository_health", "main", {name: text})


def test_charts_over_time_of_nothing_and_of_much() -> None:
    """No backup is no reason to fail, and ten thousand segments make no large picture."""
    assert backups_chart([]).text == "Chart, backups over time: no backup."
    assert growth_chart([], [], "What is stored").text == "Area chart, what is stored: nothing."
    kept = MemoryStore()
    some = [made_up_backup(kept, NOW - timedelta(days=n), 3) for n in range(3)]
    assert "3 backups; stored from " in backups_chart(some).text
    wal = [(NOW - timedelta(minutes=n), 1000) for n in range(10_000)]
    chart = growth_chart(some, wal, "What is stored")
    assert "WAL 10.0 MB" in chart.text and len(chart.svg) < 150_000


def test_a_backup_that_is_removed_meanwhile_is_no_flaw(main: Cluster) -> None:
    """What expires while it is looked at is not reported as damaged."""
    kept, old = store(main), main.repository.backups("main")[-1]

    class Vanishing(Repository):
        def objects(self, cluster: str) -> Any:
            for stat in kept.list(folder(old)).objects:
                kept.delete(stat.name)
            return super().objects(cluster)

    found = take_inventory(Vanishing(kept), "main")
    assert found.flaws == ()
