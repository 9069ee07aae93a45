"""``papermill --engine opskit``: what it makes of a runbook is told as it was, and every way in refuses alike."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillException, PapermillExecutionError

from opskit.config import Settings
from opskit.errors import InputError
from opskit.runbooks import list_runbooks, run_runbook
from tests.notebooks.books import (
    BIND,
    FINISH,
    LEAVE,
    PARAMETERS,
    PASS,
    SLEEP,
    left_over,
    notebook,
    write_book,
    write_settings,
)
from tests.support.command import run_command

SECRET = "planted-hunter2-xyzzy"
LIMITED = PARAMETERS + 'keep: int = 7  # how many [1..100]\nat: str = ""  # the time [required]\n'
KILL = "import os\nos.kill(os.getpid(), 9)"
TELL = (
    "import os\nfrom IPython.display import HTML, display\n"
    "display(HTML('<b>' + os.environ['PGPASSWORD'] + '</b>'))\nos.environ['PGPASSWORD']"
)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings that the kernel finds, and a password that it could tell."""
    made = write_settings(tmp_path)
    monkeypatch.setenv("OPSKIT_CONFIG", str(made.file))
    monkeypatch.setenv("PGPASSWORD", SECRET)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("OPSKIT_TEST_RUN", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return made


def execute(master: Path, output: Path, parameters: Mapping[str, Any] | None = None) -> Any:
    """What plain papermill does."""
    return papermill.execute_notebook(
        str(master), str(output), parameters, engine_name="opskit", progress_bar=False
    )


def command(*arguments: object) -> list[str]:
    """The papermill command with opskit's engine."""
    program = [sys.executable, "-m", "papermill", "--engine", "opskit", "--no-progress-bar"]
    return [*program, *map(str, arguments)]


@pytest.mark.parametrize(
    ("cells", "raised", "outcome", "reason", "states"),
    [
        ((TELL, PASS, FINISH), None, "passed", "", ["completed", "completed"]),
        ((PASS, LEAVE, KILL, FINISH), DeadKernelError, "died", "kernel", ["failed", "pending"]),
        ((PASS, "import sys\nsys.exit(0)"), PapermillException, "failed", "sys.exit(0)", []),
        pytest.param(
            (PASS, LEAVE, "1 / 0", FINISH),
            PapermillExecutionError,
            "failed",
            "ZeroDivisionError",
            ["failed", "pending"],
            marks=pytest.mark.sweep,
        ),
        pytest.param(
            (PASS, LEAVE),
            PapermillException,
            "failed",
            "without run.finish()",
            [],
            marks=pytest.mark.sweep,
        ),
    ],
    ids=["passes", "kernel", "exits", "raises", "unfinished"],
)
def test_papermill_ends_with_success_only_when_the_run_passed(
    settings: Settings,
    tmp_path: Path,
    cells: tuple[str, ...],
    raised: type[Exception] | None,
    outcome: str,
    reason: str,
    states: list[str],
) -> None:
    """The executed notebook says how it ended, belongs to its owner alone, tells no secret, and leaves no process."""
    master, output = write_book(tmp_path / "masters", "small", *cells), tmp_path / "out.ipynb"
    if raised is None:
        execute(master, Path("out.ipynb"), {"times": 2})
    else:
        with pytest.raises(raised):
            execute(master, Path("out.ipynb"), {"times": 2})
    text = output.read_text()
    assert SECRET not in text and "***" in text if TELL in cells else SECRET not in text
    executed = nbformat.reads(text, as_version=4)
    nbformat.validate(executed)
    record = executed.metadata.opskit
    assert (record.outcome, reason in record.reason) == (outcome, True)
    assert record.parameters == {"cluster": "main", "note": "", "times": 2, "dry_run": False}
    assert not states or states_of(output)[-2:] == states
    assert output.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in tmp_path.iterdir()} <= {"masters", "opskit.toml", "out.ipynb"}
    assert left_over(f"OPSKIT_TEST_RUN={tmp_path}") == []


@pytest.mark.parametrize(
    ("number", "outcome", "reason"),
    [
        (15, "aborted", "SIGTERM asked for the end"),
        (9, "died", "papermill was killed"),
        pytest.param(2, "aborted", "SIGINT asked for the end", marks=pytest.mark.sweep),
    ],
)
def test_a_papermill_that_is_killed_leaves_the_truth(
    settings: Settings, tmp_path: Path, number: int, outcome: str, reason: str
) -> None:
    """SIGTERM, SIGINT, SIGKILL: the cell reads as failed, the run as what it was; no process and no secret is left."""
    master, output = (
        write_book(tmp_path, "long", TELL, PASS, LEAVE, SLEEP, FINISH),
        tmp_path / "out.ipynb",
    )
    with subprocess.Popen(command(master, output), stderr=subprocess.PIPE, text=True) as running:
        wait_until(lambda: output.exists() and states_of(output)[-2:] == ["running", "pending"])
        running.send_signal(number)
        _, told = running.communicate(timeout=60)
    assert running.returncode == (-number if number != 2 else 1), told
    wait_until(lambda: not left_over(f"OPSKIT_TEST_RUN={tmp_path}"))
    assert SECRET not in output.read_text() + told
    executed = nbformat.read(output, as_version=4)
    assert (executed.metadata.opskit.outcome, executed.metadata.opskit.reason) == (outcome, reason)
    assert states_of(output)[-2:] == ["failed", "pending"]
    assert not list(tmp_path.glob("opskit-run-*"))


