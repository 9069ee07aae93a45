"""Runbooks executed for real: every way to end, and the masters that come with opskit against real servers."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import nbformat
import pytest

from opskit.config import Settings
from opskit.postgres.server import LocalServer
from opskit.repository import Repository
from opskit.runbooks import CheckResult, Outcome, RunResult, run_runbook
from opskit.store import open_store
from tests.conftest import SettingsFactory
from tests.notebooks.books import FINISH, PASS, write_book, write_settings
from tests.servers import ServerFactory, fill
from tests.support.streams import streaming

ROOT = Path(__file__).parents[2]
SECRET = "planted-hunter2-xyzzy"

# What a runbook leaves behind must not outlive it: a process in a session of its own, marked to be found.
LEAVE = 'import subprocess\nsubprocess.Popen(["sleep", "86399"], start_new_session=True)'
FAIL = 'run.check("one is two", 1 == 2, "it is not")'
KILL_KERNEL = "import os\nos.kill(os.getpid(), 9)"
KILL_PAPERMILL = "import os, time\nos.kill(os.getppid(), 9)\ntime.sleep(60)"
SLEEP = "import time\ntime.sleep(600)"

ENDINGS: dict[str, tuple[list[str], Outcome, str]] = {
    "late": ([PASS, LEAVE, SLEEP, FINISH], Outcome.ABORTED, "longer than"),
    "passes": ([PASS, FINISH], Outcome.PASSED, ""),
    "check": ([PASS, FAIL, FINISH], Outcome.FAILED, "1 of 2 checks failed: one is two"),
    "raises": ([PASS, 'raise ValueError("no")', FINISH], Outcome.FAILED, "ValueError: no"),
    "exits": ([PASS, "import sys\nsys.exit(0)", FINISH], Outcome.FAILED, "sys.exit(0)"),
    "unfinished": ([PASS, LEAVE], Outcome.FAILED, "without run.finish()"),
    "kernel": ([PASS, LEAVE, KILL_KERNEL, FINISH], Outcome.DIED, "the kernel died"),
    "papermill": ([PASS, LEAVE, KILL_PAPERMILL, FINISH], Outcome.DIED, "SIGKILL"),
}


def _run(settings: Settings, directory: Path, name: str) -> RunResult:
    limit = timedelta(seconds=15) if name == "late" else None
    return run_runbook(settings, name, "main", {"note": name}, timeout=limit, directory=directory)


def _left_over(mark: str) -> list[int]:
    """The processes whose command line or environment holds `mark`, this one left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                content = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if mark.encode() in content:
                found.append(int(entry.name))
    return found


def _states(notebook: Any) -> list[str]:
    return [c.metadata.papermill.status for c in notebook.cells if c.cell_type == "code"]


