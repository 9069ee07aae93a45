"""A password that is planted wherever one may live is found nowhere else."""

import io
import json
import logging
import os
import re
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
import zstandard

from opskit.cluster import Cluster
from opskit.config import Settings, load_settings, settings_from
from opskit.errors import ErrorKind, InputError, OpskitError
from opskit.postgres.connection import connect
from tests.servers import ServerFactory
from tests.support.command import command, run_command, started

SECRET = "Tr0ub4dor&3 'q' \\%ä"
# No other test's: what runs beside this one is in the process list, too.
PLAIN = "swordfish7swordfish7"
FORMS = {
    PLAIN,
    SECRET,
    quote(SECRET),
    quote(PLAIN),
    json.dumps(SECRET)[1:-1],
    "Tr0ub4dor",
    "swordfish7",
}
DATABASE_FILES = re.compile(r"/data/(base|global|pg_wal|pg_xact)/")

pytestmark = pytest.mark.parametrize("programs", [18], indirect=True)


def assert_clean(text: str | bytes, where: object) -> None:
    """No form of the password is in it."""
    content = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    for form in FORMS:
        assert form.encode() not in content, f"the password is in {where}"


@pytest.fixture(params=["environment", pytest.param("pgpass", marks=pytest.mark.sweep), "service"])
def planted(
    request: pytest.FixtureRequest,
    server: ServerFactory,
    settings: Callable[..., Settings],
    scratch: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Cluster]:
    """A cluster that asks for a password over TCP, which is kept where the parameter says."""
    source = server({"listen_addresses": "127.0.0.1"})
    source.query(f"ALTER ROLE focker PASSWORD '{PLAIN}'")
    place = request.param
    pgpass, service = scratch / "pgpass", scratch / "services"
    pgpass.write_text(f"127.0.0.1:{source.port}:*:focker:{PLAIN}\n" if place == "pgpass" else "")
    pgpass.chmod(0o600)
    lines = ["[main]", "host=127.0.0.1", f"port={source.port}", "user=focker", "dbname=postgres"]
    lines += [f"password={PLAIN}"] if place == "service" else []
    service.write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("PGPASSFILE", str(pgpass))
    monkeypatch.setenv("PGSERVICEFILE", str(service))
    if place == "environment":
        monkeypatch.setenv("PGPASSWORD", PLAIN)
    conninfo = f"host=127.0.0.1 port={source.port} user=focker"
    configured = settings(source)
    assert configured.file is not None
    text = configured.file.read_text(encoding="utf-8")
    text = text.replace(
        json.dumps(source.conninfo()),
        '"service=main"' if "service" in place else json.dumps(conninfo),
    )
    configured.file.write_text(text, encoding="utf-8")
    cluster = Cluster("main", load_settings(configured.file))
    yield cluster
    cluster.catalog.close()


class Processes(threading.Thread):
    """Watches the command lines of all processes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[bytes] = set()
        self._ended = threading.Event()

    def run(self) -> None:
        """Look again and again."""
        while not self._ended.wait(0.1):
            for line in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(line.read_bytes())
                except OSError:
                    continue

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()
        self.join()


def everything_told(planted: Cluster, scratch: Path, caplog: pytest.LogCaptureFixture) -> str:
    """Do all that can be done, well and badly; whatever was said about it."""
    caplog.set_level(logging.DEBUG)
    told = [
        planted.create_backup(note="a note"),
        planted.check(),
        planted.facts(),
        planted.settings,
    ]
    told += [planted, planted.repository, planted.configuration, planted.backup()]
    commands = (
        ("--debug", "backup", "main"),
        ("check", "main", "--json"),
        ("backups", "--json"),
        ("show", "main", "latest", "--json"),
        ("download", "main", "latest", "-o", str(scratch / "main.tar.zst")),
        ("restore", "main", str(scratch / "copy")),
        ("restore", "main", str(scratch / "copy")),
    )
    results = [run_command(planted.settings, *arguments) for arguments in commands]
    assert [result.returncode for result in results] == [0] * 6 + [4]
    said = [result.stdout + result.stderr for result in results]
    return "\n".join([*map(repr, told), *said, caplog.text, planted.backups().to_string()])


def test_where_passwords_may_live(
    planted: Cluster,
    server: ServerFactory,
    scratch: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Backup, check, lists, download, restore and failures tell and keep nothing of it."""
    processes = Processes()
    processes.start()
    try:
        told = everything_told(planted, scratch, caplog)
        [source] = server.servers
        source.query("ALTER SYSTEM SET max_wal_senders = 1")
        source.stop()
        source.start()
        told += failures(planted)  # refused by a server that knows us
        source.query("ALTER ROLE focker PASSWORD 'another one'")
        told += failures(planted)  # the password is wrong now
        source.stop()
        told += failures(planted)  # nobody there
        with pytest.raises(OpskitError) as raised:
            planted.start_backup().wait(60)
        told += f"{raised.value!r} {raised.value.as_dict()}"
    finally:
        processes.stop()
    assert_clean(told, "what was said")
    assert any(b"opskit" in line for line in processes.seen)
    for line in processes.seen:
        assert_clean(line, "a command line")
    assert_nothing_kept(planted, scratch)