def states_of(output: Path) -> list[str]:
    """What papermill's metadata say of each cell of code."""
    cells = nbformat.read(output, as_version=4).cells
    return [cell.metadata.papermill.status for cell in cells if cell.cell_type == "code"]


def wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@dataclass(frozen=True)
class Wrong:
    """A parameter as a program gives it, as a command line does, and what the refusal says."""

    name: str
    value: object
    says: str
    text: str = ""


REFUSED = [
    Wrong("tiems", 1, "unknown parameter 'tiems'", "1"),
    Wrong("times", "many", "'times' is 'many', expected a whole number", "many"),
    Wrong("times", True, "'times' is True, expected a whole number"),
    Wrong("dry_run", "no", "'dry_run' is 'no', expected true or false", "no"),
    Wrong("keep", 0, "'keep' is 0, expected a whole number from 1 to 100", "0"),
    Wrong("at", "", "the parameter 'at' is missing", ""),
    Wrong("password", "hunter2", "'password'", "hunter2"),
    Wrong("note", "postgresql://me:hunter2@db/main", "'note' holds a URL with a password"),
    Wrong("note", f"it is {SECRET}", "'note' holds a password of this environment"),
]


def test_every_way_in_refuses_alike(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Command, papermill and what a panel calls name the parameter before anything happens, and repeat no secret."""
    masters = tmp_path / "masters"
    masters.mkdir()
    master, output = masters / "limited.ipynb", tmp_path / "out.ipynb"
    nbformat.write(notebook(BIND, PASS, FINISH, parameters=LIMITED), master)
    before = sorted(tmp_path.rglob("*"))
    for wrong in REFUSED:
        given: dict[str, Any] = {"at": "now", wrong.name: wrong.value}
        with pytest.raises(InputError) as by_panel:
            run_runbook(settings, "limited", "main", given, directory=masters)
        with pytest.raises(InputError) as by_papermill:
            execute(master, output, given)
        assert wrong.says in by_panel.value.message
        assert by_papermill.value.as_dict() == by_panel.value.as_dict()
        assert "hunter2" not in repr(by_panel.value.as_dict())
    with pytest.raises(InputError, match="'dry_run' is 'false'"):  # papermill's truthy text
        execute(master, output, {"at": "now", "dry_run": "false"})
    assert sorted(tmp_path.rglob("*")) == before


def test_the_commands_refuse_by_their_exit_code(settings: Settings, tmp_path: Path) -> None:
    """`opskit runbook run` and `papermill` end with an error, write nothing, and show no secret."""
    given = ("-p", "note", f"postgresql://me:{SECRET}@db/main")
    ours = run_command(settings, "runbook", "run", "scheduled_backup", "main", *given)
    assert ours.returncode == 2
    assert "the parameter 'note' holds a URL with a password" in ours.stderr
    master = next(runbook.path for runbook in list_runbooks())
    theirs = subprocess.run(
        command(master, tmp_path / "out.ipynb", *given), capture_output=True, text=True, check=False
    )
    assert theirs.returncode == 1
    assert "the parameter 'note'" in theirs.stderr
    assert SECRET not in ours.stdout + ours.stderr + theirs.stdout + theirs.stderr
    assert not (tmp_path / "out.ipynb").exists() and not (tmp_path / "reports").exists()


def test_an_executed_copy_is_no_master(settings: Settings, tmp_path: Path) -> None:
    """Parameters that an earlier run left in the notebook are not taken for given ones."""
    book = notebook(BIND, PASS, FINISH)
    book.cells[2].metadata.tags = ["injected-parameters"]
    nbformat.write(book, tmp_path / "copy.ipynb")
    with pytest.raises(InputError, match="is an executed copy"):
        execute(tmp_path / "copy.ipynb", tmp_path / "out.ipynb")


def test_papermill_shows_the_help_of_every_master() -> None:
    """``papermill --help-notebook`` reads what the masters declare."""
    for runbook in list_runbooks()[:1]:
        shown = subprocess.run(
            [sys.executable, "-m", "papermill", "--help-notebook", str(runbook.path)],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"COLUMNS": "200"},
        )
        assert shown.returncode == 0
        for parameter in runbook.parameters:
            assert f"{parameter.name}: {parameter.type} (default " in shown.stdout
            assert " ".join(parameter.help.split()[:4]) in " ".join(shown.stdout.split())
