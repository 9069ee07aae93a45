"""What a server refuses or cannot do is told in words that help, through the API and through the command."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from opskit.cluster import Cluster
from opskit.config import Settings, load_settings
from opskit.errors import ConflictError, ErrorKind, InputError, NotFoundError, ServerError
from opskit.model.backup import BaseBackup
from opskit.model.operation import Progress
from opskit.postgres.server import LocalServer, free_port
from tests.servers import ServerFactory
from tests.support.backups import assert_free, assert_restores, mark, take, wait_until
from tests.support.command import run_command
from tests.support.failing import assert_backup_fails, assert_command_fails, assert_fails
from tests.support.fake import fake_server
from tests.support.majors import newest_first

ClusterFactory = Callable[..., Cluster]
TCP = {"listen_addresses": "127.0.0.1"}


@pytest.fixture
def cluster(settings: Callable[..., Settings]) -> Iterator[ClusterFactory]:
    """Makes the configured cluster of a server, reached by another conninfo where one is given."""
    made: list[Cluster] = []

    def make(server: LocalServer, conninfo: str | None = None) -> Cluster:
        configured = settings(server)
        if conninfo is not None:
            assert configured.file is not None
            text = configured.file.read_text(encoding="utf-8")
            text = text.replace(json.dumps(server.conninfo()), json.dumps(conninfo))
            configured.file.write_text(text, encoding="utf-8")
            configured = load_settings(configured.file)
        made.append(Cluster("main", configured))
        return made[-1]

    yield make
    for one in made:
        one.catalog.close()


@pytest.fixture
def newest(server: ServerFactory) -> bool:
    """Whether this is the newest major: only there the command is tried too, as it knows no majors."""
    return server.programs.major == 18


def over_tcp(server: LocalServer, user: str) -> str:
    """A conninfo that leads over loopback, where a password is asked for."""
    return f"host=127.0.0.1 port={server.port} user={user} dbname=postgres"


def failed_finding(cluster: Cluster) -> tuple[str, str]:
    """The name of the only thing that a check finds wrong, and what it says to do."""
    [found] = [finding for finding in cluster.check() if not finding.passed]
    return found.name, found.hint


def test_a_server_that_is_down(
    server: ServerFactory, cluster: ClusterFactory, newest: bool
) -> None:
    """It is unreachable, by its socket and by its port; the check says so too."""
    source = server(TCP)
    for conninfo in (source.conninfo(), over_tcp(source, "focker")):
        main = cluster(source, conninfo)
        if source.is_running:
            source.stop()
            source._socket_directory = Path("/nowhere")  # for the next conninfo of the settings
        failure = assert_backup_fails(
            main, ServerError, ErrorKind.SERVER_UNREACHABLE, str(source.port), command=newest
        )
        assert failed_finding(main) == ("server", failure.hint)
        source._socket_directory = Path("/nowhere")


def test_a_wrong_password(
    server: ServerFactory,
    cluster: ClusterFactory,
    newest: bool,
    monkeypatch: pytest.MonkeyPatch,
    scratch: Path,
) -> None:
    """A wrong password and a missing one are told, without the password; with the right one it works."""
    source = server(TCP)
    source.query("CREATE ROLE taker LOGIN REPLICATION PASSWORD 'the right one'")
    main = cluster(source, over_tcp(source, "taker"))
    monkeypatch.setenv("PGPASSFILE", str(scratch / "none"))
    for password in ("the wrong one", None):
        if password is None:
            monkeypatch.delenv("PGPASSWORD")
        else:
            monkeypatch.setenv("PGPASSWORD", password)
        failure = assert_backup_fails(
            main, ServerError, ErrorKind.AUTHENTICATION_FAILED, "password", command=newest
        )
        assert "wrong one" not in str(failure.as_dict())
        assert failed_finding(main) == ("server", failure.hint)
    monkeypatch.setenv("PGPASSWORD", "the right one")
    assert main.create_backup().cluster == "main"


def test_a_role_without_replication(
    server: ServerFactory, cluster: ClusterFactory, newest: bool
) -> None:
    """A role that may log in and no more is told what it lacks, and how to get it."""
    source = server()
    source.query("CREATE ROLE reader LOGIN")
    main = cluster(source, source.conninfo().replace("user=focker", "user=reader"))
    failure = assert_backup_fails(
        main, ServerError, ErrorKind.REPLICATION_NOT_ALLOWED, command=newest
    )
    assert "ALTER ROLE" in failure.hint
    assert failed_finding(main) == ("replication", failure.hint)
    source.query("ALTER ROLE reader REPLICATION")
    assert main.create_backup().cluster == "main"


@pytest.mark.parametrize("line", ["", "host replication all 127.0.0.1/32 reject\n"])
def test_no_line_for_replication(
    server: ServerFactory, cluster: ClusterFactory, newest: bool, line: str
) -> None:
    """A pg_hba.conf that lets SQL in but no replication is told, with the line to add."""
    source = server(TCP)
    hba = source.data_directory / "pg_hba.conf"
    hba.write_text(f"{line}local all all trust\nhost all all 127.0.0.1/32 trust\n")
    source.query("SELECT pg_reload_conf()")
    main = cluster(source, over_tcp(source, "focker"))
    wait_until(lambda: main.check()[0].passed)
    failure = assert_backup_fails(
        main, ServerError, ErrorKind.NO_HBA_ENTRY, "replication", command=newest and not line
    )
    assert "pg_hba.conf" in failure.hint
    assert failed_finding(main) == ("replication", failure.hint)


@pytest.mark.parametrize("allowed", [0, 1])
def test_no_free_walsender(
    server: ServerFactory, cluster: ClusterFactory, newest: bool, allowed: int
) -> None:
    """A backup takes two walsenders; too few are told with the setting that decides."""
    main = cluster(server({"max_wal_senders": str(allowed)}))
    failure = assert_backup_fails(
        main, ServerError, ErrorKind.NO_WALSENDER, command=newest and allowed == 1
    )
    assert "max_wal_senders" in failure.hint
    assert "walsenders" in {finding.name for finding in main.check() if not finding.passed}


@pytest.mark.parametrize("allowed", [0, 1])
def test_no_free_slot(
    server: ServerFactory, cluster: ClusterFactory, newest: bool, allowed: int
) -> None:
    """A server whose slots are all taken, or that has none, is told with the setting that decides."""
    source = server({"max_replication_slots": str(allowed)})
    if allowed:
        source.query("SELECT pg_create_physical_replication_slot('somebody_else')")
    main = cluster(source)
    failure = assert_backup_fails(
        main, ServerError, ErrorKind.NO_SLOT, "replication slots", command=newest and allowed == 1
    )
    assert "max_replication_slots" in failure.hint
    assert failed_finding(main)[0] == "replication slots"


@pytest.mark.parametrize("programs", [18], indirect=True)
@pytest.mark.parametrize(("version", "major"), [("14.9", "14"), ("9.6.24", "9"), ("19beta1", "19")])
def test_an_unsupported_major(
    server: ServerFactory, cluster: ClusterFactory, version: str, major: str
) -> None:
    """A server that is too old or too new is told so before anything is asked of it."""
    with fake_server(version, free_port()) as conninfo:
        main = cluster(server(), conninfo)
        assert_backup_fails(
            main,
            ServerError,
            ErrorKind.UNSUPPORTED_VERSION,
            f"PostgreSQL {major}",
            "15 to 18",
            command=version == "14.9",
        )


@pytest.mark.parametrize("programs", [18], indirect=True)
def test_a_service_that_is_not_there(server: ServerFactory, cluster: ClusterFactory) -> None:
    """A service that no file defines is a wrong setting, not a dead server."""
    main = cluster(server(), "service=nobody_has_this")
    assert_backup_fails(main, ServerError, ErrorKind.WRONG_SETTING, "nobody_has_this")


class Pausing:
    """A monitor that stands still in the middle of the stream, until it is let go."""

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()

    def report(self, progress: Progress) -> None:
        """Stand still at the first megabytes."""
        if progress.phase == "copying" and not self.reached.is_set():
            self.reached.set()
            assert self.go_on.wait(60)

    def check(self) -> None:
        """Go on."""


@contextmanager
def paused_backup(cluster: Cluster, server: LocalServer) -> Iterator[Callable[[], BaseBackup]]:
    """While a backup stands still in its stream; what is given lets it go on, and returns how it ended."""
    pausing = Pausing()
    with ThreadPoolExecutor(1) as thread:
        taking = thread.submit(take, server, cluster.repository, monitor=pausing)
        try:
            assert pausing.reached.wait(60)

            def go_on() -> BaseBackup:
                pausing.go_on.set()
                return taking.result(60)

            yield go_on
        finally:
            pausing.go_on.set()


@newest_first
def test_another_backup_is_running(
    server: ServerFactory, cluster: ClusterFactory, newest: bool
) -> None:
    """A second backup is refused while one runs, from another database too, and does not disturb it."""
    source = server()
    main = cluster(source)
    with paused_backup(main, source) as go_on:
        for conninfo in (source.conninfo(), source.conninfo("template1")):
            other = cluster(source, conninfo)
            failure = assert_backup_fails(
                other, ConflictError, ErrorKind.BACKUP_RUNNING, "since", command=newest
            )
            assert failed_finding(other) == ("no other backup", failure.hint)
        backup = go_on()
    assert main.repository.backups("main") == [backup]


def test_a_server_that_stops(server: ServerFactory, cluster: ClusterFactory) -> None:
    """A server that is gone in the middle of a backup is told as gone; afterwards nothing is left of it."""
    source = server({"max_wal_size": "64MB"})
    mark(source)
    source.query(
        "CREATE TABLE bulk AS SELECT repeat(md5(i::text), 20) FROM generate_series(1, 60000) i"
    )
    main = cluster(source)
    with paused_backup(main, source) as go_on:
        source.stop("immediate")
        assert_fails(go_on, ServerError, ErrorKind.SERVER_GONE, "went away")
    assert main.repository.survey("main").backups == ()
    assert not list(Path(main.repository.url.removeprefix("file://")).rglob("*.zst"))
    source.start()
    again = cluster(source)
    backup = again.create_backup()
    assert_restores(source, again.repository, backup, source.start_in / "copy")


@newest_first
@pytest.mark.parametrize("victim", ["stream", "slot", "lock"])
def test_a_connection_that_is_cut(
    server: ServerFactory, cluster: ClusterFactory, victim: str
) -> None:
    """Whichever of a backup's connections is ended: it fails as gone, or is whole; and the next one succeeds."""
    source = server({"max_wal_size": "64MB"})
    mark(source)
    source.query(
        "CREATE TABLE bulk AS SELECT repeat(md5(i::text), 20) FROM generate_series(1, 60000) i"
    )
    main = cluster(source)
    pid = {
        "stream": "SELECT pid FROM pg_stat_progress_basebackup",
        "slot": "SELECT active_pid AS pid FROM pg_replication_slots",
        "lock": "SELECT pid FROM pg_locks WHERE locktype = 'advisory'",
    }[victim]
    with paused_backup(main, source) as go_on:
        assert source.query(f"SELECT pg_terminate_backend(pid, 10000) FROM ({pid}) v").rows == [
            (True,)
        ]
        if victim == "slot":
            assert_restores(source, main.repository, go_on(), source.start_in / "copy")
        else:
            assert_fails(go_on, ServerError, ErrorKind.SERVER_GONE)
            assert main.repository.survey("main").backups == ()
    assert_free(source)
    assert main.create_backup().cluster == "main"


