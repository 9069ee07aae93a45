"""The demo: what it holds, that it is there in seconds, and that it is in nobody's way."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from opskit.cluster import Cluster
from opskit.config import load_settings
from opskit.demo import DemoResult, DemoState, _demo, _place, start_demo, stop_demo
from opskit.demo._stream import running_stream
from opskit.errors import ConflictError, ErrorKind, InputError, NotFoundError
from opskit.postgres.account import server_account
from opskit.postgres.postmaster import running_server
from opskit.postgres.programs import find_programs
from opskit.postgres.server import LocalServer
from tests.servers import fingerprint
from tests.support.backups import wait_until

PROJECT = Path(__file__).parents[2]
Start = Callable[[Path], DemoResult]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root hands servers to another account")


@pytest.fixture(autouse=True)
def places(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what a demo makes elsewhere within the test's directory."""
    monkeypatch.setattr(_place, "_FAR", scratch / "far")
    monkeypatch.setenv("XDG_DATA_HOME", str(scratch / "data home"))


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts demos, and stops them after the test."""
    started: list[Path] = []

    def start_one(directory: Path) -> DemoResult:
        started.append(directory)
        return start_demo(directory)

    yield start_one
    for directory in started:
        with suppress(NotFoundError):
            stop_demo(directory)


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Demos of one table and next to no data, for tests that are about when and where a demo is made."""

    def load(server: LocalServer, tablespace: Path) -> None:
        server.query(f"CREATE TABLESPACE \"slow disk\" LOCATION '{tablespace}'")
        server.query("CREATE DATABASE shop STRATEGY file_copy")
        orders = "CREATE TABLE sales.orders AS SELECT FROM generate_series(1, 100000)"
        server.query(f"CREATE SCHEMA sales; {orders}", "shop")

    monkeypatch.setattr(_demo, "load", load)


@pytest.fixture(scope="module")
def demo(base: Path) -> Iterator[DemoResult]:
    """A demo that tests only read."""
    directory = base / f"demo-{os.getpid()}"
    yield start_demo(directory)
    stop_demo(directory)
    shutil.rmtree(directory)


def test_it_holds_what_backups_stumble_over(demo: DemoResult) -> None:
    """Several databases and schemas, odd names, a tablespace, large objects, an unlogged and a partitioned table."""
    asked = server_of(demo)
    assert [database.name for database in demo.databases] == [
        "shop",
        "analytics",
        'Archiv "Köln" 2024',
        "postgres",
    ]
    assert 80e6 < demo.cluster_bytes < 130e6
    assert one(asked, "SELECT count(*) FROM pg_largeobject_metadata", "shop") == 60
    assert one(asked, "SELECT count(*) FROM web.sessions", "shop") == 10_000
    assert one(asked, "SELECT relpersistence FROM pg_class WHERE relname = 'sessions'", "shop") in (
        "u",
        b"u",
    )
    assert (
        one(asked, "SELECT count(*) FROM pg_partition_tree('sales.orders') WHERE isleaf", "shop")
        == 23
    )
    assert one(asked, "SELECT count(*) FROM sales.orders_later", "shop") == 0
    assert one(asked, 'SELECT count(*) FROM "Lager & Büro"."Bestände (Stück)"', "shop") == 2000
    assert one(asked, "SELECT pg_tablespace_size('slow disk') > 10e6") is True
    assert one(asked, 'SELECT count(*) FROM "Rechnungen 2024"', 'Archiv "Köln" 2024') == 20_000
    assert (
        one(asked, "SELECT count(*) FROM pg_namespace WHERE nspname !~ '^(pg_|info)'", "shop") == 6
    )


def test_it_makes_sense(demo: DemoResult) -> None:
    """The shop's books agree: every order has its lines, and their sum is its total."""
    wrong = """SELECT count(*) FROM sales.orders o FULL JOIN (
        SELECT order_id, sum(quantity * price) AS total FROM sales.order_lines GROUP BY 1
    ) l ON l.order_id = o.id WHERE o.total IS DISTINCT FROM l.total"""
    assert one(server_of(demo), wrong, "shop") == 0


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("listen_addresses", ""),
        ("fsync", "on"),
        ("wal_level", "replica"),
        ("summarize_wal", "on"),
        ("data_checksums", "on"),
        ("full_page_writes", "on"),
        ("autovacuum", "on"),
    ],
)
def test_its_server_is_safe_and_ready_for_backups(
    demo: DemoResult, setting: str, value: str
) -> None:
    """Nothing of the haste of loading stays."""
    assert one(server_of(demo), f"SHOW {setting}") == value


def test_its_superuser_is_focker(demo: DemoResult) -> None:
    """There is one superuser, as in the archives of old."""
    roles = server_of(demo).query("SELECT rolname FROM pg_roles WHERE rolsuper").rows
    assert roles == [("focker",)]
    assert demo.postgresql_version.startswith("18.")


