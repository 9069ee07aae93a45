"""Chains: what is restored of them in one pass is what ``pg_combinebackup`` makes of the stored volumes."""

import random
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from opskit.config import PostgresSettings
from opskit.model.backup import BaseBackup
from opskit.operations.copy import RestoredCopy
from opskit.operations.download import ArchiveFormat, download
from opskit.operations.monitor import SilentMonitor
from opskit.operations.restore import Layout, execute_restore, plan_restore
from opskit.postgres.server import LocalServer
from opskit.repository import Repository
from opskit.repository.snapshot import backup_folder
from opskit.store import open_store
from tests.servers import Fingerprint, ServerFactory, fill, fingerprint
from tests.support.incremental import (
    SUMMARIZING,
    Turmoil,
    assert_equal_trees,
    combine_by_hand,
    consolidated,
    take_next,
)

_SEEDS = 12
_SEVENTEEN_AND_LATER = pytest.mark.parametrize(
    "programs", [pytest.param(17, marks=pytest.mark.sweep), 18], indirect=True
)


@_SEVENTEEN_AND_LATER
@pytest.mark.parametrize(
    ("number", "length"),
    [(0, 3), *(pytest.param(n, 2 + n % 7, marks=pytest.mark.sweep) for n in range(1, _SEEDS))],
)
def test_a_chain_restores_as_pg_combinebackup_combines_it(
    server: ServerFactory, scratch: Path, seed: random.Random, number: int, length: int
) -> None:
    """Whatever happened between the backups: the same files, a manifest that is accepted, a server that is sound."""
    source = server(SUMMARIZING)
    fill(source)
    repository, chain = Repository(open_store((scratch / "stored").as_uri())), list[BaseBackup]()
    turmoil = Turmoil(source, seed)
    for _ in range(length):
        turmoil.churn(12 if chain else 6)
        with _busy(source, number % 2 == 1):
            chain.append(take_next(source, repository))
    kinds = [str(backup.kind) for backup in chain]
    assert kinds == ["full", *["incremental"] * (length - 1)], chain[-1].reason
    print("; ".join(turmoil.done))
    _assert_combines(source, repository, chain, scratch)
    _assert_downloads(source, repository, chain[-1], scratch)
    chain = _assert_consolidates(source, repository, chain, scratch)
    source.query("DROP TABLE IF EXISTS busy")  # it is the only one that changed behind the backup
    found = _started(source, repository, chain[-1], scratch / "archive")
    assert {key: value for key, value in found.items() if key[1] != "public.busy"} == fingerprint(
        source
    )


def _assert_combines(
    source: LocalServer, repository: Repository, chain: list[BaseBackup], scratch: Path
) -> None:
    """A plain data directory equals what is combined by hand, file for file, and its manifest fits it."""
    newest = chain[-1]
    theirs, their_spaces = combine_by_hand(source, scratch / "stored", chain, scratch / "hand")
    spaces = {space.oid: scratch / f"space-{space.oid}" for space in newest.tablespaces}
    plan = plan_restore(newest, scratch / "plain", layout=Layout.DATA_DIRECTORY, tablespaces=spaces)
    execute_restore(plan, repository, SilentMonitor(), owner=_owner(source))
    assert_equal_trees(scratch / "plain", theirs)
    for oid, place in spaces.items():
        assert_equal_trees(place, their_spaces[oid])
    verified = source.run("pg_verifybackup", str(scratch / "plain"))
    assert verified.exit_code == 0, verified.output
    restored = [p for p in (scratch / "plain", *spaces.values()) for p in p.rglob("*")]
    content = sum(
        path.stat().st_size
        for path in restored
        if path.is_file() and not path.is_symlink() and path.name != "backup_manifest"
    )
    lines = "INCREMENTAL FROM LSN: ", "INCREMENTAL FROM TLI: "
    assert 0 <= newest.cluster_bytes - content < 2 * sum(map(len, lines))


