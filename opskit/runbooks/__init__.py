"""Notebooks that do the work, and whose executed copies prove it.

The nouns: a *runbook* is a master notebook with parameters, never run in place; a *run* is one execution of it, made of
*steps* and *checks*; its *outcome* is passed, failed, aborted or died; its *report* is the executed copy with a page of
HTML beside it.

Names are loaded when they are first used: a run has several processes, and none waits for what it does not need.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opskit.runbooks._copy import open_as_notebook as open_as_notebook
    from opskit.runbooks._index import make_index as make_index
    from opskit.runbooks._masters import Runbook as Runbook
    from opskit.runbooks._masters import find_runbook as find_runbook
    from opskit.runbooks._masters import list_runbooks as list_runbooks
    from opskit.runbooks._parameters import Parameter as Parameter
    from opskit.runbooks._record import Check as Check
    from opskit.runbooks._record import CheckResult as CheckResult
    from opskit.runbooks._record import Outcome as Outcome
    from opskit.runbooks._record import Step as Step
    from opskit.runbooks._run import RunResult as RunResult
    from opskit.runbooks._run import run_runbook as run_runbook
    from opskit.runbooks.contract import ChecksFailed as ChecksFailed
    from opskit.runbooks.contract import Run as Run
    from opskit.runbooks.contract import runbook as runbook

_PLACES = {
    "_copy": ("open_as_notebook",),
    "_index": ("make_index",),
    "_masters": ("Runbook", "find_runbook", "list_runbooks"),
    "_parameters": ("Parameter",),
    "_record": ("Check", "CheckResult", "Outcome", "Step"),
    "_run": ("RunResult", "run_runbook"),
    "contract": ("ChecksFailed", "Run", "runbook"),
}
_WHERE = {name: place for place, names in _PLACES.items() for name in names}

__all__ = [*_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'opskit.runbooks' has no attribute {name!r}")
    return getattr(import_module(f"opskit.runbooks.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