def test_its_configuration_leads_to_it(demo: DemoResult) -> None:
    """The opskit.toml is valid, keeps everything in the demo directory, and holds no password."""
    settings = load_settings(demo.configuration)
    assert settings.clusters["main"].conninfo == demo.conninfo
    assert "password" not in demo.configuration.read_text(encoding="utf-8")
    assert settings.repository_url == (demo.directory / "repository").as_uri()
    assert settings.reports_directory == demo.directory / "reports"
    assert settings.catalog_url == f"sqlite:///{demo.directory / 'opskit.db'}"


def test_its_psql_line_can_be_pasted(demo: DemoResult) -> None:
    """The line that people are shown connects to the shop's database."""
    assert pasted(demo) == "100000"


@pytest.mark.usefixtures("little")
def test_starting_it_again_changes_nothing(start: Start, scratch: Path) -> None:
    """A running demo is found, a stopped one started, in a moment and with what was done to it."""
    first = start(scratch / "demo")
    assert first.state is DemoState.CREATED
    server_of(first).query("CREATE TABLE mine AS SELECT 42 AS answer", "shop")
    with first.configuration.open("a") as file:
        file.write('\n[clusters.second]\nconninfo = "service=second"\n')
    edited = first.configuration.read_bytes()
    for state in (DemoState.RUNNING, DemoState.STARTED):
        began = time.monotonic()
        again = start(scratch / "demo")
        assert time.monotonic() - began < 5
        assert again.state is state
        assert again.conninfo == first.conninfo
        assert one(server_of(again), "SELECT answer FROM mine", "shop") == 42
        assert first.configuration.read_bytes() == edited
        assert stop_demo(scratch / "demo")
        assert not stop_demo(scratch / "demo")
    assert sockets_of(first).exists() is False


@pytest.mark.parametrize("name", ['a "shöp" & 100% $HOME', "it's, a shop"])
def test_odd_directories(demo: DemoResult, start: Start, scratch: Path, name: str) -> None:
    """Any directory will do, and the data is the same in each; one with a quote has the server's files elsewhere."""
    odd = start(scratch / name)
    assert odd.is_elsewhere == ("'" in name)
    assert load_settings(odd.configuration).clusters["main"].conninfo == odd.conninfo
    assert pasted(odd) == "100000"
    assert fingerprint(server_of(odd)) == fingerprint(server_of(demo))


@as_root
@pytest.mark.usefixtures("little")
def test_a_directory_out_of_the_servers_reach(start: Start, scratch: Path) -> None:
    """Below a closed folder, such as root's home, the server's files are put where its account can work."""
    (scratch / "closed").mkdir(mode=0o700)
    made = start(scratch / "closed" / "demo")
    account = server_account()
    assert account is not None
    assert made.is_elsewhere
    assert made.account == account.name
    assert pasted(made) == "100000"
    shutil.rmtree(scratch / "closed" / "demo")
    again = start(scratch / "closed" / "demo")
    assert again.state is DemoState.RUNNING
    assert again.configuration.exists()


def test_a_foreign_configuration_is_left_alone(start: Start, scratch: Path) -> None:
    """An opskit.toml that is not the demo's is never touched, and nothing is made beside it."""
    directory = scratch / "production"
    directory.mkdir()
    for content in (
        b'[repository]\nurl = "file:///srv/opskit"\n[clusters.main]\nconninfo = "service=main"\n',
        b"not even TOML",
    ):
        (directory / "opskit.toml").write_bytes(content)
        with pytest.raises(ConflictError, match="is not this demo's"):
            start(directory)
        assert (directory / "opskit.toml").read_bytes() == content
        assert [path.name for path in directory.iterdir()] == ["opskit.toml"]


def test_a_foreign_folder_is_left_alone(start: Start, scratch: Path) -> None:
    """A folder named as the server's that holds something else is refused."""
    (scratch / "demo" / "server").mkdir(parents=True)
    (scratch / "demo" / "server" / "precious").touch()
    with pytest.raises(ConflictError, match="not of a demo") as error:
        start(scratch / "demo")
    assert error.value.kind is ErrorKind.TARGET_NOT_EMPTY
    assert (scratch / "demo" / "server" / "precious").exists()


@pytest.mark.usefixtures("little")
def test_a_demo_that_was_killed_while_it_was_made_is_made_again(
    start: Start, scratch: Path
) -> None:
    """Half a demo is never taken for a whole one, and its server does not stay."""
    directory = scratch / "demo"
    script = (
        f"from pathlib import Path; import opskit.demo as d; d.start_demo(Path({str(directory)!r}))"
    )
    maker = subprocess.Popen([sys.executable, "-c", script], cwd=PROJECT)
    while running_server(directory / "server" / "data") is None:
        assert maker.poll() is None
        time.sleep(0.02)
    maker.send_signal(signal.SIGKILL)
    maker.wait()
    made = start(directory)
    assert made.state is DemoState.CREATED
    assert pasted(made) == "100000"


