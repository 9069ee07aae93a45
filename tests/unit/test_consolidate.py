"""`opskit consolidate` and `Cluster.consolidate`: what they print, record, refuse and enter in the audit log."""

import json
import random
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from opskit.cli import main as command
from opskit.cluster import Cluster
from opskit.config import Settings
from opskit.errors import Cancelled, ConflictError, ErrorKind, NotFoundError
from opskit.evidence.keys import init_key
from opskit.evidence.log import open_catalog
from opskit.evidence.verify import verify_audit
from opskit.model.audit import REPLACED, AuditEvent, AuditKind
from opskit.model.backup import BackupKind, BaseBackup
from opskit.model.chain import Fault
from opskit.model.operation import OperationKind, OperationStatus, Progress
from opskit.model.retention import Retention, decide
from opskit.operations.expire import ExpirePlan, execute_expire, plan_expire
from opskit.operations.monitor import SilentMonitor
from opskit.repository import Repository
from opskit.repository.records import record_name, record_sha256
from opskit.store import LocalStore
from tests.support.chains import MadeUpChain, restored
from tests.support.command import interrupted, run_command
from tests.support.records import record
from tests.unit.test_audit_trail import BACKUP_NAME, Configure, configure, run

__all__ = ["configure"]
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def main(tmp_path: Path, configure: Configure) -> Iterator[Cluster]:
    """A cluster with three backups, each based on the one before, and a key that signs."""
    init_key(tmp_path / "audit.key")
    settings = configure('key = "audit.key"')
    chain = MadeUpChain(LocalStore(tmp_path / "repository"), random.Random(3), largest=400)
    for _ in range(3):
        chain.take()
    cluster = Cluster("main", settings)
    yield cluster
    cluster.catalog.close()


def names(main: Cluster) -> list[str]:
    """The names of the backups, newest first; the second one is called `BACKUP_NAME`."""
    found = [backup.name for backup in main.repository.backups("main")]
    assert found[1] == BACKUP_NAME
    return found


