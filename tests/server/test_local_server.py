"""Servers run from this machine's programs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from opskit.errors import ConflictError, ErrorKind, ServerError
from opskit.postgres.account import server_account
from opskit.postgres.initdb import init_cluster
from opskit.postgres.programs import Programs
from opskit.postgres.server import (
    LocalServer,
    free_port,
    running_server,
    stop_server,
)
from tests.servers import ServerFactory, fill, fingerprint


@pytest.mark.every_major
def test_a_server_starts_answers_and_stops(server: ServerFactory, programs: Programs) -> None:
    """A started server answers with its version; a stopped one leaves neither process nor socket."""
    started = server()
    sockets = started.socket_directory
    rows = started.query(
        "SELECT 1 AS one; SELECT current_setting('server_version_num')::int / 10000 AS major"
    )
    assert (rows.columns, rows.rows) == (("major",), [(programs.major,)])
    assert sockets.stat().st_mode & 0o777 == 0o700
    assert started.is_running
    started.stop()
    started.stop()
    assert not started.is_running
    assert not sockets.exists()


def test_a_server_runs_as_an_account_that_is_not_root(server: ServerFactory) -> None:
    """PostgreSQL refuses root, so root hands its servers to another user."""
    pid = server().pid
    assert pid is not None
    owner = Path("/proc", str(pid)).stat().st_uid
    account = server_account()
    assert owner == (account.uid if account else os.geteuid())
    assert owner != 0


def test_nothing_but_the_socket_leads_to_it(server: ServerFactory) -> None:
    """A server listens on TCP only when it is told to."""
    assert server().query("SHOW listen_addresses").rows == [("",)]


def test_names_with_blanks_and_quotes(programs: Programs, scratch: Path) -> None:
    """Directories and superusers with odd characters work, and the psql line can be pasted into a shell."""
    home = scratch / 'it\'s a "b" $HOME ä\\'
    home.mkdir()
    account = server_account()
    usable = programs.usable_by(account)
    init_cluster(usable, home / "data", account=account, superuser="fo ck-er ä")
    with LocalServer(
        usable,
        home,
        "data",
        home / "data",
        account=account,
        superuser="fo ck-er ä",
        log=home / "log",
    ) as started:
        assert started.query("SELECT current_user").rows == [("fo ck-er ä",)]
        psql = started.psql_line().replace("psql", str(usable.path("psql")), 1)
        line = f"{psql} -XAtc 'SELECT 42'"
        done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=True)
        assert done.stdout == "42\n"


def test_options_reach_the_configuration(programs: Programs, scratch: Path) -> None:
    """Options of `init_cluster` stand in postgresql.conf, whatever characters they have; those of a server win."""
    account = server_account()
    usable = programs.usable_by(account)
    data = scratch / "data"
    init_cluster(
        usable,
        data,
        account=account,
        data_checksums=False,
        wal_segment_megabytes=4,
        options={"cluster_name": "it's a \\ test", "work_mem": "7MB"},
    )
    with LocalServer(
        usable,
        scratch,
        str(data),
        data,
        account=account,
        superuser="focker",
        log=scratch / "log",
        options={"work_mem": "9MB"},
    ) as started:
        for setting, value in {
            "cluster_name": "it's a \\ test",
            "work_mem": "9MB",
            "data_checksums": "off",
            "wal_segment_size": "4MB",
            "server_encoding": "UTF8",
            "TimeZone": "UTC",
        }.items():
            assert started.query(f"SHOW {setting}").rows == [(value,)]


def test_a_failed_start_shows_the_log(server: ServerFactory) -> None:
    """When a server does not start, the message says why and the hint has the end of its log."""
    broken = server(start=False)
    with (broken.data_directory / "postgresql.conf").open("a") as file:
        file.write("no_such_setting = 1\n")
    with pytest.raises(ServerError, match="contains errors") as failure:
        broken.start()
    assert failure.value.kind is ErrorKind.SERVER_NOT_STARTED
    assert 'unrecognized configuration parameter "no_such_setting"' in failure.value.hint
    assert not broken.is_running


def test_a_start_that_stands_still_is_ended(server: ServerFactory) -> None:
    """A recovery that logs nothing for as long as the timeout is given up, and nothing of it runs on."""
    waiting = server({"restore_command": "sleep 600", "hot_standby": "off"}, start=False)
    (waiting.data_directory / "recovery.signal").touch()
    with pytest.raises(ServerError, match="logged nothing for 1 seconds"):
        waiting.start(timeout=1)
    assert not waiting.is_running


def test_a_running_server_is_not_started_again(server: ServerFactory) -> None:
    """A second server of the same data directory is refused by name of the first one's process."""
    started = server()
    with pytest.raises(ConflictError, match=str(started.pid)):
        started.start()
    assert started.query("SELECT 1").rows == [(1,)]


