"""How a run really ended, read from what it left; papermill's own word for it is not trusted.

papermill calls the cell of a killed kernel "completed", and takes ``sys.exit(0)`` for success. Pure functions on a
notebook.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from opskit.runbooks._record import CHECK, FORMAT, RUN, STEP, Check, Outcome, Step, timestamp

ERROR_MARKER = "papermill-error-cell-tag"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a run came to. `reason` is empty when it passed."""

    outcome: Outcome
    reason: str
    steps: tuple[Step, ...]
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interruption:
    """Why a run ended before its notebook did: `ABORTED` or `DIED`, and a clause that says by what."""

    outcome: Outcome
    reason: str


def judge(notebook: Any, interruption: Interruption | None) -> Verdict:
    """The verdict on an executed notebook.

    Parameters
    ----------
    interruption
        `None` when every cell was run, or one of them raised.
    """
    records = [data for cell in _code(notebook) for data in _bundles(cell)]
    steps = tuple(Step.from_dict(data[STEP]) for data in records if STEP in data)
    checks = tuple(Check.from_dict(c) for data in records if CHECK in data for c in data[CHECK])
    outcome, reason = _outcome(notebook, interruption, [d[RUN] for d in records if RUN in d])
    return Verdict(outcome=outcome, reason=reason, steps=steps, checks=checks)


def conclude(
    notebook: Any, order: Mapping[str, Any], interruption: Interruption | None, ended_at: datetime
) -> Verdict:
    """Judge an executed notebook, put right what it says, and its record into its metadata, below ``opskit``.

    Parameters
    ----------
    order
        What was to be run, by whom, since when: ``runbook``, ``cluster``, ``parameters``, ``started_at``, ``host``,
        ``actor``, ``jupyter_user``, ``opskit_version``.
    """
    verdict = judge(notebook, interruption)
    settle(notebook, interruption)
    started_at = datetime.fromisoformat(order["started_at"])
    notebook.metadata["opskit"] = {
        "format": FORMAT,
        "runbook": order["runbook"],
        "cluster": order["cluster"],
        "parameters": order["parameters"],
        "outcome": str(verdict.outcome),
        "reason": verdict.reason,
        "started_at": timestamp(started_at),
        "ended_at": timestamp(ended_at),
        "duration_seconds": round((ended_at - started_at).total_seconds(), 3),
        "host": order["host"],
        "actor": order["actor"],
        "jupyter_user": order.get("jupyter_user"),
        "opskit_version": order["opskit_version"],
        "python_version": platform.python_version(),
        "steps": [step.as_dict() for step in verdict.steps],
        "checks": [check.as_dict() for check in verdict.checks],
    }
    return verdict


def _outcome(
    notebook: Any, interruption: Interruption | None, finished: list[Any]
) -> tuple[Outcome, str]:
    if interruption is not None:
        return interruption.outcome, interruption.reason
    for cell in _code(notebook):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                return Outcome.FAILED, _error_line(output)
    if not finished:
        return Outcome.FAILED, "the notebook ended without run.finish()"
    if finished[-1]["outcome"] != Outcome.PASSED:
        return Outcome.FAILED, finished[-1]["reason"]
    return Outcome.PASSED, ""


def _error_line(output: Any) -> str:
    """``ServerError: it does not answer``; the first line only, and of failed checks only what they say."""
    value = (output.get("evalue") or "").strip().split("\n")[0]
    if output.ename == "ChecksFailed":
        return value
    if output.ename == "SystemExit":
        return f"a cell called sys.exit({value})"
    return f"{output.ename}: {value}" if value else str(output.ename)


def settle(notebook: Any, interruption: Interruption | None) -> None:
    """Take out of an executed notebook what papermill says wrongly, in place.

    The cell that was running when the run was interrupted failed; cells that never started are pending, not completed;
    papermill's banners of red HTML give way to the report's own.
    """
    notebook.cells = [c for c in notebook.cells if ERROR_MARKER not in c.metadata.get("tags", [])]
    states = [cell.metadata.papermill for cell in notebook.cells if "papermill" in cell.metadata]
    started = [state for state in states if state.get("start_time")]
    for state in states:
        if not state.get("start_time"):
            state.update(status="pending", exception=None)
    if interruption is not None and started:
        started[-1].update(status="failed", exception=True)


def _code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _bundles(cell: Any) -> list[Any]:
    return [
        o.data
        for o in cell.get("outputs", [])
        if o.output_type in ("display_data", "execute_result")
    ]
