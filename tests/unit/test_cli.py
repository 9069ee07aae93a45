"""The command without a server: usage, errors, exit codes, what it loads, and how it ends."""

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

import opskit
from opskit.cli import main
from opskit.cli._lab import shipped_notebooks, working_copy
from opskit.cli._output import BACKUP_KEYS
from opskit.cli._run import Ending, join_parameters
from opskit.cli._runbooks import duration
from opskit.errors import Cancelled, InputError
from opskit.store import LocalStore
from tests.support.interpreter import python
from tests.support.repositories import made_up_backup

PROJECT = Path(__file__).parents[2]
MADE_AT = datetime(2026, 11, 22, 14, 3, 5, tzinfo=UTC)

CONFIGURATION = """
[repository]
url = "./repository"
[clusters.main]
conninfo = "host=127.0.0.1 port=1 user=focker"
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration in the working directory, for a server that is down."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPSKIT_CONFIG", raising=False)
    file = tmp_path / "opskit.toml"
    file.write_text(CONFIGURATION.replace("./repository", (tmp_path / "repository").as_uri()))
    return file


def test_the_module_is_the_command() -> None:
    """``python -m opskit`` is ``opskit``, also in what it calls itself."""
    done = subprocess.run(
        [sys.executable, "-m", "opskit", "backup"],
        cwd=PROJECT,
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "opskit: missing argument 'CLUSTER'\nHINT: See 'opskit backup --help'.\n"


@pytest.mark.parametrize(("given", "kept"), [("None", False), ("['--version']", True)])
def test_only_a_process_of_its_own_collects_garbage_seldom(given: str, kept: bool) -> None:
    """The command's process ends with its work; whoever calls it from Python keeps the collector as it is."""
    done = python(
        "import gc, sys; from opskit.cli import main; sys.argv = ['opskit', '--version']\n"
        f"before = gc.get_threshold(); main({given}); print(gc.get_threshold() == before)"
    )
    assert done.stdout.splitlines()[-1] == str(kept), done.stderr


@pytest.mark.parametrize("arguments", [[], ["runbook"]])
def test_nothing_to_do_shows_the_help(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A command that is missing is wrong usage, answered by the help."""
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("Usage: opskit")


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    """--version prints one line."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"opskit {opskit.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["nonsense"], 2, "no such command 'nonsense'"),
        (["backup", "main", "--differential"], 2, "no such option: --differential"),
        (["backup", "main", "--full", "--incremental"], 2, "a backup is either --full or"),
        (
            ["--config", "/no/opskit.toml", "backups"],
            3,
            "the configuration file '/no/opskit.toml' does not exist",
        ),
        (["show", "mian", "latest"], 3, "no cluster 'mian' is configured"),
        (["show", "main", "latest"], 3, "backup"),
        (
            ["backup", "main", "--note", "a\x1b[31mred"],
            2,
            "the character '\\x1b', which cannot be kept",
        ),
        (["backup", "main"], 5, "127.0.0.1"),
        (
            ["restore", "main", "d", "--tablespace", "x=/y"],
            2,
            "--tablespace 'x=/y', expected OID=PATH",
        ),
        (
            ["restore", "main", "d", "--start", "--layout", "data-directory"],
            2,
            "--start starts a copy",
        ),
        (["download", "main", "latest", "--format", "zip"], 2, "the format 'zip' is not one of"),
        (["start", "nowhere"], 3, "holds no restored copy"),
        (["runbook", "run", "nonsense", "main"], 3, "there is no runbook 'nonsense'"),
        (
            ["runbook", "run", "local_restore", "main", "-p", "note"],
            2,
            "the parameter 'note' is given without",
        ),
    ],
)
def test_an_error_is_one_line_and_a_hint(
    config: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, told: str
) -> None:
    """An error goes to stderr without a traceback, with its class's exit code, and stdout stays empty."""
    assert main(arguments) == code
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert shown.out == ""
    assert lines[0].startswith("opskit: ")
    assert told in lines[0]
    assert [line.partition(" ")[0] for line in lines[1:]] in ([], ["HINT:"])


