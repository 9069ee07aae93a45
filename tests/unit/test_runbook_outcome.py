"""The verdict on an executed notebook, and where it is filed."""

import errno
import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nbformat
import pytest

from opskit.errors import InputError, NotFoundError, StoreError
from opskit.reports.page import render_page
from opskit.runbooks import (
    Check,
    CheckResult,
    Outcome,
    Step,
    _supervisor,
    _worker,
    find_runbook,
    run_runbook,
)
from opskit.runbooks import _filing as filing
from opskit.runbooks._outcome import Interruption, judge, settle
from opskit.runbooks._record import CHECK, RUN, STEP
from opskit.runbooks._report import file_report
from tests.notebooks.books import BIND, FINISH, PASS, notebook, write_book, write_settings

NOW = datetime(2026, 11, 22, 14, 3, 5, tzinfo=UTC)
STEPPED = Step(name="Think", started_at=NOW, duration=timedelta(seconds=1.5))
CHECKED = Check(what="one is one", result=CheckResult.PASSED, detail="<1>")
LOST = Interruption(outcome=Outcome.DIED, reason="the kernel died")


def executed(*, finished: str | None = "passed", error: tuple[str, str] | None = None) -> Any:
    """A notebook as papermill leaves it."""
    book = notebook(BIND, PASS, FINISH)
    for cell in book.cells:
        cell.metadata.papermill = {"status": "completed", "start_time": NOW.isoformat()}
    show: Any = nbformat.v4.new_output
    book.cells[3].outputs = [
        show("display_data", {STEP: STEPPED.as_dict(), "text/html": "<p>s</p>"}),
        show("display_data", {CHECK: [CHECKED.as_dict()], "text/html": "<p>c</p>"}),
    ]
    if finished:
        record = {"outcome": finished, "reason": "" if finished == "passed" else "it did not hold"}
        book.cells[4].outputs = [show("display_data", {RUN: record, "text/html": "<p>card</p>"})]
    if error:
        name, value = error
        book.cells[4].outputs.append(show("error", ename=name, evalue=value, traceback=["x"]))
    return book


def test_passed_is_what_finished_with_every_check() -> None:
    """A notebook that ran to its end passed, and its records are read back."""
    verdict = judge(executed(), None)
    assert (verdict.outcome, verdict.reason) == (Outcome.PASSED, "")
    assert (verdict.steps, verdict.checks) == ((STEPPED,), (CHECKED,))


@pytest.mark.parametrize(
    ("book", "reason"),
    [
        (executed(finished=None), "the notebook ended without run.finish()"),
        (executed(finished="failed"), "it did not hold"),
        (executed(error=("SystemExit", "0")), "a cell called sys.exit(0)"),
        (executed(error=("SystemExit", "")), "a cell called sys.exit()"),
        (executed(error=("ValueError", "first\nsecond")), "ValueError: first"),
        (executed(error=("ChecksFailed", "1 of 2 checks failed: x")), "1 of 2 checks failed: x"),
        (executed(error=("AssertionError", "")), "AssertionError"),
    ],
)
def test_everything_else_failed(book: Any, reason: str) -> None:
    """A missing ``finish()``, an error after it, and ``sys.exit(0)`` are failures that say what happened."""
    verdict = judge(book, None)
    assert (verdict.outcome, verdict.reason) == (Outcome.FAILED, reason)


def test_an_interrupted_run_never_passed() -> None:
    """What the supervisor saw outweighs what the notebook says; what was checked before is kept."""
    verdict = judge(executed(), LOST)
    assert (verdict.outcome, verdict.reason) == (Outcome.DIED, "the kernel died")
    assert verdict.checks == (CHECKED,)