@pytest.mark.usefixtures("little")
def test_a_demo_that_was_removed_while_it_ran_is_made_again(start: Start, scratch: Path) -> None:
    """Whoever removes the folder and starts over need not wait for the old server to notice."""
    directory = scratch / "demo"
    removed = start(directory)
    orphan = running_server(removed.server_directory / "data")
    assert orphan is not None
    shutil.rmtree(directory)
    try:
        assert pasted(start(directory)) == "100000"
    finally:
        os.kill(orphan, signal.SIGQUIT)
        while Path(f"/proc/{orphan}/cwd").exists():
            time.sleep(0.02)
        shutil.rmtree(sockets_of(removed))


@pytest.mark.usefixtures("little")
def test_two_at_once_make_one(start: Start, scratch: Path) -> None:
    """The second waits for the first and finds it running."""
    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(start, [scratch / "demo"] * 2))
    assert sorted(result.state for result in results) == [DemoState.CREATED, DemoState.RUNNING]
    assert results[0].conninfo == results[1].conninfo


def test_a_socket_directory_of_somebody_else_is_refused(start: Start, scratch: Path) -> None:
    """After a restart of the machine anybody could have made it: it is used only when it is private to the server."""
    home = scratch / "demo" / "server"
    home.mkdir(parents=True)
    sockets = _place.new_record(home).sockets
    sockets.mkdir()
    sockets.chmod(0o777)
    try:
        with pytest.raises(ConflictError, match="does not belong to the demo alone"):
            start(scratch / "demo")
    finally:
        sockets.rmdir()


def test_without_programs_the_error_has_the_command(
    start: Start, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the wheel is missing, the hint is the pip command, and nothing is made."""
    monkeypatch.setattr(_demo, "installed_programs", list)
    with pytest.raises(NotFoundError, match="needs PostgreSQL 18") as error:
        start(scratch / "demo")
    assert error.value.kind is ErrorKind.PROGRAMS_NOT_FOUND
    assert "pip install 'opskit[demo]'" in error.value.hint
    assert list((scratch / "demo").iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(start: Start, scratch: Path) -> None:
    """A file where the directory should be gives an error that says so."""
    (scratch / "file").touch()
    with pytest.raises(InputError, match=r"the demo cannot be in .*file"):
        start(scratch / "file" / "demo")


def test_stopping_what_is_not_there(scratch: Path) -> None:
    """Stopping needs a demo."""
    with pytest.raises(NotFoundError, match="there is no demo"):
        stop_demo(scratch)


def test_psql_is_named_by_its_path_where_it_is_not_in_path(
    demo: DemoResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine without PostgreSQL the line that connects uses the wheel's psql."""
    monkeypatch.setenv("PATH", "/nowhere")
    line = start_demo(demo.directory).psql_line
    assert line.partition(' "')[0].endswith("/psql")


def server_of(demo: DemoResult) -> LocalServer:
    """The demo's server, to ask it questions."""
    return LocalServer(
        find_programs(18).usable_by(server_account()),
        demo.server_directory,
        "data",
        demo.server_directory / "data",
        account=server_account(),
        superuser="focker",
        port=5432,
        socket_directory=sockets_of(demo),
        log=demo.log,
    )


def sockets_of(demo: DemoResult) -> Path:
    """Where the demo's socket is."""
    return Path(demo.conninfo.partition("host=")[2].partition(" ")[0])


def pasted(demo: DemoResult) -> str:
    """What the psql line says of the number of orders."""
    done = subprocess.run(
        f"{demo.psql_line} -XAt -c 'SELECT count(*) FROM sales.orders'",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def one(server: LocalServer, sql: str, database: str = "postgres") -> Any:
    """The one value that a query returns."""
    ((value,),) = server.query(sql, database).rows
    return value


@pytest.mark.usefixtures("little")
def test_its_wal_is_streamed_by_one_process(start: Start, scratch: Path) -> None:
    """A process of its own archives the WAL; a second start finds it, one that died is replaced, a stop ends it."""
    first = start(scratch / "demo")
    assert start(scratch / "demo").stream_pid == first.stream_pid
    main = Cluster("main", load_settings(first.configuration))
    wait_until(lambda: _passes(main), lambda: first.stream_log.read_text(), 60)
    os.kill(first.stream_pid, signal.SIGKILL)
    wait_until(lambda: running_stream(first.server_directory) is None)
    second = start(scratch / "demo")
    assert second.stream_pid != first.stream_pid
    wait_until(lambda: _passes(main), lambda: second.stream_log.read_text(), 60)
    assert stop_demo(scratch / "demo")
    assert running_stream(second.server_directory) is None
    start(scratch / "demo").configuration.unlink()
    wait_until(lambda: running_stream(second.server_directory) is None)
    main.catalog.close()


def _passes(main: Cluster) -> bool:
    try:
        status = main.wal_status()
    except NotFoundError:
        return False
    slot = status.server.slot if status.server is not None else None
    return status.passed and slot is not None and slot.is_active