def test_a_damaged_page(server: ServerFactory, cluster: ClusterFactory, newest: bool) -> None:
    """A page whose checksum is wrong ends the backup, and no backup of it is listed."""
    source = server()
    mark(source)
    source.query("CHECKPOINT")
    [(relative,)] = source.query("SELECT pg_relation_filepath('marked')").rows
    with (source.data_directory / relative).open("r+b") as file:
        file.seek(8192 + 5000)
        file.write(b"damage")
    main = cluster(source)
    failure = assert_backup_fails(
        main, ServerError, ErrorKind.SERVER_REFUSED, "checksum", command=newest
    )
    assert "damaged pages" in failure.hint
    assert_free(source)


def test_a_name_that_belongs_to_another_cluster(
    server: ServerFactory, cluster: ClusterFactory, newest: bool
) -> None:
    """A second system identifier never mixes with the first under one name."""
    first, second = cluster(server()), server(own_identifier=True)
    first.create_backup()
    main = cluster(second)
    failure = assert_backup_fails(
        main,
        ConflictError,
        ErrorKind.NAME_TAKEN,
        "'main'",
        main.facts().system_identifier,
        command=newest,
    )
    assert failed_finding(main) == ("cluster name", failure.hint)


@pytest.mark.parametrize("programs", [18], indirect=True)
def test_notes(server: ServerFactory, cluster: ClusterFactory) -> None:
    """Any printable note comes back as it was given; what no terminal and no JSON can show is refused first."""
    main = cluster(server())
    for note in (
        "Vor der Ümstellung: \"alles\" 'gut' \\ 100% \N{SNOWMAN}",
        "two\nlines",
        "'; --",
        "\N{ROCKET}" * 1000,
    ):
        assert main.create_backup(note=note).note == note
        assert main.backup().note == note
        assert main.backups()["note"][0] == note
    for note in ("a\x1b[2Jb", "a\0b", "tab\t", "\x7f", "\x9b1m", "\ud800", "x" * 1001):
        with pytest.raises(InputError) as raised:
            main.create_backup(note=note)
        assert raised.value.hint
        assert raised.value.message.isprintable()
    done = run_command(main.settings, "backup", "main", "--note", os.fsdecode(b"\xff"))
    assert done.returncode == 2, done.stderr
    assert len(main.repository.backups("main")) == 4