def test_states_of_cells_become_true() -> None:
    """The cell of a lost kernel failed, cells that never began are pending, and papermill's banners are gone."""
    book = executed()
    book.cells[4].metadata.papermill = {"status": "completed", "start_time": None}
    book.cells.insert(0, nbformat.v4.new_markdown_cell("An Exception was encountered"))
    book.cells[0].metadata.tags = ["papermill-error-cell-tag"]
    settle(book, LOST)
    states = [cell.metadata.papermill["status"] for cell in book.cells]
    assert states == ["completed", "completed", "completed", "failed", "pending"]


def _order(tmp_path: Path, **changed: Any) -> dict[str, Any]:
    return {
        "runbook": "small",
        "master": str(write_book(tmp_path / "masters", "small", PASS, FINISH)),
        "cluster": "main",
        "parameters": {"cluster": "main", "note": "<script>alert(1)</script>"},
        "started_at": NOW.isoformat(),
        "host": os.uname().nodename,
        "actor": "operator",
        "opskit_version": "1.0",
    } | changed


def test_two_runs_in_one_second_have_two_reports(tmp_path: Path) -> None:
    """No report takes the place of another, be that one filed or still on its way."""
    reports = tmp_path / "reports"
    desks = [filing.reserve(reports, _order(tmp_path)) for _ in range(2)]
    for desk in desks:
        file_report(desk, None, NOW)
    desks.append(filing.reserve(reports, _order(tmp_path)))
    file_report(desks[-1], None, NOW)
    names = ["20261122T140305Z-small", "20261122T140305Z-small-2", "20261122T140305Z-small-3"]
    assert [desk.stem for desk in desks] == names
    filed = sorted(path.name for path in (reports / "main/2026/11").glob("[!.]*"))
    assert filed == sorted(f"{name}.{kind}" for name in names for kind in ("html", "ipynb", "json"))


def test_a_lost_run_is_filed_by_the_next(tmp_path: Path) -> None:
    """A run that lost every process, the supervisor too, becomes a report; one that goes on is left alone."""
    reports = tmp_path / "reports"
    alive = filing.reserve(reports, _order(tmp_path))
    lost = filing.reserve(reports, _order(tmp_path))
    elsewhere = filing.reserve(reports, _order(tmp_path, host="elsewhere"))
    (lost.work / filing.WORK).write_text(nbformat.writes(executed(finished=None)), encoding="utf-8")
    os.close(lost.lock)  # what the kernel of the system does when a process ends
    os.close(elsewhere.lock)
    found = list(filing.lost_runs(reports, os.uname().nodename))
    assert [desk.stem for desk in found] == [lost.stem]
    record = file_report(found[0], LOST)
    assert record["outcome"] == "died"
    assert record["checks"] == [CHECKED.as_dict()]
    assert not lost.work.exists()
    assert alive.work.exists() and elsewhere.work.exists()
    os.close(alive.lock)


def test_a_report_is_its_owners_alone(tmp_path: Path) -> None:
    """Reports and the folders made for them can be read by the account that ran the runbook, and by nobody else."""
    desk = filing.reserve(tmp_path / "reports", _order(tmp_path))
    assert stat.S_IMODE(desk.work.stat().st_mode) == 0o700
    file_report(desk, None, NOW)
    for path in (desk.notebook, desk.html):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "reports/main").stat().st_mode) == 0o700


