"""Notebooks that do the work, and whose executed copies prove it.

The nouns: a *runbook* is a master notebook with parameters, never run in place; a *run* is one execution of it, made of
*steps* and *checks*; its *outcome* is passed, failed, aborted or died; its *report* is the executed copy with a page of
HTML beside it.
"""

from opskit.runbooks._index import make_index
from opskit.runbooks._masters import Runbook, find_runbook, list_runbooks
from opskit.runbooks._parameters import Parameter
from opskit.runbooks._record import Check, CheckResult, Outcome, Step
from opskit.runbooks._run import RunResult, run_runbook
from opskit.runbooks.contract import ChecksFailed, Run, runbook

__all__ = [
    "Check",
    "CheckResult",
    "ChecksFailed",
    "Outcome",
    "Parameter",
    "Run",
    "RunResult",
    "Runbook",
    "Step",
    "find_runbook",
    "list_runbooks",
    "make_index",
    "run_runbook",
    "runbook",
]
