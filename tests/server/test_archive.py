"""The archive is whole: unpacked by tar alone, anywhere, it is a server that answers."""

import shutil
import subprocess
from pathlib import Path

import pytest

from opskit.operations.copy import RestoredCopy
from tests.servers import ServerFactory, fill, fingerprint
from tests.support.by_hand import run_program, started_by_hand, unpacked
from tests.support.clusters import ClusterMaker
from tests.support.trees import assert_same_trees, tree


@pytest.mark.every_major
def test_the_unpacked_archive_starts_anywhere_without_opskit(
    server: ServerFactory, cluster: ClusterMaker, scratch: Path
) -> None:
    """The archive, unpacked with tar alone and moved, has every row after the source and its tablespaces are gone."""
    source = server()
    fill(source)
    expected = fingerprint(source)
    main = cluster(source)
    backup = main.create_backup(note='before "migration" – ä')
    archive = main.download(backup.name, scratch / "main.tar.zst")
    source.stop()
    shutil.rmtree(source.start_in)

    moved = unpacked(archive, scratch / "unpacked").rename(scratch / "moved here, with 'blanks' ä")
    snapshot = moved / "snapshot"
    verified = run_program(server.programs, "pg_verifybackup", str(snapshot / "data"))
    assert verified.exit_code == 0, verified.output
    assert f"PostgreSQL {source.programs.major}" in (snapshot / "README").read_text()
    with started_by_hand(server.programs, snapshot) as copy:
        assert fingerprint(copy) == expected
        assert copy.query("SHOW opskit.backup").rows == [(backup.name,)]


def test_two_backups_unpack_side_by_side(
    server: ServerFactory, cluster: ClusterMaker, scratch: Path
) -> None:
    """Two archives unpacked into one place are two copies, each as the cluster was at its time."""
    source = server()
    main = cluster(source)
    source.query("CREATE TABLE t AS SELECT 1 AS i")
    first = main.create_backup()
    source.query("INSERT INTO t VALUES (2)")
    second = main.create_backup()
    assert list(main.backups()["name"]) == [second.name, first.name]
    for backup in (first, second):
        unpacked(main.download(backup.name, scratch), scratch / "unpacked")
    for backup, rows in ((first, 1), (second, 2)):
        place = scratch / "unpacked/data/backup" / backup.name
        assert RestoredCopy.open(place, main.settings.postgres).verify().exit_code == 0
        with main.copy(place).started() as copy:
            assert copy.query("SELECT count(*) AS n FROM t")["n"][0] == rows


def test_volumes_are_the_archive_without_opskit(
    server: ServerFactory, cluster: ClusterMaker, scratch: Path
) -> None:
    """``cat snapshot-*.tar.zst | zstd -d | tar -x`` gives what download in any format and restore give."""
    source = server()
    fill(source)
    main = cluster(source)
    backup = main.create_backup()
    folder = scratch / "opskit/repository/main/backups" / backup.name
    by_hand = scratch / "by-hand"
    by_hand.mkdir()
    subprocess.run(
        ["sh", "-c", f"cat {folder}/snapshot-*.tar.zst | zstd -d | tar -x -C {by_hand}"], check=True
    )
    expected = tree(by_hand)
    assert f"data/backup/{backup.name}/snapshot/data/PG_VERSION" in expected
    for archive_format in ("tar.zst", "tar.gz", "tar"):
        archive = main.download(backup.name, scratch, format=archive_format)
        assert archive.name == f"main-{backup.name}.{archive_format}"
        unpacked = scratch / archive_format
        unpacked.mkdir()
        subprocess.run(["tar", "-xf", str(archive), "-C", str(unpacked)], check=True)
        assert_same_trees(expected, tree(unpacked))
        if archive_format == "tar.zst":
            assert archive.stat().st_size == main.repository.archive(backup).length
    restored = main.restore(scratch / "restored")
    assert_same_trees(tree(by_hand / "data/backup" / backup.name), tree(restored.directory))
