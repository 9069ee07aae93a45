"""The deciding tests: what was backed up is a server that answers, anywhere, and is what PostgreSQL's tools give."""

import filecmp
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from opskit.cluster import Cluster
from opskit.config import Settings
from opskit.operations.copy import RestoredCopy
from opskit.postgres.account import server_account
from opskit.postgres.programs import CompletedRun, Programs, program_environment
from opskit.postgres.server import LocalServer, free_port
from opskit.repository.snapshot import AUTO_CONF, AUTO_CONF_ASIDE
from tests.servers import ServerFactory, fill, fingerprint

Tree = dict[str, str]


@pytest.fixture
def cluster(settings: Callable[..., Settings]) -> Iterator[Callable[[LocalServer], Cluster]]:
    """Makes the configured cluster of a server, and closes its catalog at the end."""
    made: list[Cluster] = []

    def make(server: LocalServer) -> Cluster:
        made.append(Cluster("main", settings(server)))
        return made[-1]

    yield make
    for one in made:
        one.catalog.close()


@pytest.mark.every_major
def test_the_unpacked_archive_starts_anywhere_without_opskit(
    server: ServerFactory, cluster: Callable[[LocalServer], Cluster], scratch: Path
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

    moved = _unpacked(archive, scratch / "unpacked").rename(scratch / "moved here, with 'blanks' ä")
    snapshot = moved / "snapshot"
    verified = _run(server.programs, "pg_verifybackup", str(snapshot / "data"))
    assert verified.exit_code == 0, verified.output
    assert f"PostgreSQL {source.programs.major}" in (snapshot / "README").read_text()
    with _started_by_hand(server.programs, snapshot) as copy:
        assert fingerprint(copy) == expected
        assert copy.query("SHOW opskit.backup").rows == [(backup.name,)]


def test_two_backups_unpack_side_by_side(
    server: ServerFactory, cluster: Callable[[LocalServer], Cluster], scratch: Path
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
        _unpacked(main.download(backup.name, scratch), scratch / "unpacked")
    for backup, rows in ((first, 1), (second, 2)):
        place = scratch / "unpacked/data/backup" / backup.name
        assert RestoredCopy.open(place, main.settings.postgres).verify().exit_code == 0
        with main.copy(place).started() as copy:
            assert copy.query("SELECT count(*) AS n FROM t")["n"][0] == rows


@pytest.mark.every_major
def test_a_quiet_server_restores_as_pg_basebackup_copies_it(
    server: ServerFactory, cluster: Callable[[LocalServer], Cluster], scratch: Path
) -> None:
    """Both layouts equal ``pg_basebackup -Fp`` file for file and byte for byte, modes included."""
    source = server()
    fill(source)
    source.query("ALTER SYSTEM SET work_mem = '5MB'")
    source.query("CHECKPOINT")
    main = cluster(source)
    backup = main.create_backup()
    [space] = backup.tablespaces
    theirs, their_space = scratch / "theirs", scratch / "their-space"
    _give(scratch)
    done = source.run(
        "pg_basebackup",
        "-D",
        str(theirs),
        "-Fp",
        "-X",
        "fetch",
        "-c",
        "fast",
        "-T",
        f"{space.location}={their_space}",
    )
    assert done.exit_code == 0, done.output

    archive = main.restore(scratch / "archive")
    snapshot = archive.directory / "snapshot"
    _assert_same(_tree(theirs), _tree(snapshot / "data"), moved={AUTO_CONF})
    _assert_same(_tree(their_space), _tree(snapshot / "tablespaces" / str(space.oid)))
    assert (theirs / AUTO_CONF).read_bytes() == (snapshot / "conf" / AUTO_CONF_ASIDE).read_bytes()
    link = snapshot / "data/pg_tblspc" / str(space.oid)
    assert str(link.readlink()) == f"../../tablespaces/{space.oid}"

    plain = main.restore(
        scratch / "plain", layout="data-directory", tablespaces={space.oid: scratch / "plain-space"}
    )
    _assert_same(_tree(theirs), _tree(plain.directory))
    _assert_same(_tree(their_space), _tree(scratch / "plain-space"))
    assert plain.verify().exit_code == 0
    controls = [_control(source.programs, d) for d in (theirs, snapshot / "data", plain.directory)]
    assert controls[0] == controls[1] == controls[2]


def test_a_plain_data_directory_starts_with_its_mapped_tablespace(
    server: ServerFactory, cluster: Callable[[LocalServer], Cluster], scratch: Path
) -> None:
    """A restore for production has every row, its own settings, and its tablespace where it was sent."""
    source = server()
    fill(source)
    source.query("ALTER SYSTEM SET work_mem = '5MB'")
    expected = fingerprint(source)
    main = cluster(source)
    [space] = main.create_backup().tablespaces
    source.stop()
    shutil.rmtree(source.start_in)
    plain = main.restore(
        scratch / "plain", layout="data-directory", tablespaces={space.oid: scratch / "space ä"}
    )
    restored = LocalServer(
        source.programs,
        plain.directory,
        str(plain.directory),
        plain.directory,
        account=server.account,
        superuser="focker",
        log=scratch / "restored.log",
    )
    with restored:
        assert fingerprint(restored) == expected
        assert restored.query("SHOW work_mem").rows == [("5MB",)]
        assert restored.query(
            "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE oid > 16383"
        ).rows == [(str(scratch / "space ä"),)]


@pytest.mark.every_major
def test_backups_under_load_restore_consistently(
    server: ServerFactory, cluster: Callable[[LocalServer], Cluster], scratch: Path
) -> None:
    """Three backups of a server that pgbench writes to have balances that agree, and no broken relation."""
    source = server({"max_wal_size": "64MB", "shared_buffers": "64MB"})
    assert source.run("pgbench", "-i", "-q", "-s", "5").exit_code == 0
    main = cluster(source)
    load = subprocess.Popen(
        [str(source.programs.path("pgbench")), "-n", "-c", "4", "-T", "120", source.conninfo()],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=program_environment(None),
    )
    try:
        while source.query("SELECT count(*) FROM pgbench_history").rows[0][0] < 200:
            time.sleep(0.05)
        backups = [main.create_backup() for _ in range(3)]
    finally:
        load.terminate()
        load.wait()
    for number, backup in enumerate(backups):
        copy = main.restore(scratch / f"copy{number}", backup=backup.name)
        assert copy.verify().exit_code == 0
        with copy.started() as running:
            sums = running.server.query(
                "SELECT (SELECT sum(abalance) FROM pgbench_accounts) AS a,"
                " (SELECT sum(tbalance) FROM pgbench_tellers) AS t,"
                " (SELECT sum(bbalance) FROM pgbench_branches) AS b, (SELECT sum(delta) FROM pgbench_history) AS h"
            ).rows[0]
            assert len(set(sums)) == 1, sums
            assert running.server.query("SELECT count(*) FROM pgbench_history").rows[0][0] >= 200
            _amcheck(running.server)


def test_volumes_are_the_archive_without_opskit(
    server: ServerFactory, cluster: Callable[[LocalServer], Cluster], scratch: Path
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
    expected = _tree(by_hand)
    assert f"data/backup/{backup.name}/snapshot/data/PG_VERSION" in expected
    for archive_format in ("tar.zst", "tar.gz", "tar"):
        archive = main.download(backup.name, scratch, format=archive_format)
        assert archive.name == f"main-{backup.name}.{archive_format}"
        unpacked = scratch / archive_format
        unpacked.mkdir()
        subprocess.run(["tar", "-xf", str(archive), "-C", str(unpacked)], check=True)
        _assert_same(expected, _tree(unpacked))
        if archive_format == "tar.zst":
            assert archive.stat().st_size == main.repository.archive(backup).length
    restored = main.restore(scratch / "restored")
    _assert_same(_tree(by_hand / "data/backup" / backup.name), _tree(restored.directory))


def test_a_copy_never_touches_production(
    server: ServerFactory, cluster: Callable[[LocalServer], Cluster], scratch: Path
) -> None:
    """A copy neither archives, nor listens on the network, nor follows a primary, whatever the source had set."""
    source = server({"archive_mode": "on"})
    touched = scratch / "touched"
    source.query(f"ALTER SYSTEM SET archive_command = 'touch {touched}'")
    source.query("ALTER SYSTEM SET listen_addresses = '*'")
    source.query("ALTER SYSTEM SET primary_conninfo = 'host=production'")
    main = cluster(source)
    main.create_backup()
    source.stop()
    touched.unlink(missing_ok=True)
    with main.restore(scratch / "copy").started() as copy:
        copy.query("CREATE TABLE t AS SELECT generate_series(1, 1000)")
        for _ in range(3):
            copy.query("SELECT pg_switch_wal()")
        shown = copy.query(
            "SELECT current_setting('archive_mode') AS a, current_setting('listen_addresses') AS l,"
            " current_setting('primary_conninfo') AS p, pg_is_in_recovery() AS r"
        )
        assert shown.to_dict("records") == [{"a": "off", "l": "", "p": "", "r": False}]
        time.sleep(0.3)
    assert not touched.exists()


def test_odd_clusters_restore(
    server: ServerFactory, cluster: Callable[[LocalServer], Cluster], scratch: Path
) -> None:
    """A superuser with an odd name, 64 MB segments, no checksums, a tablespace in place, a deep and an odd file."""
    user = "fo 'ck\"er é"
    source = server(
        {"allow_in_place_tablespaces": "on"},
        data_checksums=False,
        wal_segment_megabytes=64,
    )
    source.query("CREATE ROLE helper SUPERUSER LOGIN")  # nobody can rename oneself
    source.superuser = "helper"
    source.query('ALTER ROLE focker RENAME TO "fo \'ck""er é"')
    source.superuser = user
    source.query("CREATE TABLESPACE here LOCATION ''")
    source.query("CREATE TABLE t TABLESPACE here AS SELECT generate_series(1, 1000) AS i")
    strange = source.data_directory / "öl ' \" \\ datei"
    strange.write_bytes(b"x" * 512)
    main = cluster(source)
    backup = main.create_backup()
    assert (backup.superuser, backup.data_checksums, backup.wal_segment_bytes) == (
        user,
        False,
        64 << 20,
    )
    expected = fingerprint(source)
    source.stop()
    copy = main.restore(scratch / "copy")
    assert copy.verify().exit_code == 0
    assert (copy.directory / "snapshot/data" / strange.name).read_bytes() == b"x" * 512
    with copy.started() as running:
        assert fingerprint(running.server) == expected
    plain = main.restore(scratch / "plain", layout="data-directory")
    assert plain.verify().exit_code == 0
    data = str(plain.directory)
    with LocalServer(
        source.programs,
        plain.directory,
        data,
        plain.directory,
        account=server.account,
        superuser=user,
        log=scratch / "plain.log",
        options=source.options,
    ) as restored:
        assert fingerprint(restored) == expected
    archive = main.download("latest", scratch)
    with _started_by_hand(
        server.programs, _unpacked(archive, scratch / "unpacked") / "snapshot", user
    ) as by_hand:
        assert fingerprint(by_hand) == expected


@contextmanager
def _started_by_hand(
    programs: Programs, snapshot: Path, user: str = "focker"
) -> Iterator[LocalServer]:
    """``postgres -D conf`` inside `snapshot`, as its README says, and ``psql postgres -U focker``."""
    account = server_account()
    port = free_port()
    environment = program_environment(account) | {
        "PATH": f"{programs.directory}:/usr/bin:/bin",
        "PGPORT": str(port),
    }
    default = Path("/var/run/postgresql" if "Debian" in _version(programs) else "/tmp")
    # As an ordinary user Debian's own folder for sockets is closed; the README tells what to do then.
    closed = account is None and not os.access(default, os.W_OK)
    options, sockets = (["-k", "/tmp"], Path("/tmp")) if closed else ([], default)
    with (snapshot.parent / "by-hand.log").open("wb") as log:
        postgres = subprocess.Popen(
            ["postgres", "-D", "conf", *options],
            cwd=snapshot,
            env=environment,
            executable=str(programs.path("postgres")),
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            stdout=log,
            stderr=log,
        )
    try:
        host = ["-h", "/tmp"] if closed else []
        psql = ["psql", "postgres", "-U", user, *host, "-Atc", "SELECT 1"]
        for _ in range(300):
            asked = subprocess.run(
                psql,
                env=environment,
                executable=str(programs.path("psql")),
                user=account.uid if account else None,
                capture_output=True,
                text=True,
                check=False,
            )
            if asked.stdout == "1\n":
                break
            assert postgres.poll() is None, (snapshot.parent / "by-hand.log").read_text()
            time.sleep(0.1)
        assert asked.stdout == "1\n", asked.stderr
        yield LocalServer(
            programs,
            snapshot,
            "conf",
            snapshot / "data",
            account=account,
            superuser=user,
            port=port,
            socket_directory=sockets,
            log=snapshot.parent / "by-hand.log",
        )
    finally:
        postgres.send_signal(signal.SIGINT)
        postgres.wait(60)


def _unpacked(archive: Path, into: Path) -> Path:
    """What tar alone makes of an archive: the folder of the backup."""
    into.mkdir(exist_ok=True)
    before = set(into.glob("data/backup/*"))
    subprocess.run(["tar", "--zstd", "-xf", str(archive), "-C", str(into)], check=True)
    [folder] = set(into.glob("data/backup/*")) - before
    account = server_account()
    if account is not None:  # tar gave the files to 'postgres', who need not be the account
        subprocess.run(["chown", "-R", f"{account.uid}:{account.gid}", str(folder)], check=True)
    for parent in (into, into / "data", into / "data/backup"):
        parent.chmod(0o755)
    return folder


def _tree(root: Path) -> Tree:
    """What lies below `root`: by relative path its kind, mode and place."""
    found: Tree = {}
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(folder, name)
            kind = "link" if path.is_symlink() else "folder" if path.is_dir() else "file"
            mode = "" if kind == "link" else oct(path.stat().st_mode)
            found[str(path.relative_to(root))] = f"{kind} {mode} {path}"
    return found


def _assert_same(theirs: Tree, ours: Tree, moved: frozenset[str] | set[str] = frozenset()) -> None:
    """The trees have the same entries, modes and bytes, but for what two backups cannot share."""

    def compared(tree: Tree) -> dict[str, str]:
        return {
            path: entry.rpartition(" ")[0] if entry.count(" ") == 2 else entry.split(" /")[0]
            for path, entry in tree.items()
            if not re.match(r"pg_wal/.", path) and path not in moved
        }

    assert compared(theirs) == compared(ours)
    own = {"backup_label", "backup_manifest", "global/pg_control"}
    for path, entry in compared(theirs).items():
        if entry.startswith("file") and path not in own:
            left, right = (
                Path(tree[path][tree[path].index(" /") + 1 :]) for tree in (theirs, ours)
            )
            assert filecmp.cmp(left, right, shallow=False), path


def _control(programs: Programs, data: Path) -> dict[str, str]:
    """``pg_controldata`` without what every checkpoint changes."""
    done = _run(programs, "pg_controldata", str(data))
    assert done.exit_code == 0, done.output
    lines = dict(line.split(":", 1) for line in done.output.splitlines() if ":" in line)
    return {k: v for k, v in lines.items() if not re.search("checkpoint|last modified|backup", k)}


def _run(programs: Programs, program: str, *arguments: str) -> CompletedRun:
    return programs.run(program, *arguments, account=server_account())


def _version(programs: Programs) -> str:
    return _run(programs, "postgres", "--version").output


def _give(directory: Path) -> None:
    """Let the account that runs programs make things in `directory`."""
    account = server_account()
    if account is not None:
        os.chown(directory, account.uid, account.gid)


def _amcheck(server: LocalServer) -> None:
    """``pg_amcheck`` finds nothing; the wheel of PostgreSQL 16 comes without the extension that it needs."""
    available = server.query("SELECT 1 FROM pg_available_extensions WHERE name = 'amcheck'").rows
    assert available or server.programs.major == 16
    if available:
        checked = server.run("pg_amcheck", "--install-missing", "--heapallindexed", "--all")
        assert checked.exit_code == 0, checked.output