@pytest.mark.parametrize(
    "conninfo",
    [
        "host=127.0.0.1 port=1 password = 'planted'",
        "postgresql://user:planted@127.0.0.1:1/postgres",
        "postgresql://127.0.0.1:1/postgres?user=u&password=planted",
        "host=127.0.0.1 port=1 sslpassword=planted",
        "host=127.0.0.1 port=1 oauth_client_secret=planted",
        "host=127.0.0.1 port=1 scram_client_key=planted",
        "host=127.0.0.1 pasword=planted",
    ],
)
def test_a_password_in_conninfo_is_refused_and_not_repeated(
    config: Path, capsys: pytest.CaptureFixture[str], conninfo: str
) -> None:
    """No command shows or keeps a password that somebody wrote into conninfo; the backup says where it belongs."""
    config.write_text(config.read_text().replace("host=127.0.0.1 port=1 user=focker", conninfo))
    assert main(["--debug", "backup", "main"]) == 2
    assert main(["check", "main"]) == 1
    assert main(["backups", "--json"]) == 0
    shown = capsys.readouterr()
    assert "planted" not in shown.out + shown.err
    kept = b"".join(file.read_bytes() for file in config.parent.glob("opskit.db*"))
    assert b"planted" not in kept


def test_a_near_name_is_offered(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A name that was mistyped comes back with the one that was meant."""
    assert main(["backups", "mian"]) == 3
    assert "Did you mean 'main'?" in capsys.readouterr().err


def test_check_lists_what_fails_and_exits_with_one(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failed check is a result: it is data on stdout, and the exit code says 1."""
    assert main(["check", "main"]) == 1
    shown = capsys.readouterr()
    assert "FAIL" in shown.out
    assert "HINT: " in shown.out
    assert main(["check", "main", "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)
    keys = {"name", "passed", "severity", "message", "hint"}
    assert [set(finding) for finding in findings] == [keys] * len(findings)
    assert not all(finding["passed"] for finding in findings)


def test_no_backups_is_an_empty_list(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A cluster that has no backups yet gives an empty list, not an error."""
    assert main(["backups", "main", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["backups"]) == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "no backups\n")


def test_a_failed_backup_is_listed(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A backup that could not begin shows as failed, with the note it was to have."""
    assert main(["backup", "main", "--note", "before"]) == 5
    assert main(["backups", "main", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert tuple(row) == BACKUP_KEYS
    assert (row["status"], row["note"], row["name"]) == ("failed", "before", None)
    assert datetime.fromisoformat(row["started_at"]).tzinfo == UTC


def test_an_unexpected_error_says_where_and_what_to_do(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of opskit is one sentence; the traceback comes with --debug only, and both without a password."""

    def fail(*_: object) -> None:
        raise KeyError(
            "password='planted one' in postgresql://u:planted@h/ of planted-in-environment"
        )

    monkeypatch.setenv("PGPASSWORD", "planted-in-environment")
    monkeypatch.setattr("opskit.cluster.Cluster.check", fail)
    assert main(["check", "main"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("opskit: unexpected KeyError at opskit/cli/_commands.py:")
    assert "report" in told
    assert len(told.splitlines()) == 2
    assert main(["--debug", "check", "main"]) == 1
    traced = capsys.readouterr().err
    assert "Traceback" in traced
    assert "planted" not in told + traced.replace("planted-in-environment' in", "")


def test_a_reader_that_went_away_is_no_error(config: Path) -> None:
    """``opskit … | head`` prints nothing on stderr."""
    command = f"{sys.executable} -m opskit --help | true"
    done = subprocess.run(
        command, shell=True, cwd=PROJECT, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_with_its_exit_code(number: signal.Signals, code: int) -> None:
    """SIGINT and SIGTERM end a command with one line, and the exit code that shells expect."""
    done = python(
        "import os, sys, time, opskit.cli._app as a\n"
        "from opskit.cli import main\n"
        "@a.app.command()\n"
        f"def hang() -> None:\n    os.kill(os.getpid(), {int(number)}); time.sleep(60)\n"
        "sys.exit(main(['hang']))"
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "opskit: cancelled\n")


def test_an_operation_is_asked_first_and_interrupted_by_a_second_sigint() -> None:
    """While an operation runs the first signal waits for it, SIGTERM again too, and a second SIGINT does not."""
    ending = Ending()
    with ending.gently():
        ending.handle(signal.SIGTERM, None)
        ending.handle(signal.SIGTERM, None)
        assert ending.asked is signal.SIGTERM
        with pytest.raises(Cancelled):
            ending.handle(signal.SIGINT, None)
    with pytest.raises(Cancelled):
        Ending().handle(signal.SIGTERM, None)


def test_parameters_are_written_as_papermill_has_them() -> None:
    """``-p KEY VALUE`` can be given several times, with values of any form; ``-p KEY=VALUE`` is left alone."""
    given = ["-p", "a", "-1", "--json", "--parameter", "b", "c=d", "-p", "e=f", "-p", "g"]
    joined = ["-p", "a=-1", "--json", "--parameter", "b=c=d", "-p", "e=f", "-p", "g"]
    run = ["--debug", "runbook", "run", "x", "main"]
    assert join_parameters(run + given) == run + joined
    assert join_parameters(["start", "-p", "a", "b"]) == ["start", "-p", "a", "b"]


def test_a_duration_has_a_unit() -> None:
    """A time limit is a number above zero with its unit; everything else is refused as it was written."""
    texts = {"90s": 90, "1.5min": 90, "2h": 7200, " 1d": 86400}
    assert {text: duration(text).total_seconds() for text in texts} == texts
    for text in ("90", "0s", "-5s", "2 hours", "", "infs"):
        with pytest.raises(InputError, match=f"the duration is '{text}'"):
            duration(text)


def test_what_is_wrong_with_an_argument_is_told(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An argument of the wrong kind is named, with what was expected."""
    assert main(["restore", "main", "into", "--xid", "x"]) == 2
    assert "'--xid'" in capsys.readouterr().err
    assert main(["backup", "main", "--trigger", "by hand"]) == 2
    assert "'by hand' is not one of 'scheduled', 'on demand'" in capsys.readouterr().err
    assert main(["restore", "main"]) == 2
    assert "'DIRECTORY'" in capsys.readouterr().err


def test_backups_are_listed_without_pandas(config: Path) -> None:
    """A list of plain values waits for no library of tables, which takes a second to load."""
    made_up_backup(LocalStore(config.parent / "repository"), MADE_AT, 7)
    done = python(
        "import sys; from opskit.cli import main\n"
        f"assert main({['--config', str(config), 'backups', 'main', '--json']!r}) == 0\n"
        "assert 'pandas' not in sys.modules and 'numpy' not in sys.modules"
    )
    assert done.returncode == 0, done.stderr
    [row] = json.loads(done.stdout)
    assert tuple(row) == BACKUP_KEYS
    assert (row["kind"], row["start_lsn"], row["full_bytes"]) == (
        "full",
        "0/700028",
        row["stored_bytes"],
    )
    assert row["stopped_at"] == "2026-11-22T14:03:05.000Z"


def test_the_lab_s_notebooks_are_never_overwritten(tmp_path: Path) -> None:
    """A person's changes stay; only what is missing is copied."""
    shipped, working = tmp_path / "shipped", tmp_path / "notebooks"
    shipped.mkdir()
    for name in ("backups.ipynb", "drills.ipynb"):
        (shipped / name).write_text("{}")
    working.mkdir()
    (working / "backups.ipynb").write_text("mine")
    assert working_copy(shipped, working) == working
    assert (working / "backups.ipynb").read_text() == "mine"
    assert (working / "drills.ipynb").read_text() == "{}"
    assert working_copy(shipped, shipped) == shipped


def test_the_lab_opens_with_the_configuration(config: Path) -> None:
    """JupyterLab is started on the working copy, where notebooks find the same configuration, with further options."""
    stand_in = (
        config.parent / "jupyterlab.py"
    )  # found before the installed one, and tells how it was started
    stand_in.write_text(
        "import json, os, sys; print(json.dumps([os.environ['OPSKIT_CONFIG'], sys.argv[1:]]))"
    )
    done = subprocess.run(
        [sys.executable, "-m", "opskit", "lab", "--no-browser", "--port=8899"],
        cwd=config.parent,
        env={**os.environ, "PYTHONPATH": f"{config.parent}:{PROJECT}"},
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    configuration, arguments = json.loads(done.stdout)
    assert configuration == str(config)
    assert {"--no-browser", "--port=8899", f"--notebook-dir={config.parent}"} <= set(arguments)
    assert arguments.index("--ServerApp.log_level=WARN") < arguments.index(
        "--no-browser"
    )  # can be set otherwise
    assert ("--allow-root" in arguments) == (os.geteuid() == 0)
    copied = {path.name for path in (config.parent / "notebooks").iterdir()}
    assert copied == {path.name for path in shipped_notebooks().glob("*.ipynb")}
