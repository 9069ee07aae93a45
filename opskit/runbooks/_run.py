"""Running a runbook: the order is checked, a process of its own carries it out, the result is handed back."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import opskit
from opskit.config import Settings, jupyter_user
from opskit.errors import ErrorKind, InputError, OpskitError, error_from_dict
from opskit.model.shown import Shown
from opskit.reports.drawn_card import Tone, draw_card
from opskit.reports.format import format_duration
from opskit.reports.view import time_and_local
from opskit.runbooks._masters import Runbook, find_runbook
from opskit.runbooks._parameters import Value, check_parameters
from opskit.runbooks._record import FORMAT, Check, Outcome, Step, actor, summary, timestamp
from opskit.runbooks._secrets import run_scrubber


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult(Shown):
    """How a run of a runbook ended, and where its report lies.

    `reason` is empty when it passed. `html` is `None` when the page could not be rendered; the notebook is always
    there.
    """

    runbook: str
    cluster: str
    outcome: Outcome
    reason: str
    parameters: Mapping[str, Value]
    started_at: datetime
    ended_at: datetime
    steps: tuple[Step, ...]
    checks: tuple[Check, ...]
    notebook: Path
    html: Path | None

    def __repr__(self) -> str:
        ended = f"{self.outcome}: {self.reason}" if self.reason else str(self.outcome)
        return (
            f"<opskit run of {self.runbook} on {self.cluster!r}: {ended}; {str(self.notebook)!r}>"
        )

    def _repr_html_(self) -> str:
        took = self.ended_at - self.started_at
        return draw_card(
            f"{self.runbook} on {self.cluster}: {self.outcome}",
            {
                "Because": self.reason,
                "Checks": summary(list(self.checks)),
                "Started": time_and_local(self.started_at),
                "Took": format_duration(took),
                "Notebook": str(self.notebook),
                "Page": str(self.html or ""),
            },
            tone=Tone.GOOD if self.passed else Tone.BAD,
        )

    @property
    def passed(self) -> bool:
        """Whether the runbook ended by itself and every check passed."""
        return self.outcome is Outcome.PASSED

    @property
    def exit_code(self) -> int:
        """What a command that ran it exits with."""
        return 0 if self.passed else 1

    def as_dict(self) -> dict[str, Any]:
        """The result as plain data."""
        return {
            "runbook": self.runbook,
            "cluster": self.cluster,
            "outcome": str(self.outcome),
            "reason": self.reason,
            "parameters": dict(self.parameters),
            "started_at": timestamp(self.started_at),
            "ended_at": timestamp(self.ended_at),
            "steps": [step.as_dict() for step in self.steps],
            "checks": [check.as_dict() for check in self.checks],
            "notebook": str(self.notebook),
            "html": self.html and str(self.html),
        }


def run_runbook(
    settings: Settings,
    name: str,
    cluster: str,
    parameters: Mapping[str, Value] | None = None,
    *,
    timeout: timedelta | None = None,
    directory: Path | None = None,
) -> RunResult:
    """Run the runbook `name` on `cluster`, and file its report.

    A run that fails is a result, not an error. Ctrl-C, the end of this process and the time limit abort the run, and
    the report says so.

    Parameters
    ----------
    parameters
        Texts are read as if typed on a command line; other values must be of the declared types. Those left out keep
        the default of the master.
    timeout
        After this long the run is aborted; `None` sets no limit.
    directory
        Where the master is; by default among those that come with opskit.

    Raises
    ------
    InputError
        A parameter is not declared by the master, missing, not of the declared type, not allowed, or a secret; the
        settings come from no file. Nothing was done.
    NotFoundError
        There is no such runbook, or no such cluster in the settings. Nothing was done.
    StoreError
        The report cannot be written.

    Effects
    -------
    Those of the runbook; writes the report below ``settings.reports_directory``. No process is left.
    """
    master = find_runbook(name, directory)
    settings.cluster(cluster)
    if settings.file is None:
        raise InputError(
            "a runbook needs a configuration file, these settings were made in a program",
            hint="Write them to an opskit.toml: the notebook reads it in a process of its own.",
        )
    return _carried_out(_order(settings, master, cluster, parameters or {}, timeout))


def _order(
    settings: Settings,
    master: Runbook,
    cluster: str,
    parameters: Mapping[str, Value],
    timeout: timedelta | None,
) -> dict[str, Any]:
    given = {"cluster": cluster, **parameters}
    values = check_parameters(master.parameters, given, run_scrubber(), texts=True)
    if values["cluster"] != cluster:
        raise InputError(
            f"the parameter 'cluster' is {values['cluster']!r}, but the runbook is run on {cluster!r}",
            hint="Leave the parameter out; the cluster is named once.",
        )
    return {
        "format": FORMAT,
        "runbook": master.name,
        "master": str(master.path.absolute()),
        "cluster": cluster,
        "parameters": values,
        "configuration": str(settings.file),
        "reports": str(settings.reports_directory.absolute()),
        "timeout_seconds": timeout and timeout.total_seconds(),
        "started_at": timestamp(datetime.now(UTC)),
        "host": socket.gethostname(),
        "actor": actor(),
        "jupyter_user": jupyter_user(),
        "opskit_version": opskit.__version__,
    }


def _carried_out(order: dict[str, Any]) -> RunResult:
    supervisor = subprocess.Popen(
        [sys.executable, "-P", "-m", "opskit.runbooks._supervisor"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with supervisor:
        assert supervisor.stdin is not None and supervisor.stdout is not None
        try:
            supervisor.stdin.write(json.dumps(order).encode() + b"\n")
            supervisor.stdin.flush()
            answer = supervisor.stdout.read()
        except BrokenPipeError:
            answer = b""
        except BaseException:
            # Ctrl-C: the supervisor ends the run in order and files it before we go on.
            os.kill(supervisor.pid, signal.SIGTERM)
            supervisor.stdout.read()
            raise
    if not answer:
        raise OpskitError(
            f"the process that supervised the runbook ended with exit code {supervisor.returncode}",
            ErrorKind.OPERATION_DIED,
            "Its report is filed when the next runbook runs.",
        )
    return _result(json.loads(answer))


def _result(answer: Mapping[str, Any]) -> RunResult:
    if "error" in answer:
        raise error_from_dict(answer["error"])
    data = answer["result"]
    return RunResult(
        runbook=data["runbook"],
        cluster=data["cluster"],
        outcome=Outcome(data["outcome"]),
        reason=data["reason"],
        parameters=data["parameters"],
        started_at=datetime.fromisoformat(data["started_at"]),
        ended_at=datetime.fromisoformat(data["ended_at"]),
        steps=tuple(Step.from_dict(step) for step in data["steps"]),
        checks=tuple(Check.from_dict(check) for check in data["checks"]),
        notebook=Path(data["notebook"]),
        html=data["html"] and Path(data["html"]),
    )
