"""The command on real servers: what it prints, for people and for programs, and how it ends."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from opskit.cli import main
from opskit.cluster import Cluster
from opskit.config import Settings
from opskit.errors import Cancelled, ConflictError, ErrorKind
from opskit.model.operation import OperationKind, OperationStatus
from opskit.postgres.account import server_account
from opskit.postgres.server import LocalServer, running_server
from tests.servers import ServerFactory

PROJECT = Path(__file__).parents[2]

newest = pytest.mark.parametrize("programs", [18], indirect=True)


@pytest.fixture
def main_cluster(
    shared_server: LocalServer, settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    """A configured cluster whose configuration is in the working directory."""
    made = settings(shared_server)
    assert made.file is not None
    monkeypatch.chdir(made.file.parent)
    monkeypatch.delenv("OPSKIT_CONFIG", raising=False)
    cluster = Cluster("main", made)
    yield cluster
    cluster.catalog.close()


@pytest.fixture
def slow_cluster(server: ServerFactory, settings: Callable[..., Settings]) -> Iterator[Cluster]:
    """A cluster whose next backup waits minutes for its checkpoint, so that there is time to end it."""
    source = server({"checkpoint_timeout": "1h", "checkpoint_completion_target": "0.9"})
    source.query("CREATE TABLE t AS SELECT i, repeat('x', 500) FROM generate_series(1, 20000) i")
    file = settings(source).file
    assert file is not None
    file.write_text(file.read_text() + 'checkpoint = "spread"\n')
    cluster = Cluster("main", settings_of(file))
    yield cluster
    cluster.catalog.close()


def settings_of(file: Path) -> Settings:
    """The settings in a file that was changed."""
    from opskit.config import load_settings

    return load_settings(file)


def start(cluster: Cluster, *arguments: str) -> "subprocess.Popen[str]":
    """The command in a process of its own, with the cluster's configuration."""
    return subprocess.Popen(
        [sys.executable, "-m", "opskit", "--config", str(cluster.settings.file), *arguments],
        cwd=PROJECT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that another process brings about."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that succeeds without a word on stderr; what it printed."""
    code = main(arguments)
    shown = capsys.readouterr()
    assert (code, shown.err) == (0, "")
    return shown.out


@pytest.mark.every_major
def test_a_backup_goes_the_whole_way(
    main_cluster: Cluster, capsys: pytest.CaptureFixture[str], scratch: Path
) -> None:
    """Back up, list, show, download, restore, start, ask and stop, each by the command alone."""
    assert "FAIL" not in run(capsys, "check", "main")
    name = run(capsys, "backup", "main", "--note", "before\nmigration ä").removesuffix("\n")
    assert re.fullmatch(r"\d{8}T\d{6}Z", name)

    (row,) = json.loads(run(capsys, "backups", "main", "--json"))
    backup = main_cluster.backup(name)
    assert row == {
        "name": name,
        "cluster": "main",
        "kind": "full",
        "trigger": "on demand",
        "status": "complete",
        "started_at": row["started_at"],
        "stopped_at": row["stopped_at"],
        "start_lsn": str(backup.start_lsn),
        "stop_lsn": str(backup.stop_lsn),
        "timeline": 1,
        "stored_bytes": backup.stored_bytes,
        "cluster_bytes": backup.cluster_bytes,
        "parent": None,
        "note": "before\nmigration ä",
        "chain_length": 1,
        "full_bytes": backup.stored_bytes,
        "reason": backup.reason,
    }
    assert re.search("summarize_wal is off|takes no incremental backups", backup.reason)
    for key in ("started_at", "stopped_at"):
        assert abs(datetime.fromisoformat(row[key]) - datetime.now(UTC)) < timedelta(minutes=2)
    table = run(capsys, "backups")
    assert table.split("\n")[2].split()[:6] == ["main", name, "full", "on", "demand", "complete"]
    assert "before migration ä" in table

    shown = json.loads(run(capsys, "show", "main", "latest", "--json"))
    assert (shown["name"], shown["format"]) == (name, 1)
    assert f"PostgreSQL         {backup.postgresql_version}\n" in run(capsys, "show", "main", name)

    file = Path(run(capsys, "download", "main", "latest", "-o", str(scratch)).strip())
    assert file == scratch / f"main-{name}.tar.zst"
    assert file.stat().st_size > 0

    target = scratch / "copy"
    plan = run(capsys, "restore", "main", str(target), "--dry-run")
    assert name in plan
    assert str(target / "snapshot/data") in plan
    assert not target.exists()
    line = run(capsys, "restore", "main", str(target), "--start").strip()
    try:
        assert ask(line, main_cluster, "select count(*) from slow") == "3000"
    finally:
        assert run(capsys, "stop", str(target)) == ""
    assert running_server(target / "snapshot/data") is None
    line = run(capsys, "start", str(target)).strip()
    try:
        assert ask(line, main_cluster, "show opskit.backup") == name
    finally:
        run(capsys, "stop", str(target))
    assert running_server(target / "snapshot/data") is None


def test_the_demo_is_started_and_stopped(
    capsys: pytest.CaptureFixture[str], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``opskit demo`` leaves a server that can be backed up, in the current directory, and --stop ends it."""
    (scratch / "demo").mkdir()
    monkeypatch.chdir(scratch / "demo")
    monkeypatch.delenv("OPSKIT_CONFIG", raising=False)
    try:
        told = run(capsys, "demo")
        assert "PostgreSQL 18" in told
        assert f"configuration  {scratch / 'demo/opskit.toml'}\n" in told
        assert main(["check", "main"]) == 0
        capsys.readouterr()
        assert "running" in run(capsys, "demo", str(scratch / "demo"))
    finally:
        assert run(capsys, "demo", "--stop") == ""
    assert main(["check", "main"]) == 1
    capsys.readouterr()
    assert main(["demo", "--stop", str(scratch)]) == 3


def ask(psql_line: str, cluster: Cluster, sql: str) -> str:
    """Paste the line into a shell, as the account that the copy lets in."""
    account = server_account(cluster.settings.postgres.run_as)
    programs = cluster.settings.postgres.programs[0]
    done = subprocess.run(
        f"{psql_line} -XAtc {sql!r}".replace("psql ", f"{programs}/psql ", 1),
        shell=True,
        capture_output=True,
        text=True,
        user=account.uid if account else None,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@newest
def test_a_restore_needs_the_repository_alone(
    main_cluster: Cluster, capsys: pytest.CaptureFixture[str], scratch: Path
) -> None:
    """With the catalog out of reach, backups are listed, restored and taken; a warning says what is missing."""
    name = run(capsys, "backup", "main").strip()
    file = Path("opskit.toml")
    file.write_text(file.read_text().replace("sqlite:///", "sqlite:///missing/"))
    for arguments in (["restore", "main", str(scratch / "copy")], ["backups"], ["backup", "main"]):
        assert main(arguments) == 0
        shown = capsys.readouterr()
        assert re.match(
            r"opskit: .* not (recorded|shown): the catalog '.*' cannot be opened", shown.err
        )
        assert len(shown.err.splitlines()) == 1
    assert main_cluster.copy(scratch / "copy").verify().exit_code == 0
    assert name in [backup.name for backup in main_cluster.repository.backups("main")]


@newest
def test_a_data_directory_is_restored_with_its_tablespaces(
    main_cluster: Cluster, capsys: pytest.CaptureFixture[str], scratch: Path
) -> None:
    """--layout data-directory puts tablespaces where --tablespace says, and prints the data directory."""
    name = run(capsys, "backup", "main").strip()
    (tablespace,) = main_cluster.backup(name).tablespaces
    place = scratch / "place of the tablespace"
    printed = run(
        capsys,
        "restore",
        "main",
        str(scratch / "data"),
        "--layout=data-directory",
        f"--tablespace={tablespace.oid}={place}",
    )
    assert printed == f"{scratch / 'data'}\n"
    assert (scratch / f"data/pg_tblspc/{tablespace.oid}").readlink() == place
    assert main(["restore", "main", str(scratch / "data")]) == 4
    assert "is not an empty directory" in capsys.readouterr().err


@newest
def test_formats_and_names_of_downloads(
    main_cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without -o the archive comes here under its own name, in the wanted format; a file is never overwritten."""
    name = run(capsys, "backup", "main").strip()
    for archive in ("tar.zst", "tar.gz", "tar"):
        printed = run(capsys, "download", "main", name, "--format", archive).strip()
        assert Path(printed) == Path.cwd() / f"main-{name}.{archive}"
    done = subprocess.run(
        ["tar", "-tzf", f"main-{name}.tar.gz"], capture_output=True, text=True, check=True
    )
    assert f"data/backup/{name}/snapshot/README" in done.stdout.splitlines()
    assert main(["download", "main", name]) == 4
    assert "exists already" in capsys.readouterr().err


@newest
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_backup_cleanly(
    slow_cluster: Cluster, number: signal.Signals, code: int
) -> None:
    """SIGTERM and SIGINT end a backup that waits, within seconds; it reads as cancelled, and the next one may run."""
    command = start(slow_cluster, "backup", "main")
    wait_until(lambda: bool(slow_cluster.catalog.operations()))
    wait_until(lambda: "checkpoint" in slow_cluster.catalog.operations()[0].progress.phase)
    command.send_signal(number)
    out, errors = command.communicate(timeout=15)
    assert (command.returncode, out) == (code, "")
    assert errors == "opskit: cancelled\n"
    (operation,) = slow_cluster.catalog.operations()
    assert operation.status is OperationStatus.CANCELLED
    assert [row["status"] for row in rows(slow_cluster)] == ["failed"]
    assert not list(slow_cluster.repository.backups("main"))
    quick(slow_cluster).create_backup()


def rows(cluster: Cluster) -> list[dict[str, object]]:
    """What ``opskit backups --json`` prints."""
    command = start(cluster, "backups", "main", "--json")
    out, errors = command.communicate(timeout=60)
    assert (command.returncode, errors) == (0, "")
    found: list[dict[str, object]] = json.loads(out)
    return found


def quick(cluster: Cluster) -> Cluster:
    """The same cluster, whose backups do not wait."""
    file = cluster.settings.file
    assert file is not None
    file.write_text(file.read_text().replace("spread", "fast"))
    return Cluster("main", settings_of(file))


@newest
def test_a_backup_in_a_process_is_watched_and_cancelled(slow_cluster: Cluster) -> None:
    """A started backup shows as running at once and everywhere, excludes another one, and ends when it is asked to."""
    handle = slow_cluster.start_backup(note="watched", detached=True)
    assert handle.refresh().kind is OperationKind.BACKUP
    wait_until(lambda: "checkpoint" in handle.progress.phase)
    (row,) = rows(slow_cluster)
    assert (row["status"], row["note"]) == ("running", "watched")
    second = slow_cluster.start_backup()
    with pytest.raises(ConflictError) as raised:
        second.wait(60)
    assert raised.value.kind is ErrorKind.BACKUP_RUNNING
    asked = time.monotonic()
    handle.cancel()
    with pytest.raises(Cancelled):
        handle.wait(60)
    assert time.monotonic() - asked < 10


@newest
def test_operations_in_processes_give_their_results(main_cluster: Cluster, scratch: Path) -> None:
    """A backup, a download and a restore in processes of their own do what they do in this one."""
    made = main_cluster.start_backup(note="--odd 'note'\n2").wait(120)
    assert made.backup is not None
    assert main_cluster.backup().note == "--odd 'note'\n2"
    assert made.progress.bytes_done == made.progress.bytes_expected
    written = main_cluster.start_download("latest", scratch, format="tar").wait(120)
    assert written.result == {"path": str(scratch / f"main-{made.backup}.tar")}
    main_cluster.start_restore(scratch / "copy").wait(120)
    assert main_cluster.copy(scratch / "copy").verify().exit_code == 0
    kinds = [operation.kind for operation in main_cluster.catalog.operations(cluster="main")]
    assert kinds == [OperationKind.RESTORE, OperationKind.DOWNLOAD, OperationKind.BACKUP]


@newest
def test_a_scheduled_backup_says_so(main_cluster: Cluster) -> None:
    """What a runbook starts is recorded with its trigger."""
    from opskit.model.backup import Trigger

    main_cluster.start_backup(trigger=Trigger.SCHEDULED).wait(120)
    assert main_cluster.backup().trigger is Trigger.SCHEDULED
    assert list(main_cluster.backups()["trigger"]) == ["scheduled"]


@newest
def test_the_progress_is_shown_on_a_terminal_only(main_cluster: Cluster) -> None:
    """On a terminal stderr shows phases and bytes while stdout gets the name alone; in a pipe stderr stays empty."""
    command = start(main_cluster, "backup", "main")
    out, errors = command.communicate(timeout=120)
    assert (command.returncode, errors) == (0, "")
    assert re.fullmatch(r"\d{8}T\d{6}Z\n", out)
    leader, follower = os.openpty()
    try:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "opskit",
                "--config",
                str(main_cluster.settings.file),
                "backup",
                "main",
            ],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=follower,
            text=True,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
        )
        os.close(follower)
        seen = b""
        while piece := read_or_nothing(leader):
            seen += piece
        out, _ = process.communicate(timeout=120)
    finally:
        os.close(leader)
    assert process.returncode == 0, seen
    assert re.fullmatch(r"\d{8}T\d{6}Z\n", out)
    assert "MB" in seen.decode()


def read_or_nothing(terminal: int) -> bytes:
    """The next output; nothing when the other side has closed the terminal."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""