def test_a_page_that_cannot_be_made_leaves_the_evidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The notebook is filed whatever happens to its page."""

    def broken(_notebook: Any) -> str:
        raise RuntimeError("no template")

    monkeypatch.setattr("opskit.runbooks._report.render_page", broken)
    desk = filing.reserve(tmp_path / "reports", _order(tmp_path))
    assert file_report(desk, None, NOW)["html"] is None
    assert json.loads(desk.notebook.read_text())["metadata"]["opskit"]["outcome"] == "failed"


def test_reports_that_cannot_be_written_are_an_error(tmp_path: Path) -> None:
    """Where no report can be filed, nothing is run: the error names the directory and what to do."""
    (tmp_path / "reports").write_text("a file")
    with pytest.raises(StoreError, match="reports") as refused:
        filing.reserve(tmp_path / "reports", _order(tmp_path))
    assert isinstance(refused.value.__cause__, OSError)
    assert refused.value.__cause__.errno in (errno.ENOTDIR, errno.EEXIST)


def test_nothing_happens_when_the_order_is_wrong(tmp_path: Path) -> None:
    """Unknown runbook, cluster or parameter, and a value of another type: refused before any report is begun."""
    settings = write_settings(tmp_path)
    masters = write_book(tmp_path / "masters", "small", FINISH).parent

    def run(name: str, on: str, **given: str) -> None:
        run_runbook(settings, name, on, given, directory=masters)

    with pytest.raises(NotFoundError, match="'smal'") as unknown:
        run("smal", "main")
    assert unknown.value.hint == "Did you mean 'small'?"
    with pytest.raises(NotFoundError, match="'mian'"):
        run("small", "mian")
    with pytest.raises(InputError, match="'tiems'"):
        run("small", "main", tiems="1")
    with pytest.raises(InputError, match="'dry_run' is 'no'"):
        run("small", "main", dry_run="no")
    with pytest.raises(InputError, match="is run on 'main'"):
        run("small", "main", cluster="other")
    assert not settings.reports_directory.exists()


def test_a_master_has_its_parameters_first(tmp_path: Path) -> None:
    """A notebook whose first code cell is not the tagged one is no runbook."""
    book = notebook(FINISH)
    book.cells[1].metadata.tags = []
    nbformat.write(book, tmp_path / "small.ipynb")
    with pytest.raises(InputError, match="not tagged 'parameters'"):
        find_runbook("small", tmp_path)
    (tmp_path / "small.ipynb").write_text("{}")
    with pytest.raises(InputError, match="not a notebook"):
        find_runbook("small", tmp_path)


def test_a_report_shows_what_ran_when_nothing_did(tmp_path: Path) -> None:
    """A run that died before its first cell leaves the master's cells, marked as not run."""
    desk = filing.reserve(tmp_path / "reports", _order(tmp_path))
    file_report(desk, LOST, NOW)
    page = desk.html.read_text()
    assert "Died" in page and "the kernel died" in page
    assert render_page(nbformat.read(desk.notebook, as_version=4)) == page


@pytest.mark.parametrize(
    ("code", "asked", "outcome", "reason"),
    [
        (_worker.COMPLETE, None, None, ""),
        (_worker.RAISED, None, None, ""),
        (_worker.COMPLETE, "SIGTERM asked for the end", None, ""),
        (_worker.RAISED, "SIGTERM asked for the end", Outcome.ABORTED, "SIGTERM asked for the end"),
        (_worker.STOPPED, "SIGHUP asked for the end", Outcome.ABORTED, "SIGHUP asked for the end"),
        (-9, "SIGTERM asked for the end", Outcome.ABORTED, "SIGTERM asked for the end"),
        (_worker.STOPPED, None, Outcome.ABORTED, "was asked to end"),
        (_worker.KERNEL_DIED, None, Outcome.DIED, "the kernel died"),
        (_worker.NO_ROOM, None, Outcome.DIED, "there was no room for the executed notebook"),
        (-9, None, Outcome.DIED, "the process that ran the notebook was ended by SIGKILL"),
        (1, None, Outcome.DIED, "ended with exit code 1: OSError: no space left"),
    ],
)
def test_how_the_worker_ended_decides(
    tmp_path: Path, code: int, asked: str | None, outcome: Outcome | None, reason: str
) -> None:
    """A notebook is trusted only when papermill saw it to its end; a request that came too late changes nothing."""
    log = tmp_path / "worker.log"
    log.write_text("Traceback …\nOSError: no space left\n")
    found = _supervisor.interruption(code, asked, log)
    assert (found and found.outcome) is outcome
    assert reason in (found.reason if found else "")
