"""The deciding tests: what was backed up is a server that answers, and is what PostgreSQL's tools give."""

import os
import re
import shutil
import time
from pathlib import Path

import pytest

from opskit.errors import InputError
from opskit.postgres.account import server_account
from opskit.postgres.programs import Programs
from opskit.postgres.server import LocalServer
from opskit.repository.snapshot import AUTO_CONF, AUTO_CONF_ASIDE
from tests.servers import ServerFactory, fill, fingerprint
from tests.support.backups import wait_until
from tests.support.by_hand import run_program, started_by_hand, unpacked
from tests.support.clusters import ClusterMaker
from tests.support.load import load
from tests.support.majors import newest_first
from tests.support.trees import assert_same_trees, tree


@pytest.mark.every_major
def test_a_quiet_server_restores_as_pg_basebackup_copies_it(
    server: ServerFactory, cluster: ClusterMaker, scratch: Path
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
    assert_same_trees(tree(theirs), tree(snapshot / "data"), moved={AUTO_CONF})
    assert_same_trees(tree(their_space), tree(snapshot / "tablespaces" / str(space.oid)))
    assert (theirs / AUTO_CONF).read_bytes() == (snapshot / "conf" / AUTO_CONF_ASIDE).read_bytes()
    link = snapshot / "data/pg_tblspc" / str(space.oid)
    assert str(link.readlink()) == f"../../tablespaces/{space.oid}"

    plain = main.restore(
        scratch / "plain", layout="data-directory", tablespaces={space.oid: scratch / "plain-space"}
    )
    assert_same_trees(tree(theirs), tree(plain.directory))
    assert_same_trees(tree(their_space), tree(scratch / "plain-space"))
    assert plain.verify().exit_code == 0
    controls = [_control(source.programs, d) for d in (theirs, snapshot / "data", plain.directory)]
    assert controls[0] == controls[1] == controls[2]


def test_a_plain_data_directory_starts_with_its_mapped_tablespace(
    server: ServerFactory, cluster: ClusterMaker, scratch: Path
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
    with server.on(plain.directory, plain.directory, scratch / "log") as restored:
        assert fingerprint(restored) == expected
        assert restored.query("SHOW work_mem").rows == [("5MB",)]
        assert restored.query(
            "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE oid > 16383"
        ).rows == [(str(scratch / "space ä"),)]
        with pytest.raises(InputError, match="stopped by its own service"):
            plain.stop()
        assert restored.is_running


@pytest.mark.every_major
def test_backups_under_load_restore_consistently(
    server: ServerFactory, cluster: ClusterMaker, scratch: Path
) -> None:
    """Three backups of a server that pgbench writes to have balances that agree, and no broken relation."""
    source = server({"max_wal_size": "64MB", "shared_buffers": "64MB"})
    main = cluster(source)
    with load(source, scale=2):
        while source.query("SELECT count(*) FROM pgbench_history").rows[0][0] < 200:
            time.sleep(0.05)
        backups = [main.create_backup() for _ in range(3)]
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


def test_a_copy_never_touches_production(
    server: ServerFactory, cluster: ClusterMaker, scratch: Path
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


@newest_first
def test_a_copy_takes_nothing_from_a_publisher(
    server: ServerFactory, cluster: ClusterMaker, scratch: Path
) -> None:
    """What a publisher keeps for the original stays there while a copy of the subscriber runs, of any archive."""
    publisher = server({"wal_level": "logical"}, wal_segment_megabytes=1)
    publisher.query("CREATE TABLE t (i int)")
    publisher.query("CREATE PUBLICATION p FOR TABLE t")
    publisher.query("SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
    source = server(wal_segment_megabytes=1)
    quoted = publisher.conninfo().replace("'", "''")
    source.query(
        f"CREATE SUBSCRIPTION s CONNECTION '{quoted}' PUBLICATION p WITH (connect = false)"
    )
    source.query("ALTER SUBSCRIPTION s ENABLE")
    wait_until(lambda: publisher.query(_FETCHED).rows[0][0], "the original does not subscribe")
    main = cluster(source)
    main.create_backup()
    source.stop()
    publisher.query("INSERT INTO t VALUES (1)")
    kept = publisher.query(_FETCHED).rows
    copy = main.restore(scratch / "copy")
    conf = copy.directory / "snapshot/conf/postgresql.conf"
    text = conf.read_text()
    for now in (text, re.sub("^max_logical_replication_workers.*", "", text, flags=re.MULTILINE)):
        conf.write_text(now)  # then as archives were before
        with copy.started() as running:
            assert running.query("SHOW max_logical_replication_workers").iloc[0, 0] == "0"
            assert running.query("SELECT subenabled FROM pg_subscription").iloc[0, 0]
            assert running.query(_REPLICATING).empty
    assert publisher.query(_FETCHED).rows == kept == [(False, kept[0][1])]


def test_odd_clusters_restore(server: ServerFactory, cluster: ClusterMaker, scratch: Path) -> None:
    """Odd names of superuser, files and a tablespace's place, 64 MB segments, no checksums, no encoding."""
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
    source.query("ALTER DATABASE postgres RENAME TO another", "template1")
    source.query("CREATE DATABASE postgres TEMPLATE template0 ENCODING 'SQL_ASCII'", "template1")
    latin = scratch / "l\udce4tin"
    latin.mkdir()
    _give(latin)
    made = source.run("psql", "-c", f"CREATE TABLESPACE latin LOCATION '{latin}'")
    assert made.exit_code == 0, made.output
    source.query("CREATE TABLE u TABLESPACE latin AS SELECT generate_series(1, 10) AS i")
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
    shutil.rmtree(latin)
    plain = main.restore(scratch / "plain", layout="data-directory")
    assert plain.verify().exit_code == 0
    data, log = plain.directory, scratch / "plain.log"
    with server.on(data, data, log, superuser=user, options=source.options) as restored:
        assert fingerprint(restored) == expected
    archive = main.download("latest", scratch)
    with started_by_hand(
        server.programs, unpacked(archive, scratch / "unpacked") / "snapshot", user
    ) as by_hand:
        assert fingerprint(by_hand) == expected


_FETCHED = "SELECT active, confirmed_flush_lsn::text FROM pg_replication_slots"
_REPLICATING = "SELECT 1 FROM pg_stat_activity WHERE backend_type LIKE 'logical replication%'"


def _control(programs: Programs, data: Path) -> dict[str, str]:
    """``pg_controldata`` without what every checkpoint changes."""
    done = run_program(programs, "pg_controldata", str(data))
    assert done.exit_code == 0, done.output
    lines = dict(line.split(":", 1) for line in done.output.splitlines() if ":" in line)
    return {k: v for k, v in lines.items() if not re.search("checkpoint|last modified|backup", k)}


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