@pytest.mark.parametrize("programs", [18], indirect=True)
def test_programs_that_are_not_there(
    server: ServerFactory, cluster: ClusterFactory, scratch: Path
) -> None:
    """A copy of a major whose programs this machine lacks says what it looked for, and how to get it."""
    main = cluster(server())
    main.create_backup()
    copy = main.restore(scratch / "copy")
    (copy.files.data_directory / "PG_VERSION").write_text("14\n")
    copy = main.copy(copy.directory)
    for work in (copy.start, copy.verify):
        failure = assert_fails(
            work, NotFoundError, ErrorKind.PROGRAMS_NOT_FOUND, "PostgreSQL 14", "PATH"
        )
        assert "postgresql-14" in failure.hint
    assert_command_fails(main.settings, failure, "start", str(copy.directory))


@pytest.mark.parametrize("programs", [18], indirect=True)
def test_an_unknown_setting(server: ServerFactory, settings: Callable[..., Settings]) -> None:
    """A key that nobody reads is an error that names the nearest known one."""
    configured = settings(server())
    assert configured.file is not None
    with configured.file.open("a", encoding="utf-8") as file:
        file.write('checkpiont = "fast"\n')
    failure = assert_fails(
        lambda: load_settings(configured.file),
        InputError,
        ErrorKind.UNKNOWN_SETTING,
        "'clusters.main.checkpiont'",
    )
    assert "'checkpoint'" in failure.hint
    assert_command_fails(configured, failure, "backup", "main")