def failures(cluster: Cluster) -> str:
    """A backup and a check that fail; whatever was said about it."""
    with pytest.raises(OpskitError) as raised:
        cluster.create_backup()
    done = run_command(cluster.settings, "--debug", "backup", "main")
    assert done.returncode == raised.value.exit_code
    findings = cluster.check()
    assert not all(finding.passed for finding in findings)
    error = raised.value
    said = f"{error!r} {error.as_dict()} {error.__cause__!r} {error.__context__!r} {findings}"
    return "\n".join([said, done.stdout, done.stderr])


def assert_nothing_kept(cluster: Cluster, scratch: Path) -> None:
    """Catalog, repository, archive and restored copy are clean, decompressed too."""
    catalog = scratch / "opskit/opskit.db"
    with closing(sqlite3.connect(catalog)) as database:
        assert_clean("\n".join(database.iterdump()), "the catalog")
        assert len(cluster.catalog.operations()) > 6
    kept = [p for p in scratch.rglob("*") if p.is_file() and "servers" not in p.parts]
    kept = [p for p in kept if p not in (scratch / "pgpass", scratch / "services")]
    assert {"backup.json", "opskit.db", "postgresql.conf"} <= {p.name for p in kept}
    for path in kept:
        if DATABASE_FILES.search(str(path)):
            continue  # the cluster's own, as the server has them
        assert_clean(path.read_bytes(), path)
        if path.suffix == ".zst" and not path.name.endswith(".tar.zst"):
            reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(path.read_bytes()))
            with reader:
                assert_clean(reader.read(), path)


@pytest.mark.parametrize(
    "conninfo",
    [
        "host=127.0.0.1 user=focker password='{}'",
        "host=127.0.0.1 password={} user=focker",
        "postgresql://focker:{}@127.0.0.1/postgres",
        "postgresql://127.0.0.1/postgres?password={}",
        "host=127.0.0.1 sslpassword={}",
        "host=127.0.0.1 password={} nonsense",
        "host=127.0.0.1 passwort={}",
        "postgresql://focker:{}@127.0.0.1:port/postgres",
    ],
)
def test_a_password_in_conninfo(
    conninfo: str, scratch: Path, caplog: pytest.LogCaptureFixture, server: ServerFactory
) -> None:
    """It is refused wherever it stands, even where libpq would quote it in its complaint, and not repeated."""
    text = conninfo.format(quote(PLAIN))
    with pytest.raises(InputError) as raised:
        connect(text)
    assert raised.value.kind in (ErrorKind.SECRET_IN_SETTINGS, ErrorKind.WRONG_SETTING)
    file = scratch / "opskit.toml"
    file.write_text(
        f'[repository]\nurl = "{(scratch / "repository").as_uri()}"\n'
        f"[clusters.main]\nconninfo = {json.dumps(text)}\n"
    )
    settings = load_settings(file)
    told = [f"{raised.value!r} {raised.value.as_dict()} {raised.value.__context__!r}"]
    done = run_command(settings, "--debug", "backup", "main")
    assert done.returncode == 2
    told.append(done.stdout + done.stderr)
    cluster = Cluster("main", settings)
    told.append(repr(cluster.check()))
    with pytest.raises(InputError):
        cluster.create_backup()
    told += [repr(cluster), repr(settings), cluster.backups().to_string(), caplog.text]
    cluster.catalog.close()
    assert_clean("\n".join(told), "what was said")
    with closing(sqlite3.connect(scratch / "opskit.db")) as database:
        assert_clean("\n".join(database.iterdump()), "the catalog")


@pytest.mark.parametrize(
    ("table", "url"),
    [
        ("repository", "s3://key:{}@bucket/prefix"),
        ("catalog", "postgresql+psycopg://focker:{}@127.0.0.1/opskit"),
        ("catalog", "postgresql+psycopg://127.0.0.1/opskit?user=focker&password={}"),
    ],
)
def test_a_password_in_a_url(table: str, url: str, server: ServerFactory) -> None:
    """It is refused, and not repeated."""
    data = {"repository": {"url": "file:///nowhere"}, table: {"url": url.format(quote(SECRET))}}
    with pytest.raises(InputError) as raised:
        settings_from(data)
    assert raised.value.kind is ErrorKind.SECRET_IN_SETTINGS
    assert_clean(str(raised.value.as_dict()), "the error")


def test_the_process_list_during_a_backup(
    server: ServerFactory, settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``ps`` shows of a running backup, of its children and of the server's sessions holds no password."""
    monkeypatch.setenv("PGPASSWORD", PLAIN)
    source = server()
    source.query(
        "CREATE TABLE bulk AS SELECT repeat(md5(i::text), 20) FROM generate_series(1, 100000) i"
    )
    configured = settings(source)
    with started(configured, "backup", "main") as process:
        listed, asked = "", ""
        while process.poll() is None:
            listed += subprocess.run(
                ["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True
            ).stdout
            asked += repr(source.query("SELECT * FROM pg_stat_activity").rows)
        assert process.returncode == 0
    assert " ".join(command(configured, "backup", "main")) in listed
    assert "opskit" in asked
    assert_clean(listed, "the process list")
    assert_clean(asked, "pg_stat_activity")
    assert os.environ["PGPASSWORD"] == PLAIN
