"""``run = opskit.runbook(globals())`` … ``run.finish()``, without a kernel."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import opskit
from opskit.operations.check import Finding
from opskit.runbooks import CheckResult, ChecksFailed, Run, contract, runbook
from tests.notebooks.books import PARAMETERS, write_settings


@pytest.fixture
def namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What ``globals()`` are in a notebook after its cell of parameters ran."""
    settings = write_settings(tmp_path)
    monkeypatch.setenv("OPSKIT_CONFIG", str(settings.file))
    values = {"cluster": "main", "note": "", "times": 1, "dry_run": False}
    return {"In": ["", PARAMETERS.strip(), "run = opskit.runbook(globals())"], **values}


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the run shows, instead of a notebook's outputs."""
    views: list[Any] = []
    monkeypatch.setattr(contract, "_show", views.append)
    return views


@pytest.fixture
def run(namespace: dict[str, Any], shown: list[Any]) -> Run:
    """A run that has begun."""
    return runbook(namespace)


def test_a_run_knows_what_it_was_given(namespace: dict[str, Any]) -> None:
    """The values that count are those of the namespace, after papermill injected some."""
    namespace["In"].insert(2, '# Parameters\ntimes = 3\nnote = "x"\n')
    run = runbook(namespace | {"times": 3, "note": "x"})
    assert run.cluster == "main"
    assert dict(run.parameters) == {"cluster": "main", "note": "x", "times": 3, "dry_run": False}


@pytest.mark.parametrize(
    ("name", "value"),
    [("dry_run", "false"), ("times", "3"), ("times", True), ("note", None), ("cluster", 1)],
)
def test_a_value_of_another_type_is_refused(
    namespace: dict[str, Any], name: str, value: object
) -> None:
    """``papermill -p dry_run false`` hands on a truthy text: refused by the parameter's name."""
    with pytest.raises(opskit.InputError, match=f"'{name}' is"):
        runbook(namespace | {name: value})


def test_an_injected_name_must_be_declared(namespace: dict[str, Any]) -> None:
    """papermill runs misspelt parameters with a warning; the runbook does not run."""
    namespace["In"].insert(2, "# Parameters\ndry_rnu = True\n")
    with pytest.raises(opskit.InputError, match="'dry_rnu'"):
        runbook(namespace)


def test_the_cluster_must_be_configured(namespace: dict[str, Any]) -> None:
    """A cluster that nobody configured ends the run before anything happens."""
    with pytest.raises(opskit.NotFoundError, match="'mian'"):
        runbook(namespace | {"cluster": "mian"})


def test_it_needs_a_cell_of_parameters() -> None:
    """Without a cell of parameters there is nothing to hold values against."""
    with pytest.raises(opskit.InputError, match="no cell of parameters"):
        runbook({"In": ["", "x = 1"]})


def test_passed_needs_every_check(run: Run, shown: list[Any]) -> None:
    """A run whose checks passed ends quietly, and tells programs so."""
    with run.step("Think"):
        run.check("one is one", True, "1")
    run.not_run("it is sunny", "no window")
    run.finish()
    record = shown[-1].data["application/vnd.opskit.run+json"]
    assert record["outcome"] == "passed"
    assert [check["result"] for check in record["checks"]] == ["passed", "not run"]
    assert [step.name for step in run.steps] == ["Think"]
    assert "1 check passed, 1 not run" in shown[-1].text


def test_a_failed_check_fails_the_run(run: Run, shown: list[Any]) -> None:
    """A failed check lets the cells after it run, and fails the run in the end, by its name."""
    run.check("one is two", False)
    run.check("one is one", True)
    with pytest.raises(ChecksFailed, match="1 of 2 checks failed: one is two"):
        run.finish()
    assert shown[-1].data["application/vnd.opskit.run+json"]["outcome"] == "failed"


@pytest.mark.parametrize("looked", [False, True])
def test_a_run_without_a_passed_check_fails(run: Run, looked: bool) -> None:
    """Nothing looked at, or nothing that could be looked at, is no pass."""
    if looked:
        run.not_run("it is sunny", "no window")
    with pytest.raises(ChecksFailed):
        run.finish()


def test_a_step_that_raised_fails_the_run(run: Run, shown: list[Any]) -> None:
    """In JupyterLab people may go on after an exception: the run has failed all the same."""
    run.check("one is one", True)
    with pytest.raises(ZeroDivisionError), run.step("Divide"):
        1 / 0  # noqa: B018
    assert "failed" in shown[-1].text
    with pytest.raises(ChecksFailed, match="'Divide' ended with ZeroDivisionError"):
        run.finish()


def test_a_required_finding_stops_the_run(run: Run) -> None:
    """A precondition that does not hold ends the run at its cell, with what to do about it."""
    well = Finding(name="server", passed=True, message="it answers")
    bad = Finding(name="space", passed=False, message="1 B is free", hint="Buy a disk.")
    with pytest.raises(ChecksFailed, match="space"):
        run.require([well, bad])
    assert [check.result for check in run.checks] == [CheckResult.PASSED, CheckResult.FAILED]
    assert run.checks[1].detail == "1 B is free. Buy a disk."


@pytest.mark.parametrize("how", ["release", "finish", "raise"])
def test_what_is_held_is_let_go(run: Run, how: str) -> None:
    """A server that spans cells is stopped, whatever ends the run; the last held goes first."""
    log: list[str] = []

    @contextmanager
    def resource(name: str) -> Iterator[str]:
        yield name
        log.append(name)

    assert run.hold(resource("directory")) == "directory"
    run.hold(resource("server"))
    run.check("one is one", True)
    if how == "release":
        run.release()
    elif how == "finish":
        run.finish()
    else:
        with pytest.raises(RuntimeError), run.step("Break"):
            raise RuntimeError
    assert log == ["server", "directory"]


def test_a_chart_tells_the_steps_in_words(run: Run) -> None:
    """Who does not see the chart reads it."""
    with run.step("Think $twice$"):
        pass
    assert "Think $twice$ 0.0 s" in run.chart().text
    assert run.chart().svg.startswith("<?xml")


def test_opskit_cluster_can_be_called_again_and_again(namespace: dict[str, Any]) -> None:
    """The function and the module that holds it share a name, and neither hides the other."""
    assert opskit.cluster("main").name == opskit.cluster("main").name == "main"
