"""Where no increment can be taken, or a chain cannot be put together, that is said; and a full backup is taken."""

import gzip
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from opskit.errors import ConflictError, ErrorKind, IntegrityError, ServerError
from opskit.model.backup import BackupKind
from opskit.model.increment import BackupMode, IncrementalRules
from opskit.model.operation import Progress
from opskit.model.retention import Retention
from opskit.operations.download import ArchiveFormat, download
from opskit.operations.expire import Expired, execute_expire, plan_expire
from opskit.operations.inventory import take_inventory
from opskit.operations.monitor import SilentMonitor
from opskit.operations.restore import Layout, execute_restore, plan_restore
from opskit.postgres.server import LocalServer
from opskit.repository import Repository
from opskit.repository.snapshot import backup_folder
from opskit.store import open_store
from tests.servers import ServerFactory
from tests.support.backups import assert_free, assert_restores, mark, wait_until
from tests.support.failing import assert_fails
from tests.support.incremental import SUMMARIZING, take_next
from tests.support.standby import promote, replayed, standby_of

only_18 = pytest.mark.parametrize("programs", [18], indirect=True)


@pytest.fixture
def stored(scratch: Path) -> Path:
    """Where the repository is."""
    return scratch / "stored"


@pytest.fixture
def repository(stored: Path) -> Repository:
    """An empty repository."""
    return Repository(open_store(stored.as_uri()))


@only_18
def test_increments_begin_when_the_server_summarizes(
    server: ServerFactory, repository: Repository, stored: Path
) -> None:
    """Full backups without summaries, when they are gone, when it is time, and when the parent is damaged."""
    source = server()
    first = take_next(source, repository)
    assert (first.kind, first.reason) == (
        BackupKind.FULL,
        "the server does not summarize its WAL (summarize_wal is off)",
    )
    assert_fails(
        lambda: take_next(source, repository, BackupMode.INCREMENTAL),
        ServerError,
        ErrorKind.NOT_INCREMENTAL,
        "summarize_wal is off",
    )
    assert_free(source)

    source.query("ALTER SYSTEM SET summarize_wal = on")
    source.query("SELECT pg_reload_conf()")
    wait_until(lambda: source.query("SHOW summarize_wal").rows == [("on",)])
    full = take_next(source, repository, BackupMode.FULL)
    assert full.reason == "asked for"
    child = take_next(source, repository, BackupMode.INCREMENTAL)
    assert (child.parent, child.reason) == (full.name, f"changes since {full.name}")
    assert child.stored_bytes < full.stored_bytes / 4
    due = take_next(source, repository, rules=IncrementalRules(increments=1))
    assert due.reason == "1 increment since the last full backup"

    (stored / "main/backups" / due.name / "snapshot-00001.tar.zst").unlink()
    damaged = take_next(source, repository)
    assert damaged.kind is BackupKind.FULL
    assert f"backup {due.name!r} is damaged" in damaged.reason
    repository.remove_backup("main", damaged.name)
    assert_fails(
        lambda: take_next(source, repository, BackupMode.INCREMENTAL),
        IntegrityError,
        ErrorKind.INCOMPLETE,
        "is damaged",
    )
    repository.remove_backup("main", due.name)

    source.query("CREATE TABLE t AS SELECT 1 AS i")
    source.query("SELECT pg_switch_wal()")
    wait_until(lambda: _summaries(source.data_directory) != [])
    for summary in _summaries(source.data_directory):
        summary.unlink()
    source.query("CHECKPOINT")
    wait_until(lambda: _summaries(source.data_directory) != [])
    assert_fails(
        lambda: take_next(source, repository, BackupMode.INCREMENTAL),
        ServerError,
        ErrorKind.NOT_INCREMENTAL,
        "no summaries of the WAL from",
    )
    assert "no summaries of the WAL from" in take_next(source, repository).reason
    assert_free(source)