def test_a_server_outlives_its_starter_and_is_stopped_by_its_directory(
    server: ServerFactory,
) -> None:
    """A server that another process started is found by its data directory, asked and stopped; its socket goes."""
    prepared = server(start=False)
    script = f"""
from pathlib import Path
from opskit.postgres.account import server_account
from opskit.postgres.programs import Programs
from opskit.postgres.server import LocalServer
server = LocalServer(
    Programs(directory=Path({str(prepared.programs.directory)!r}), version="", source=""),
    Path({str(prepared.start_in)!r}), "data", Path({str(prepared.data_directory)!r}),
    account=server_account(), superuser="focker", log=Path({str(prepared.log)!r}),
)
server.start()
print(server.pid, server.socket_directory)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stderr == ""
    pid, sockets = done.stdout.split()
    assert running_server(prepared.data_directory) == int(pid)
    assert stop_server(prepared.data_directory)
    assert not stop_server(prepared.data_directory)
    assert running_server(prepared.data_directory) is None
    assert not Path(sockets).exists()


def test_a_pid_file_left_behind_is_no_running_server(server: ServerFactory) -> None:
    """After a crash the pid file may name a process of somebody else: it is neither believed nor signalled."""
    killed = server()
    pid = killed.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while killed.is_running:
        time.sleep(0.02)
    pid_file = killed.data_directory / "postmaster.pid"
    assert pid_file.exists()
    pid_file.write_text(pid_file.read_text().replace(str(pid), str(os.getpid()), 1))
    assert running_server(killed.data_directory) is None
    assert not stop_server(killed.data_directory)
    pid_file.unlink()
    left_behind = killed.socket_directory
    killed.start()  # and its shared memory is taken over, then given back
    assert killed.query("SELECT 1").rows == [(1,)]
    assert not left_behind.exists()


def test_a_killed_server_recovers_at_its_next_start(server: ServerFactory) -> None:
    """Start waits until crash recovery is done and queries are answered."""
    killed = server()
    killed.query("CREATE TABLE t AS SELECT generate_series(1, 1000)")
    killed.stop("immediate")
    killed.start()
    assert killed.query("SELECT count(*) FROM t").rows == [(1000,)]


def test_fast_shutdown_does_not_wait_for_clients_and_gives_up_on_time(
    server: ServerFactory,
) -> None:
    """A shutdown that clients hold up ends in an immediate one when its time is over."""
    busy = server()
    client = subprocess.Popen(
        [busy.programs.path("psql"), "-X", busy.conninfo(), "-c", "SELECT pg_sleep(600)"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while (
            busy.query("SELECT 1 FROM pg_stat_activity WHERE query LIKE '%sleep(600)'").rows == []
        ):
            time.sleep(0.02)
        busy.stop("smart", timeout=0.5)
    finally:
        client.kill()
        client.wait()
    assert not busy.is_running


def test_a_refused_query_says_what_the_server_said(server: ServerFactory) -> None:
    """An error of SQL and a server that is gone are told apart."""
    started = server()
    with pytest.raises(ServerError, match="division by zero") as refused:
        started.query("SELECT 1/0")
    assert refused.value.kind is ErrorKind.SERVER_REFUSED
    with pytest.raises(ServerError, match='database "nowhere" does not exist'):
        started.query("SELECT 1", "nowhere")


def test_programs_connect_to_their_server_only(
    server: ServerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables of libpq in the environment do not lead queries and programs to another server."""
    started = server({"cluster_name": "the right one"})
    for name in ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE"):
        monkeypatch.setenv(name, "1" if name == "PGPORT" else "127.0.0.1")
    monkeypatch.delenv("PGSERVICE")
    assert started.query("SHOW cluster_name").rows == [("the right one",)]
    done = started.run("psql", "-XAt", "-c", "SHOW cluster_name")
    assert (done.exit_code, done.output) == (0, "the right one\n")


def test_a_program_that_takes_too_long_is_ended(server: ServerFactory) -> None:
    """A timeout ends the program and says which one it was."""
    with pytest.raises(ServerError, match=r"'psql' did not end within 0\.5 seconds"):
        server().run("psql", "-X", "-c", "SELECT pg_sleep(600)", timeout=0.5)


def test_init_needs_an_empty_directory(programs: Programs, scratch: Path) -> None:
    """A directory with something in it is refused with initdb's own reason, and left alone."""
    account = server_account()
    (scratch / "data").mkdir(mode=0o777)
    (scratch / "data" / "precious").write_text("kept")
    with pytest.raises(ServerError, match=r"not empty|Permission denied"):
        init_cluster(programs.usable_by(account), scratch / "data", account=account)
    assert (scratch / "data" / "precious").read_text() == "kept"


def test_free_ports_are_below_the_ephemeral_range() -> None:
    """A port that the kernel may give to an outgoing connection is never chosen."""
    ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(1024 <= free_port() < ephemeral for _ in range(20))


def test_a_filled_server_has_a_fingerprint_that_tells_changes(server: ServerFactory) -> None:
    """The dataset of other tests holds a table in each of two databases, and its fingerprint sees one changed row."""
    filled = server()
    fill(filled)
    before = fingerprint(filled)
    assert {database for database, _ in before} == {"postgres", 'Büro "Köln"\'s'}
    assert before["postgres", "public.slow"][0] == 3000
    assert before["postgres", "large objects"][0] == 5
    filled.query("UPDATE slow SET payload = 'x' WHERE id = 7")
    after = fingerprint(filled)
    assert [key for key in before if before[key] != after[key]] == [("postgres", "public.slow")]


def test_a_shared_server_is_filled(shared_server: LocalServer) -> None:
    """The shared server answers, with its tablespace."""
    assert shared_server.query("SELECT count(*) FROM pg_tablespace").rows == [(3,)]
