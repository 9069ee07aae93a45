"""What a runbook and opskit promise each other: ``run = opskit.runbook(globals())`` … ``run.finish()``.

The first code cell, tagged ``parameters``, declares; the second calls `runbook`; steps are ``with run.step("…"):``;
what must hold is a `Run.check`; the last cell is ``run.finish()``, which raises when a check failed. The outcome that
counts is not what this module says at the end but what `opskit.runbooks._outcome` reads from all that was left.
"""

import ast
import atexit
import linecache
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, TypeVar

import opskit
from opskit.config import Settings, load_settings
from opskit.errors import ErrorKind, InputError, OpskitError
from opskit.operations.check import Finding
from opskit.reports.charts import durations_chart
from opskit.reports.drawing import Chart
from opskit.runbooks import _cards
from opskit.runbooks._parameters import (
    Value,
    check_names,
    check_parameters,
    declared_parameters,
)
from opskit.runbooks._record import (
    CHECK,
    FORMAT,
    RUN,
    STEP,
    Check,
    CheckResult,
    Outcome,
    Step,
    actor,
    count,
    summary,
    timestamp,
)
from opskit.runbooks._secrets import run_scrubber

T = TypeVar("T")


class ChecksFailed(OpskitError):
    """At least one check of the runbook failed."""

    default_kind = ErrorKind.CHECK_FAILED

    def _render_traceback_(self) -> list[str]:
        # IPython asks for this: the reader needs the checks above, not the lines of opskit that counted them.
        return [line for line in (f"ChecksFailed: {self.message}", self.hint) if line]


def runbook(namespace: MutableMapping[str, Any]) -> "Run":
    """Begin a run: read the parameters from a notebook's ``globals()`` and check them.

    Raises
    ------
    InputError
        A value is not of the declared type, not allowed or a secret, a parameter was given that is not declared, or
        this is no notebook.
    NotFoundError
        There is no configuration, or the parameter ``cluster`` names no cluster in it.
    """
    sources = _cells(namespace)
    place = next((i for i in reversed(range(len(sources))) if _declares(sources[i])), None)
    if place is None:
        raise InputError(
            "there is no cell of parameters above this one",
            hint="Call opskit.runbook(globals()) in a notebook, below the cell that is tagged 'parameters'.",
        )
    declared = declared_parameters(sources[place])
    check_names(declared, [name for s in sources[place + 1 :] for name in _injected(s)])
    given = {p.name: namespace.get(p.name, p.default) for p in declared}
    values = check_parameters(declared, given, run_scrubber(), texts=False)
    settings = load_settings()
    cluster = settings.cluster(str(values.get("cluster", ""))).name
    return Run(settings=settings, cluster=cluster, parameters=values)


def _cells(namespace: Mapping[str, Any]) -> list[str]:
    """The sources of the cells that ran, in order.

    IPython keeps them as ``In``; not those that are run without history, as nbval does: these it leaves where
    tracebacks look for lines, with no time of modification.
    """
    sources = [str(source) for source in namespace.get("In", [])]
    if any(_declares(source) for source in sources):
        return sources
    kept = [entry for entry in linecache.cache.values() if len(entry) == 4 and entry[1] is None]
    return ["".join(entry[2]) for entry in kept]


def _declares(source: str) -> bool:
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return False
    return bool(body) and all(isinstance(statement, ast.AnnAssign) for statement in body)


def _injected(source: str) -> list[str]:
    """The names that a cell injected by papermill assigns; it begins with its comment ``# Parameters``."""
    if not source.startswith("# Parameters\n"):
        return []
    return [
        target.id
        for statement in ast.parse(source).body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    ]


