"""Every way in which a run can end reads as what it was: real processes killed, stopped, without memory or room."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import nbformat
import pytest

from opskit.config import Settings
from opskit.errors import ErrorKind, OpskitError, StoreError
from opskit.evidence import read_record
from opskit.evidence.verify import verify_audit
from opskit.runbooks import CheckResult, Outcome, RunResult, make_index, run_runbook
from opskit.runbooks._lost import file_lost
from tests.notebooks.books import FINISH, LEAVE, PASS, SLEEP, left_over, write_book, write_settings
from tests.support.machine import small_disk

SECRET = "planted-hunter2-xyzzy"
# The line of processes from the kernel up: its guard, papermill, the supervisor.
LINE = (
    "import os, resource, signal, time\n"
    "line = [os.getpid()]\n"
    "while len(line) < 4:\n"
    "    line.append(int(open(f'/proc/{line[-1]}/stat').read().rpartition(')')[2].split()[1]))\n"
    "kernel, guard, papermill, supervisor = line\n"
)


def told(who: str, number: signal.Signals) -> str:
    """A cell that sends a signal to one of the processes of its run, or to all at once."""
    whom = "[supervisor, papermill, guard, kernel]" if who == "all" else f"[{who}]"
    return f"{LINE}[os.kill(pid, {int(number)}) for pid in {whom}]\ntime.sleep(600)"


TELL = (
    "import os, sys, time\n"
    "secret = os.environ['PGPASSWORD']\n"
    "print('it is', secret)\n"
    "for letter in secret:\n"
    "    print(letter, end='', file=sys.stderr, flush=True)\n"
    "    time.sleep(0.02)\n"
    "other = 'other-' + 'secret'\n"
    "raise ValueError(f'postgresql://me:{secret}@db and password={other}')"
)
OUT_OF_MEMORY = f"{LINE}resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))\nbytearray(2**32)"
FILL = (
    "import contextlib\n"
    "with contextlib.suppress(OSError), open('{path}', 'wb', 0) as file:\n"
    "    while file.write(bytes(4096)):\n"
    "        pass"
)
LOST = "every process of the run was lost"


@dataclass(frozen=True)
class Ending:
    """Cells after those of every runbook, and how a run of them reads; `lost` when nobody was left to answer."""

    cells: tuple[str, ...]
    outcome: Outcome
    reason: str
    lost: bool = False


ENDINGS = {
    "late": Ending((PASS, LEAVE, SLEEP, FINISH), Outcome.ABORTED, "it took longer than"),
    "supervisor_killed": Ending(
        (PASS, LEAVE, told("supervisor", signal.SIGKILL), FINISH), Outcome.DIED, LOST, lost=True
    ),
    "passes": Ending((PASS, FINISH), Outcome.PASSED, ""),
    "exits": Ending((PASS, "import sys\nsys.exit(0)", FINISH), Outcome.FAILED, "sys.exit(0)"),
    "kernel_killed": Ending(
        (PASS, LEAVE, told("kernel", signal.SIGKILL), FINISH), Outcome.DIED, "the kernel died"
    ),
    "papermill_terminated": Ending(
        (PASS, LEAVE, told("papermill", signal.SIGTERM), FINISH), Outcome.ABORTED, "asked to end"
    ),
    "tells": Ending((PASS, TELL, FINISH), Outcome.FAILED, "ValueError: postgresql://me:***@db"),
}
RARER = {
    "all_killed": Ending(
        (PASS, told("all", signal.SIGKILL), FINISH), Outcome.DIED, LOST, lost=True
    ),
    "fails": Ending(
        (PASS, 'run.check("one is two", 1 == 2, "it is not")', FINISH),
        Outcome.FAILED,
        "1 of 2 checks failed: one is two",
    ),
    "raises": Ending((PASS, 'raise ValueError("no")', FINISH), Outcome.FAILED, "ValueError: no"),
    "exits_with_3": Ending((PASS, "import sys\nsys.exit(3)"), Outcome.FAILED, "sys.exit(3)"),
    "unfinished": Ending((PASS, LEAVE), Outcome.FAILED, "without run.finish()"),
    "out_of_memory": Ending((PASS, OUT_OF_MEMORY, FINISH), Outcome.FAILED, "MemoryError"),
    "guard_killed": Ending(
        (PASS, LEAVE, told("guard", signal.SIGKILL), FINISH), Outcome.DIED, "the kernel died"
    ),
    "papermill_killed": Ending(
        (PASS, LEAVE, told("papermill", signal.SIGKILL), FINISH), Outcome.DIED, "SIGKILL"
    ),
    "papermill_interrupted": Ending(
        (PASS, LEAVE, told("papermill", signal.SIGINT), FINISH), Outcome.ABORTED, "asked to end"
    ),
    "supervisor_terminated": Ending(
        (PASS, LEAVE, told("supervisor", signal.SIGTERM), FINISH), Outcome.ABORTED, "SIGTERM"
    ),
}
CROWD = {f"passes_{number}": ENDINGS["passes"] for number in range(7)}
EVERY = ENDINGS | RARER | CROWD
assert len(EVERY) == 24


@pytest.mark.parametrize(
    ("endings", "at_once"),
    [(ENDINGS, 3), pytest.param(EVERY, len(EVERY), marks=pytest.mark.sweep)],
    ids=["some", "all-at-once"],
)
def test_every_way_to_end_reads_as_what_it_was(
    endings: dict[str, Ending], at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outcome, reason, exit code, report and index are true; no run, no process, no secret gets out."""
    settings = write_settings(tmp_path)
    masters = tmp_path / "masters"
    for name, ending in endings.items():
        write_book(masters, name, *ending.cells)
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

    def run(name: str) -> RunResult | OpskitError:
        limit = timedelta(seconds=12 if at_once < 4 else 60) if name == "late" else None
        try:
            return run_runbook(
                settings, name, "main", {"note": name}, timeout=limit, directory=masters
            )
        except OpskitError as error:
            return error

    with ThreadPoolExecutor(at_once) as pool:
        results = dict(zip(endings, pool.map(run, endings), strict=True))
    wait_until_left_alone(tmp_path)
    _, reports = make_index(settings.reports_directory)

    for name, ending in endings.items():
        result = results[name]
        if ending.lost:
            assert isinstance(result, OpskitError), name
            assert (result.kind, result.exit_code) == (ErrorKind.OPERATION_DIED, 1)
        else:
            assert isinstance(result, RunResult), (name, result)
            assert (result.outcome, name) == (ending.outcome, name), result.reason
            assert ending.reason in result.reason
            assert result.exit_code == (0 if ending.outcome is Outcome.PASSED else 1)
        assert_report(settings, name, ending)
    assert sorted((report.runbook, str(report.outcome)) for report in reports) == sorted(
        (name, str(ending.outcome)) for name, ending in endings.items()
    )
    verdict = verify_audit(settings)
    assert (verdict.findings, verdict.entries) == ((), len(endings))
    index = (settings.reports_directory / "index.html").read_text()
    assert all(name in index for name in endings) and SECRET not in index
    assert not list(settings.reports_directory.glob("main/*/*/.*.run"))
    if not any(ending.lost for ending in endings.values()):
        assert list(tmp_path.glob("opskit-run-*")) == []