def _assert_consolidates(
    source: LocalServer, repository: Repository, chain: list[BaseBackup], scratch: Path
) -> list[BaseBackup]:
    """What was an increment restores to the same bytes as a full backup, and carries the next increment.

    So does what is based on one that was. Returns the backups of now, without the next increment.
    """
    newest = chain[-1]
    for number, backup in enumerate([*chain[1:-1][-1:], newest]):
        done = consolidated(repository, backup)
        assert (done.kind, done.name, done.note) == ("full", backup.name, backup.note)
        spaces = {
            space.oid: scratch / f"whole-{number}-{space.oid}" for space in newest.tablespaces
        }
        plan = plan_restore(
            repository.backup("main", newest.name),
            scratch / f"whole-{number}",
            layout=Layout.DATA_DIRECTORY,
            tablespaces=spaces,
        )
        execute_restore(plan, repository, SilentMonitor(), owner=_owner(source))
        assert_equal_trees(plan.directory, scratch / "plain", but=frozenset())
        for oid, place in spaces.items():
            assert_equal_trees(place, scratch / f"space-{oid}")
    path = scratch / "whole.tar.zst"
    tar_zst = ArchiveFormat.TAR_ZST
    download(repository, done, path, archive_format=tar_zst, monitor=SilentMonitor())
    assert path.stat().st_size == done.stored_bytes + 23
    members = subprocess.run(["tar", "--zstd", "-tf", path], check=True, capture_output=True)
    assert b"INCREMENTAL." not in members.stdout
    further = take_next(source, repository)
    assert (further.kind, further.parent) == ("incremental", done.name), further.reason
    after = [done, further]
    (scratch / "after").mkdir()
    (scratch / "after/stored").symlink_to(scratch / "stored")
    _assert_combines(source, repository, after, scratch / "after")
    repository.remove_backup("main", further.name)
    return [*chain[:-1], done]


def _assert_downloads(
    source: LocalServer, repository: Repository, backup: BaseBackup, scratch: Path
) -> None:
    """The archive unpacks to what the restored data directory holds, and `pg_verifybackup` accepts it."""
    path = scratch / "main.tar.zst"
    download(
        repository, backup, path, archive_format=ArchiveFormat.TAR_ZST, monitor=SilentMonitor()
    )
    (scratch / "unpacked").mkdir()
    subprocess.run(["tar", "--zstd", "-xf", path, "-C", scratch / "unpacked"], check=True)
    snapshot = scratch / "unpacked" / backup_folder(backup.name) / "snapshot"
    assert_equal_trees(snapshot / "data", scratch / "plain")
    for space in backup.tablespaces:
        theirs = scratch / f"space-{space.oid}"
        assert_equal_trees(snapshot / "tablespaces" / str(space.oid), theirs)
    verified = source.run("pg_verifybackup", str(snapshot / "data"))
    assert verified.exit_code == 0, verified.output


def _started(
    source: LocalServer, repository: Repository, backup: BaseBackup, directory: Path
) -> Fingerprint:
    """What a copy of the backup holds, which `pg_verifybackup` accepts and in which `pg_amcheck` finds nothing."""
    plan = plan_restore(backup, directory)
    execute_restore(plan, repository, SilentMonitor(), owner=_owner(source))
    settings = PostgresSettings(programs=(source.programs.directory,))
    copy = RestoredCopy.open(directory, settings)
    verified = copy.verify()
    assert verified.exit_code == 0, verified.output
    with copy.running() as running:
        found = fingerprint(running)
        checked = running.run("pg_amcheck", "--all", "--install-missing")
        assert checked.exit_code == 0, checked.output
        return found


def _owner(source: LocalServer) -> tuple[int, int] | None:
    return (source.account.uid, source.account.gid) if source.account else None


@contextmanager
def _busy(source: LocalServer, wanted: bool) -> Iterator[None]:
    """Let a table grow, change and shrink meanwhile."""
    if not wanted:
        yield
        return
    source.query("CREATE TABLE IF NOT EXISTS busy AS SELECT 1 AS i, 'x'::text AS v")
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            source.query("INSERT INTO busy SELECT i, md5(i::text) FROM generate_series(1, 2000) i")
            source.query("UPDATE busy SET v = md5(v) WHERE i % 13 = 0")
            source.query("DELETE FROM busy WHERE ctid >= '(30,0)'")
            source.query("VACUUM busy")

    writing = threading.Thread(target=write)
    writing.start()
    try:
        yield
    finally:
        ended.set()
        writing.join()