def test_every_way_to_end_reads_as_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outcome, reason, exit code and report are true however a run ends; no process is left, no secret is told."""
    settings = write_settings(tmp_path)
    masters = tmp_path / "masters"
    for name, (cells, _, _) in ENDINGS.items():
        write_book(masters, name, *cells)
    # A kernel called python3 that belongs to something else must not be asked.
    kernel = tmp_path / "jupyter/kernels/python3/kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text(
        json.dumps({"argv": ["/bin/false"], "display_name": "x", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("PGPASSWORD", SECRET)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("OPSKIT_TEST_RUN", str(tmp_path))
    with ThreadPoolExecutor(3) as pool:
        results = dict(
            zip(ENDINGS, pool.map(lambda n: _run(settings, masters, n), ENDINGS), strict=True)
        )

    for name, (_, outcome, reason) in ENDINGS.items():
        result = results[name]
        assert result.outcome is outcome, (name, result.reason)
        assert reason in result.reason if reason else result.reason == ""
        assert result.exit_code == (0 if outcome is Outcome.PASSED else 1)
        notebook = nbformat.read(result.notebook, as_version=4)
        nbformat.validate(notebook)
        assert notebook.metadata.opskit.outcome == str(outcome)
        assert notebook.metadata.opskit.parameters == {
            "cluster": "main",
            "note": name,
            "times": 1,
            "dry_run": False,
        }
        assert name == "late" or result.checks[0].result is CheckResult.PASSED
        assert result.html is not None
        page = result.html.read_text()
        assert outcome.capitalize() in page
        assert SECRET not in page + result.notebook.read_text()
        assert {p.stat().st_mode & 0o777 for p in (result.notebook, result.html)} == {0o600}
    assert _states(nbformat.read(results["kernel"].notebook, 4))[-2:] == ["failed", "pending"]
    assert _states(nbformat.read(results["papermill"].notebook, 4))[-2:] == ["failed", "pending"]
    files = [path.name for path in settings.reports_directory.glob("main/*/*/*")]
    assert len(files) == 3 * len(ENDINGS)
    marks = (f"OPSKIT_TEST_RUN={tmp_path}",)
    assert [pid for mark in marks for pid in _left_over(mark) if pid != os.getpid()] == []
    assert list(tmp_path.glob("opskit-run-*")) == []


@pytest.mark.parametrize(
    ("number", "early"),
    [
        (signal.SIGTERM, False),
        (signal.SIGKILL, False),
        (signal.SIGINT, False),
        (signal.SIGTERM, True),
    ],
)
def test_the_end_of_the_command_aborts_the_run(
    tmp_path: Path, number: signal.Signals, early: bool
) -> None:
    """Whoever ordered a run and goes away takes it along; the report is filed and says that it was aborted."""
    settings = write_settings(tmp_path)
    write_book(tmp_path / "masters", "long", PASS, LEAVE, SLEEP, FINISH)
    code = (
        "import sys; from pathlib import Path; from opskit.config import load_settings;"
        "from opskit.runbooks import run_runbook;"
        f"run_runbook(load_settings(Path({str(settings.file)!r})), 'long', 'main',"
        f" directory=Path({str(tmp_path / 'masters')!r}))"
    )
    environment = os.environ | {"OPSKIT_TEST_RUN": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL
    ) as ordering:
        begun = '"status": "running"' if early else '"name": "Think"'
        work = _wait_for(tmp_path / "reports", "main/*/*/.*.run/work.ipynb", begun)
        ordering.send_signal(number)
        assert ordering.wait(60) != 0
    page = _wait_for(tmp_path / "reports", "main/*/*/*.html", "Aborted", seconds=25)
    notebook = nbformat.read(page.with_suffix(".ipynb"), as_version=4)
    assert notebook.metadata.opskit.outcome == "aborted"
    deadline = time.monotonic() + 20
    while _left_over(f"OPSKIT_TEST_RUN={tmp_path}") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _left_over(f"OPSKIT_TEST_RUN={tmp_path}") == []
    assert not work.exists()


def _wait_for(directory: Path, pattern: str, content: str, seconds: float = 90) -> Path:
    """The file that matches and holds `content`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for path in directory.glob(pattern):
            if content in path.read_text():
                return path
        time.sleep(0.2)
    raise AssertionError(f"no {pattern} with {content!r} after {seconds} s")