class Run:
    """One run of a runbook: what it was given, what it did, what it found. Made by `runbook`.

    `parameters` are the values that count, checked; `cluster` is the name of the cluster.
    """

    def __init__(
        self, *, settings: Settings, cluster: str, parameters: Mapping[str, Value]
    ) -> None:
        self.settings, self.cluster = settings, cluster
        self.parameters = MappingProxyType(dict(parameters))
        self.started_at = datetime.now(UTC)
        self._begun = time.monotonic()
        self._steps: list[Step] = []
        self._checks: list[Check] = []
        self._held = ExitStack()
        atexit.register(self._held.close)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that ended, in order."""
        return tuple(self._steps)

    @property
    def checks(self) -> tuple[Check, ...]:
        """The checks that were made, in order."""
        return tuple(self._checks)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what happens inside, and show it. When it raises, what the run holds is let go."""
        started_at, begun = datetime.now(UTC), time.monotonic()
        error = ""
        try:
            yield
        except BaseException as raised:
            error = type(raised).__name__
            self.release()
            raise
        finally:
            duration = timedelta(seconds=time.monotonic() - begun)
            step = Step(name=name, started_at=started_at, duration=duration, error=error)
            self._steps.append(step)
            _show(_cards.step(step, {STEP: step.as_dict()}))

    def check(self, what: str, ok: bool, detail: str = "") -> None:
        """Record and show whether `what` must hold, holds. A failed one makes the run fail at `finish`.

        Parameters
        ----------
        what
            A sentence that is true when all is well.
        detail
            What was found: the numbers, or the reason.
        """
        result = CheckResult.PASSED if ok else CheckResult.FAILED
        self._record([Check(what=what, result=result, detail=detail)])

    def not_run(self, what: str, why: str) -> None:
        """Record and show that `what` could not be looked at. It counts neither as passed nor as failed."""
        self._record([Check(what=what, result=CheckResult.NOT_RUN, detail=why)])

    def require(self, findings: Iterable[Finding]) -> None:
        """Record and show findings as checks, and stop here unless all of them passed.

        Raises
        ------
        ChecksFailed
            One did not.
        """
        found = [
            Check(
                what=finding.name,
                result=CheckResult.PASSED if finding.passed else CheckResult.FAILED,
                detail=finding.message if finding.passed else _with_hint(finding),
            )
            for finding in findings
        ]
        self._record(found)
        self._raise_unless_passed(found)

    def hold(self, resource: AbstractContextManager[T]) -> T:
        """Enter a context that spans cells: until `release`, a step that raises, `finish`, or the kernel's end."""
        return self._held.enter_context(resource)

    def show(self, view: object) -> None:
        """Show something in the middle of a cell."""
        _show(view)

    def release(self) -> None:
        """Let go what the run holds, the last first."""
        self._held.close()

    def chart(self) -> Chart:
        """How long each step took, as bars."""
        return durations_chart([(step.name, step.duration) for step in self._steps])

    def finish(self) -> None:
        """End the run: let go what it holds, and show the outcome to people and programs.

        Raises
        ------
        ChecksFailed
            A check failed, a step raised, or no check was made at all.
        """
        self.release()
        reason = self._reason()
        record = {
            "format": FORMAT,
            "outcome": str(Outcome.FAILED if reason else Outcome.PASSED),
            "reason": reason,
            "cluster": self.cluster,
            "parameters": dict(self.parameters),
            "started_at": timestamp(self.started_at),
            "ended_at": timestamp(datetime.now(UTC)),
            "host": socket.gethostname(),
            "actor": actor(),
            "opskit_version": opskit.__version__,
            "steps": [step.as_dict() for step in self._steps],
            "checks": [check.as_dict() for check in self._checks],
        }
        duration = timedelta(seconds=time.monotonic() - self._begun)
        _show(_cards.outcome(reason, self._checks, self.cluster, duration, {RUN: record}))
        if reason:
            raise ChecksFailed(reason, hint="The checks that failed say what was found.")

    def _reason(self) -> str:
        broken = [step for step in self._steps if step.error]
        if broken:
            return f"the step {broken[0].name!r} ended with {broken[0].error}"
        if count(self._checks, CheckResult.FAILED) or not count(self._checks, CheckResult.PASSED):
            return summary(self._checks)
        return ""

    def _record(self, checks: list[Check]) -> None:
        self._checks += checks
        _show(_cards.checks(checks, {CHECK: [check.as_dict() for check in checks]}))

    def _raise_unless_passed(self, checks: list[Check]) -> None:
        if any(check.result is CheckResult.FAILED for check in checks):
            raise ChecksFailed(
                summary(checks),
                hint="Nothing was done: mend what the checks above name, and run again.",
            )


def _with_hint(finding: Finding) -> str:
    return f"{finding.message}. {finding.hint}" if finding.hint else finding.message


def _show(view: object) -> None:
    from IPython.display import display

    display(view)