def told(
    capsys: pytest.CaptureFixture[str], settings: Settings, *arguments: str
) -> tuple[int, str, str]:
    """The command's exit code, and what it printed."""
    code = command(["--config", str(settings.file), *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command(main: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what it would do, does it, and says when there is nothing to do; the lists tell the kind of now."""
    settings, (newest, middle, full) = main.settings, names(main)
    code, out, _ = told(capsys, settings, "consolidate", "main", "latest", "--dry-run")
    assert code == 0
    assert out.startswith(
        f"{newest} of 'main' is put together with {middle}, {full} into a full backup of about "
    )
    assert main.backup().kind is BackupKind.INCREMENTAL
    code, out, _ = told(capsys, settings, "consolidate", "main", "latest")
    assert (code, out[: len(newest) + 28]) == (0, f"{newest} is a full backup, stored as")
    code, out, _ = told(capsys, settings, "backups", "main", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert (rows[newest]["kind"], rows[newest]["parent"]) == ("full", None)
    assert (rows[middle]["kind"], rows[middle]["parent"]) == ("incremental", full)
    code, out, _ = told(capsys, settings, "show", "main", newest)
    assert f"with {middle}, {full}" in out
    assert main.backups()["chain_length"].to_list() == [1, 2, 1]
    code, out, _ = told(capsys, settings, "consolidate", "main", newest, "--dry-run")
    assert (code, out) == (0, f"{newest} of 'main' is a full backup already\n")
    code, out, _ = told(capsys, settings, "consolidate", "main", full)
    assert (code, out[: len(full) + 17]) == (0, f"{full} is a full backup")
    code, _, err = told(capsys, settings, "consolidate", "main", "20200101T000000Z")
    assert (code, "has no backup" in err) == (3, True)


def test_a_chain_that_is_broken(main: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused with the code of damage, and nothing is recorded as done."""
    newest, middle, full = names(main)
    main.repository.remove_backup("main", full)
    code, out, err = told(capsys, main.settings, "consolidate", "main", newest)
    assert (code, out) == (7, "")
    assert f"is based on '{full}', which is missing" in err
    assert "HINT: " in err
    assert main.backup(middle).kind is BackupKind.INCREMENTAL
    with pytest.raises(NotFoundError):
        main.consolidate(full)


def test_what_it_records(main: Cluster) -> None:
    """The operation names the backup, tells how far it is, and can be ended."""
    seen: list[Progress] = []

    class Watching(SilentMonitor):
        def report(self, progress: Progress) -> None:
            seen.append(progress)

    done = main.consolidate("latest", monitor=Watching())
    done_bytes = [progress.bytes_done for progress in seen]
    assert 0 < done_bytes[0] < done_bytes[-1] == max(done_bytes)
    [operation] = main.catalog.operations(cluster="main")
    assert (operation.kind, operation.status) == (OperationKind.CONSOLIDATE, "complete")
    assert operation.backup == done.name
    assert (operation.result or {})["stored_bytes"] == done.stored_bytes

    class Ending(SilentMonitor):
        def check(self) -> None:
            raise Cancelled("cancelled")

    with pytest.raises(Cancelled):
        main.consolidate(BACKUP_NAME, monitor=Ending())
    assert main.catalog.operations(cluster="main")[0].status is OperationStatus.CANCELLED
    assert main.backup(BACKUP_NAME).kind is BackupKind.INCREMENTAL


def running(main: Cluster, kind: OperationKind, **parameters: str) -> None:
    """Somebody else, on this host, is at work."""
    main.catalog.start(kind=kind, cluster="main", parameters=parameters, actor="anna")


def test_another_one_is_running(main: Cluster) -> None:
    """The second one on the same backup is refused; one on another backup is not."""
    newest, middle, _ = names(main)
    running(main, OperationKind.CONSOLIDATE, backup=newest)
    with pytest.raises(ConflictError, match="is being consolidated by anna") as raised:
        main.consolidate(newest)
    assert raised.value.kind is ErrorKind.BACKUP_RUNNING
    assert main.backup(newest).kind is BackupKind.INCREMENTAL
    with pytest.raises(ConflictError, match=r"consolidate \w+ on .* reads it"):
        main.plan_delete(newest)
    assert main.consolidate(middle).kind is BackupKind.FULL


def test_it_is_read_meanwhile(main: Cluster) -> None:
    """What a reader may still need stays, the parents too, until a day after it has ended."""
    newest, middle, full = names(main)
    before = {stat.name for stat in main.repository.objects("main")}
    row = main.catalog.start(
        kind=OperationKind.RESTORE, cluster="main", parameters={}, actor="anna"
    )
    main.catalog.update(row.id, Progress(phase="restoring"), newest)
    main.consolidate(newest)
    assert before <= {stat.name for stat in main.repository.objects("main")}
    policy = Retention(on_demand=0, daily=1)
    assert {d.backup.name: d.keep for d in main.plan_expire(policy).decisions} == {
        newest: True,
        middle: True,
        full: True,
    }
    main.catalog.finish(row.id, OperationStatus.COMPLETE)
    assert not main.plan_expire(policy).leftovers
    later = datetime.now(UTC) + timedelta(days=2)
    plan = plan_expire(main.repository, "main", policy, later)
    assert [backup.name for backup in plan.leftovers] == [newest]
    assert plan.leftover_bytes > 0
    execute_expire(plan, main.repository, later, SilentMonitor())
    assert main.repository.names("main") == [newest]
    assert {stat.name.count("/") for stat in main.repository.objects("main")} == {1, 3, 4}
    main.repository.check_stored(main.backup(newest))


def test_what_is_kept_for_others_only_is_told(
    main: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plan of an expire names the backup that would let its parents go, and they go."""
    newest, *_ = names(main)
    file = main.settings.file
    assert file is not None
    limited = 'conninfo = "service=nowhere"\nretention = { daily = 1 }'
    file.write_text(file.read_text().replace('conninfo = "service=nowhere"', limited))
    code, out, _ = told(capsys, main.settings, "expire", "main", "--dry-run")
    assert code == 0
    assert "2 backups of " in out
    assert f"'opskit consolidate main {newest}' would let them go" in out
    main.consolidate(newest)
    code, out, _ = told(capsys, main.settings, "expire", "main")
    assert (code, main.repository.names("main")) == (0, [newest])
    assert "would let" not in out


def test_a_middle_one_lets_its_parents_go() -> None:
    """What is kept for itself and based on what is not is named, once for each chain."""
    backups = [record(NOW.replace(hour=2) - timedelta(days=day)) for day in range(4)]
    chain = [replace(b, kind=BackupKind.INCREMENTAL, parent=p.name) for b, p in pairwise(backups)]
    decisions = decide([*chain, backups[3]], Retention(daily=2), NOW)
    plan = ExpirePlan(cluster="main", decisions=tuple(decisions), abandoned=(), wal=())
    assert plan.only_parents == {chain[1].name: (chain[2], backups[3])}


def changed(main: Cluster, **values: Any) -> None:
    """Edit the record of `BACKUP_NAME` by hand."""
    file = Path(main.repository.url.removeprefix("file://")) / record_name("main", BACKUP_NAME)
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_the_audit_log_vouches_for_the_new_record(main: Cluster) -> None:
    """What a report vouched for is found changed by whoever edits it, and not by a consolidation."""
    run(main.settings)
    main.consolidate(BACKUP_NAME)
    verdict = verify(main)
    assert verdict == []
    entry = main.audit().iloc[0]
    parameters = json.loads(entry["parameters"])
    now = record_sha256(LocalStore(_directory(main)), "main", BACKUP_NAME)
    consolidated = main.backup(BACKUP_NAME).consolidated
    assert consolidated is not None
    assert [parameters[key] for key in REPLACED] == [consolidated.record_sha256, now]
    run(main.settings)  # this one vouches for the new record
    assert verify(main) == []
    changed(main, note="edited")
    assert [finding for finding, _ in verify(main)] == [Fault.EDITED] * 2


def test_nobody_without_the_key_can_vouch(main: Cluster) -> None:
    """An entry that tells of a consolidation that never was is found, as it is not signed."""
    run(main.settings)
    store = LocalStore(_directory(main))
    before = record_sha256(store, "main", BACKUP_NAME)
    changed(main, note="edited")
    assert [fault for fault, _ in verify(main)] == [Fault.EDITED]
    forged = open_catalog(_without_key(main.settings))
    now = datetime.now(UTC)
    after = record_sha256(store, "main", BACKUP_NAME)
    forged.enter(
        AuditEvent(
            kind=AuditKind.OPERATION,
            what="consolidate",
            cluster="main",
            actor="anna",
            jupyter_user=None,
            host="h",
            parameters={"backup": BACKUP_NAME, REPLACED[0]: before, REPLACED[1]: after},
            outcome="complete",
            started_at=now,
            ended_at=now,
        )
    )
    forged.close()
    assert [fault for fault, _ in verify(main)] == [Fault.UNSIGNED]


def verify(main: Cluster) -> list[tuple[Fault, str]]:
    """What the audit trail's verification finds."""
    store = LocalStore(_directory(main))

    def digest(name: str) -> str | None:
        _, _, backup, _ = name.split("/")
        return record_sha256(store, "main", backup)

    found = verify_audit(main.settings, digest=digest).findings
    return [(finding.fault, finding.message) for finding in found]


def _directory(main: Cluster) -> Path:
    return Path(main.repository.url.removeprefix("file://"))


def _without_key(settings: Settings) -> Settings:
    return replace(settings, audit=replace(settings.audit, key=None))


@pytest.mark.sweep
def test_killed_at_any_moment(main: Cluster, tmp_path: Path) -> None:
    """The chain restores as before, the next run ends it, the audit trail holds, and nothing stays behind."""
    run(main.settings)
    directory = _directory(main) / "main/backups" / BACKUP_NAME
    before = restored(main.repository, BACKUP_NAME, tmp_path / "before")
    seed = random.Random(5)
    for number in range(12):
        known = set(directory.glob("full-*"))
        interrupted(
            main.settings,
            "consolidate",
            "main",
            BACKUP_NAME,
            after=seed.uniform(0, 0.08),
            by=signal.SIGKILL,
            once=lambda known=known: set(directory.glob("full-*")) > known,  # type: ignore[misc]
        )
        found = restored(main.repository, BACKUP_NAME, tmp_path / f"{number}")
        assert found == before
    done = run_command(main.settings, "consolidate", "main", BACKUP_NAME)
    assert done.returncode == 0, done.stderr
    assert main.backup(BACKUP_NAME).kind is BackupKind.FULL
    assert restored(main.repository, BACKUP_NAME, tmp_path / "after") == before
    assert verify(main) == []
    later = datetime.now(UTC) + timedelta(days=2)
    repository = Repository(LocalStore(_directory(main)))
    plan = plan_expire(repository, "main", Retention(), later)
    execute_expire(plan, repository, later, SilentMonitor())
    assert len(list(directory.iterdir())) == 2


@pytest.mark.sweep
def test_in_a_process_of_its_own(main: Cluster) -> None:
    """Started so, it is waited for, and ends as an operation of the catalog."""
    handle = main.start_consolidate(BACKUP_NAME)
    assert handle.wait(60).status is OperationStatus.COMPLETE
    full: BaseBackup = main.backup(BACKUP_NAME)
    assert (full.kind, handle.refresh().backup) == (BackupKind.FULL, BACKUP_NAME)