@only_18
def test_a_chain_without_its_parent_is_neither_restored_nor_downloaded(
    server: ServerFactory, repository: Repository, stored: Path, scratch: Path
) -> None:
    """A missing or damaged parent is named, and nothing is left where the copy was to be."""
    source = server(SUMMARIZING)
    full = take_next(source, repository)
    mark(source)
    child = take_next(source, repository)
    folder = stored / "main/backups" / full.name
    volume = folder / "snapshot-00001.tar.zst"
    content = bytearray(volume.read_bytes())
    content[len(content) // 2] ^= 1
    volume.write_bytes(content)
    assert_fails(
        lambda: _restore(repository, child.name, scratch / "copy"),
        IntegrityError,
        ErrorKind.CHECKSUM_MISMATCH,
        "volume",
    )
    assert_fails(
        lambda: _download(repository, child.name, scratch / "main.tar"),
        IntegrityError,
        ErrorKind.CHECKSUM_MISMATCH,
        "volume",
    )
    assert list(scratch.glob("*main.tar*")) == []
    content[len(content) // 2] ^= 1
    volume.write_bytes(content)
    assert_restores(source, repository, child, scratch / "sound")
    for name in ("main.tar", "main.tar.gz"):
        _download(repository, child.name, scratch / name)
    assert (
        gzip.decompress((scratch / "main.tar.gz").read_bytes())
        == (scratch / "main.tar").read_bytes()
    )
    with tarfile.open(scratch / "main.tar") as archive:
        assert f"{backup_folder(child.name)}/snapshot/data/base/5/1259" in archive.getnames()
    (folder / "backup.json").rename(folder / "aside")
    assert_fails(
        lambda: _restore(repository, child.name, scratch / "copy"),
        IntegrityError,
        ErrorKind.INCOMPLETE,
        f"is based on {full.name!r}, which is missing",
    )
    assert not (scratch / "copy").exists()
    flaws = take_inventory(repository, "main").flaws
    assert [flaw.object for flaw in flaws] == [f"backup {child.name}"]
    assert "which is missing" in flaws[0].what


class _AtStoring(SilentMonitor):
    """Does something when all of a backup has been received."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act

    def report(self, progress: Progress) -> None:
        """See `Monitor`."""
        if progress.phase == "storing":
            self._act()


@only_18
def test_a_parent_stays_while_an_increment_is_taken(
    server: ServerFactory, repository: Repository
) -> None:
    """An expire keeps the parent of what is being written; if it is gone nevertheless, no increment is listed."""
    source = server(SUMMARIZING)
    full = take_next(source, repository)
    now = full.started_at + timedelta(days=400)
    everything = Retention(daily=0, max_age=timedelta(days=1))
    expired = plan_expire(repository, "main", everything, now)
    expired = replace(expired, decisions=(replace(expired.decisions[0], keep=False),), wal=())
    done: list[Expired] = []

    def expire() -> None:
        done.append(execute_expire(expired, repository, now, SilentMonitor()))

    child = take_next(source, repository, monitor=_AtStoring(expire))
    assert [e.kept_after_all for e in done] == [{full.name: f"parent of {child.name}"}]
    assert [backup.name for backup in repository.backups("main")] == [child.name, full.name]

    assert_fails(
        lambda: take_next(
            source,
            repository,
            monitor=_AtStoring(lambda: repository.remove_backup("main", full.name)),
        ),
        IntegrityError,
        ErrorKind.INCOMPLETE,
        "which is missing",
    )
    assert [backup.name for backup in repository.backups("main")] == [child.name]
    assert_free(source)


@pytest.mark.sweep
@pytest.mark.parametrize("programs", [15, 16], indirect=True)
def test_older_servers_take_full_backups(server: ServerFactory, repository: Repository) -> None:
    """PostgreSQL 15 and 16 cannot send increments: who insists is told so."""
    source = server()
    major = source.programs.major
    assert (
        f"PostgreSQL {major} takes no incremental backups" in take_next(source, repository).reason
    )
    assert_fails(
        lambda: take_next(source, repository, BackupMode.INCREMENTAL),
        ServerError,
        ErrorKind.UNSUPPORTED_VERSION,
        f"PostgreSQL {major} takes no",
    )


@pytest.mark.sweep
@only_18
def test_no_increment_after_data_checksums_were_switched(
    server: ServerFactory, repository: Repository
) -> None:
    """A chain of mixed states would be a broken cluster, so there is a full backup, and a chain on that one."""
    source = server(SUMMARIZING)
    take_next(source, repository)
    source.stop()
    account = source.account
    subprocess.run(
        [source.programs.path("pg_checksums"), "--disable", "-D", source.data_directory],
        check=True,
        capture_output=True,
        user=account.uid if account else None,
    )
    source.start()
    assert_fails(
        lambda: take_next(source, repository, BackupMode.INCREMENTAL),
        ConflictError,
        ErrorKind.NOT_INCREMENTAL,
        "data checksums were on at",
    )
    full = take_next(source, repository)
    assert (full.kind, "data checksums were on at" in full.reason) == (BackupKind.FULL, True)
    assert take_next(source, repository).parent == full.name


@only_18
def test_another_history_is_no_basis(
    server: ServerFactory, repository: Repository, scratch: Path
) -> None:
    """A server restored from an older backup, which has come past the newest one, takes a full backup to build on."""
    source = server(SUMMARIZING, wal_segment_megabytes=1)
    mark(source)
    older = take_next(source, repository, BackupMode.FULL)
    source.query("CREATE TABLE lost AS SELECT generate_series(1, 1000) AS i")
    newest = take_next(source, repository, BackupMode.FULL)
    source.stop()
    owner = (server.account.uid, server.account.gid) if server.account else None
    plan = plan_restore(older, scratch / "again", layout=Layout.DATA_DIRECTORY)
    execute_restore(plan, repository, SilentMonitor(), owner=owner)
    restored = LocalServer(
        source.programs,
        scratch,
        str(plan.directory),
        plan.directory,
        account=server.account,
        superuser=source.superuser,
        log=scratch / "again.log",
        options=SUMMARIZING,
    )
    server.servers.append(restored)  # so that it is stopped
    restored.start()
    restored.query("UPDATE marked SET value = md5(value) WHERE i < 10")
    passed = f"SELECT pg_current_wal_lsn() > '{newest.stop_lsn}'"
    while not restored.query(passed).rows[0][0]:
        restored.query("CHECKPOINT")
        restored.query("SELECT pg_logical_emit_message(false, '', repeat('x', 100000))")
    restored.query("CHECKPOINT")
    assert_fails(
        lambda: take_next(restored, repository, BackupMode.INCREMENTAL),
        ServerError,
        ErrorKind.NOT_INCREMENTAL,
        "was restored from a backup",
    )
    full = take_next(restored, repository)
    assert (full.kind, full.timeline) == (BackupKind.FULL, newest.timeline)
    assert "was restored from a backup" in full.reason
    child = take_next(restored, repository)
    assert child.parent == full.name
    assert_restores(restored, repository, child, scratch / "copy")


@pytest.mark.sweep
@only_18
def test_a_fork_is_no_parent(server: ServerFactory, repository: Repository, scratch: Path) -> None:
    """A backup of a server that was left behind is no parent for the one that went on; one from before the fork is."""
    primary = server({**SUMMARIZING, "wal_keep_size": "200MB"})
    standby = standby_of(server, primary, SUMMARIZING)
    before = take_next(primary, repository)
    mark(primary)
    replayed(standby, primary)
    promote(standby)
    primary.query("CREATE TABLE lost AS SELECT 1 AS i")
    aside = take_next(primary, repository)
    assert aside.parent == before.name
    child = take_next(standby, repository)
    assert (child.parent, child.timeline) == (before.name, 2), child.reason
    assert_restores(standby, repository, child, scratch / "copy")
    repository.remove_backup("main", child.name)
    (scratch / "stored/main/backups" / before.name / "backup.json").unlink()
    assert_fails(
        lambda: take_next(standby, repository, BackupMode.INCREMENTAL),
        ConflictError,
        ErrorKind.NOT_INCREMENTAL,
        "which is missing",
    )
    repository.remove_backup("main", aside.name)
    primary.query("CHECKPOINT")
    alone = take_next(primary, repository)
    assert_fails(
        lambda: take_next(standby, repository, BackupMode.INCREMENTAL),
        ConflictError,
        ErrorKind.NOT_INCREMENTAL,
        "forked away before backup",
    )
    assert "forked away before backup" in take_next(standby, repository).reason
    assert alone.kind is BackupKind.FULL


def _summaries(data: Path) -> list[Path]:
    return sorted((data / "pg_wal/summaries").glob("*.summary"))


def _download(repository: Repository, name: str, path: Path) -> None:
    archive_format = ArchiveFormat.TAR_GZ if path.suffix == ".gz" else ArchiveFormat.TAR
    backup = repository.backup("main", name)
    download(repository, backup, path, archive_format=archive_format, monitor=SilentMonitor())


def _restore(repository: Repository, name: str, directory: Path) -> None:
    plan = plan_restore(repository.backup("main", name), directory)
    execute_restore(plan, repository, SilentMonitor(), owner=None)