def assert_report(settings: Settings, name: str, ending: Ending) -> None:
    """There is one report of the run, of its owner alone, that says how it ended, and nothing secret."""
    (path,) = settings.reports_directory.glob(f"main/*/*/*Z-{name}.ipynb")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    record = notebook.metadata.opskit
    assert (record.outcome, ending.reason in record.reason) == (str(ending.outcome), True), record
    assert record.parameters == {"cluster": "main", "note": name, "times": 1, "dry_run": False}
    assert [check["result"] for check in record.checks][:1] == [str(CheckResult.PASSED)], name
    states = [c.metadata.papermill.status for c in notebook.cells if c.cell_type == "code"]
    assert "running" not in states
    if ending.outcome in (Outcome.DIED, Outcome.ABORTED):
        assert states[-2:] == ["failed", "pending"], name
    assert read_record(path.with_suffix(".json")).statement["predicate"]["outcome"] == str(
        ending.outcome
    )
    assert ending.outcome.capitalize() in path.with_suffix(".html").read_text()
    for file in path.parent.glob(f"{path.stem}.*"):
        assert file.stat().st_mode & 0o777 == 0o600
        assert SECRET not in file.read_text() and "other-secret" not in file.read_text()


def wait_until_left_alone(directory: Path) -> None:
    """No process of the runs of a test is left; those that lost their supervisor take a moment to notice."""
    deadline = time.monotonic() + 40
    while left_over(f"OPSKIT_TEST_RUN={directory}") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left_over(f"OPSKIT_TEST_RUN={directory}") == []


def test_a_full_disk_is_told_and_filed_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An output that does not fit ends the run, and the report says so; if that does not fit either, then later."""
    monkeypatch.setenv("OPSKIT_TEST_RUN", str(tmp_path))
    masters, no_room = tmp_path / "masters", "there was no room for the executed notebook"
    with small_disk(tmp_path / "disk", 1 << 10) as disk:
        settings = write_settings(tmp_path, reports=disk / "reports")
        write_book(masters, "big", PASS, LEAVE, "print('x' * 2_000_000)", FINISH)
        result = run_runbook(settings, "big", "main", directory=masters)
        assert (result.outcome, result.reason) == (Outcome.DIED, no_room)
        wait_until_left_alone(tmp_path)
        if (
            not disk.is_mount()
        ):  # whoever may not mount has no disk to fill, only files that are limited
            return
        fill = FILL.format(path=disk / "fill")
        write_book(masters, "full", PASS, LEAVE, fill, FINISH)
        with pytest.raises(StoreError) as failure:
            run_runbook(settings, "full", "main", directory=masters)
        assert failure.value.kind is ErrorKind.STORE_FULL
        wait_until_left_alone(tmp_path)
        (disk / "fill").unlink()
        file_lost(disk / "reports", os.uname().nodename)
        (path,) = disk.glob("reports/main/*/*/*-full.ipynb")
        record = nbformat.read(path, as_version=4).metadata.opskit
        assert (record.outcome, record.reason) == ("died", no_room)


@pytest.mark.parametrize(
    ("number", "early"),
    [
        (signal.SIGTERM, False),
        (signal.SIGKILL, False),
        pytest.param(signal.SIGINT, False, marks=pytest.mark.sweep),
        pytest.param(signal.SIGTERM, True, marks=pytest.mark.sweep),
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
        work = wait_for(tmp_path / "reports", "main/*/*/.*.run/work.ipynb", begun)
        ordering.send_signal(number)
        assert ordering.wait(60) != 0
    page = wait_for(tmp_path / "reports", "main/*/*/*.html", "Aborted", seconds=25)
    notebook: Any = nbformat.read(page.with_suffix(".ipynb"), as_version=4)
    assert notebook.metadata.opskit.outcome == "aborted"
    wait_until_left_alone(tmp_path)
    assert not work.exists()


def wait_for(directory: Path, pattern: str, content: str, seconds: float = 90) -> Path:
    """The file that matches and holds `content`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for path in directory.glob(pattern):
            if content in path.read_text():
                return path
        time.sleep(0.2)
    raise AssertionError(f"no {pattern} with {content!r} after {seconds} s")