@pytest.mark.parametrize("programs", [16, 18], indirect=True)
def test_the_masters_pass_on_a_real_cluster(
    server: ServerFactory,
    settings: SettingsFactory,
    scratch: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A backup is taken and proven, then restored, started, asked and judged by PostgreSQL's tools; nothing stays."""
    source = server()
    fill(source)
    monkeypatch.setenv("PGPASSWORD", SECRET)
    here = settings(source)
    backup = run_runbook(here, "scheduled_backup", "main", {"note": "nightly <b>&</b> 'ä'"})
    assert backup.passed, backup.reason
    assert {check.result for check in backup.checks} == {CheckResult.PASSED}
    source.stop()  # a restore needs no production
    restore = run_runbook(here, "local_restore", "main")
    assert restore.passed, restore.reason

    checks = {check.what: check for check in restore.checks}
    judged = checks["pg_amcheck finds no damage in any table or index"]
    if source.programs.major == 16:  # the wheel pgserver has no extensions
        assert (judged.result, judged.detail[:10]) == (CheckResult.NOT_RUN, "this build")
    else:
        assert judged.result is CheckResult.PASSED
    verified = checks["pg_verifybackup finds every file as the manifest says"]
    assert verified.result is CheckResult.PASSED
    told = _text(restore)
    assert "5,000" in told  # the rows of a table with an odd name
    assert 'Büro "Köln"\'s' in told
    for result in (backup, restore):
        assert result.html is not None
        assert result.html.read_text().count("data:image/svg+xml") >= 1
        assert SECRET not in result.html.read_text() + result.notebook.read_text()
    assert not _left_over(str(here.reports_directory))
    assert not any(SECRET.encode() in p.read_bytes() for p in scratch.rglob("*.json"))


def _text(result: RunResult) -> str:
    cells = nbformat.read(result.notebook, as_version=4).cells
    outputs = [o for c in cells if c.cell_type == "code" for o in c.outputs if "data" in o]
    return "\n".join(o.data["text/plain"] for o in outputs)


@pytest.mark.parametrize("programs", [18], indirect=True)
def test_a_restore_keeps_or_clears_what_it_made(
    server: ServerFactory, settings: SettingsFactory, scratch: Path
) -> None:
    """A directory that was given ends as the parameters say, and files that were there before are never touched."""
    source = server()
    here = settings(source)
    assert run_runbook(here, "scheduled_backup", "main", {"read_back": "false"}).passed
    places = {name: scratch / name for name in ("kept", "cleared", "taken")}
    places["taken"].mkdir()
    (places["taken"] / "mine.txt").write_text("mine")

    def restore(place: str, keep: str) -> RunResult:
        given = {"directory": str(places[place]), "keep": keep}
        return run_runbook(here, "local_restore", "main", given)

    with ThreadPoolExecutor(3) as pool:
        runs = pool.map(restore, ("kept", "cleared", "taken"), ("true", "false", "false"))
        kept, cleared, taken = runs
    assert kept.passed and cleared.passed
    assert (places["kept"] / "snapshot/conf/postgresql.conf").is_file()
    assert not places["cleared"].exists()
    assert taken.outcome is Outcome.FAILED
    assert "directory" in taken.reason
    assert [path.name for path in places["taken"].iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("programs", [18], indirect=True)
def test_a_damaged_backup_fails_its_restore(
    server: ServerFactory, settings: SettingsFactory, scratch: Path
) -> None:
    """A flipped byte in a volume ends the restore as failed, with the volume's name; the report is kept."""
    source = server()
    here = settings(source)
    assert run_runbook(here, "scheduled_backup", "main", {"read_back": "false"}).passed
    (volume,) = (scratch / "opskit/repository").rglob("snapshot-00001.tar.zst")
    content = bytearray(volume.read_bytes())
    content[len(content) // 2] ^= 1
    volume.chmod(0o600)
    volume.write_bytes(content)
    result = run_runbook(here, "local_restore", "main")
    assert result.outcome is Outcome.FAILED
    assert "snapshot-00001.tar.zst" in result.reason
    assert result.html is not None and "Failed" in result.html.read_text()


@pytest.mark.parametrize("programs", [18], indirect=True)
def test_a_server_that_is_down_fails_the_backup(
    server: ServerFactory, settings: SettingsFactory
) -> None:
    """A backup of a server that does not answer fails before anything is done, and says what to do."""
    source = server()
    here = settings(source)
    source.stop()
    result = run_runbook(here, "scheduled_backup", "main")
    assert result.outcome is Outcome.FAILED
    assert "ServerError" in result.reason or "server" in result.reason
    assert not (here.reports_directory.parent / "repository/main").exists()


@pytest.mark.parametrize("programs", [18], indirect=True)
def test_nbval_runs_the_masters_with_their_defaults(
    server: ServerFactory, settings: SettingsFactory
) -> None:
    """``pytest --nbval-lax`` and JupyterLab run the same notebooks, with the defaults of their parameters."""
    source: LocalServer = server()
    fill(source)
    here = settings(source)
    environment: Mapping[str, str] = os.environ | {"OPSKIT_CONFIG": str(here.file)}
    names = ("scheduled_backup", "local_restore", "point_in_time_restore")
    books = [str(ROOT / "runbooks" / f"{name}.ipynb") for name in names]
    with streaming(source, Repository(open_store(here.repository_url))):
        ended = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]  # noqa: RUF005
            + ["--nbval-lax", "--nbval-current-env", *books],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
    assert ended.returncode == 0, ended.stdout[-3000:]
