"""One notebook executed by papermill: parameters checked before, secrets kept out, and an outcome that is true.

papermill's own engine reports the cell of a killed kernel as completed, takes ``sys.exit(0)`` for success, leaves
"running" behind on SIGTERM, and writes files that everybody can read. Here the executed notebook is whole on disk after
every cell, of mode 0600, with its record below ``opskit`` in the metadata at the end, and papermill ends with success
only when the run passed.
"""

import signal
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillException
from papermill.iorw import write_ipynb
from papermill.log import logger

from opskit.config import jupyter_user
from opskit.errors import ErrorKind, InputError, OpskitError
from opskit.model.secrets import Scrubber
from opskit.runbooks._client import Client, Manager, local_path
from opskit.runbooks._masters import parameters_of
from opskit.runbooks._outcome import Interruption, conclude
from opskit.runbooks._output import tidy, write_whole
from opskit.runbooks._parameters import Value, check_parameters
from opskit.runbooks._record import Outcome, actor, timestamp
from opskit.runbooks._scratch import scratch
from opskit.runbooks._secrets import run_scrubber
from opskit.runbooks._stop import Stopped, StopRequest, stop_by_signals
from opskit.version import __version__

# On a busy machine the last outputs of a cell come late; nbclient's 4 seconds made runs fail that had passed.
OUTPUTS_TIMEOUT = 120


class NotPassed(OpskitError, PapermillException):  # type: ignore[misc]
    """A run that ended, but did not pass, and whose notebook holds no error that papermill would raise."""

    default_kind = ErrorKind.CHECK_FAILED


def execute(
    notebook: Any,
    *,
    input_path: str,
    output_path: str | None = None,
    progress_bar: bool | dict[str, Any] = False,
    log_output: bool = False,
    autosave_cell_every: int = 30,
    start_timeout: int = 60,
    execution_timeout: int | None = None,
    stdout_file: Any = None,
    stderr_file: Any = None,
    stop: StopRequest | None = None,
    **_: Any,
) -> Any:
    """Run a notebook that papermill has parametrized; the rest of the arguments are papermill's.

    Parameters
    ----------
    stop
        Who asks for the end, when somebody else answers for this process, its signals and its notebook.

    Returns
    -------
    NotebookNode
        The executed notebook: it passed, or holds an error for which papermill will raise.

    Raises
    ------
    InputError
        A parameter is unknown, missing, of the wrong type, not allowed or a secret. Nothing was done or written.
    NotPassed
        The run did not pass, for another reason than a cell that raised.
    DeadKernelError
        The kernel was lost.
    """
    secrets = run_scrubber()
    order = _order(notebook, input_path, secrets)
    notebook.metadata.pop("opskit", None)
    path = local_path(output_path)
    manager = Manager(
        notebook,
        output_path=output_path,
        progress_bar=progress_bar,
        log_output=log_output,
        autosave_cell_every=autosave_cell_every,
    )
    with ExitStack() as stack:
        environment = None
        if stop is None:
            stop = stack.enter_context(
                stop_by_signals(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
            )
            environment = stack.enter_context(scratch())
        client = Client(
            manager,
            stop,
            secrets,
            answered_for=str(path) if environment and path else "",
            timeout=execution_timeout,
            startup_timeout=start_timeout,
            iopub_timeout=OUTPUTS_TIMEOUT,
            log=logger,
            log_output=log_output,
            stdout_file=stdout_file,
            stderr_file=stderr_file,
        )
        if environment:
            client.connection_directory = environment["JUPYTER_RUNTIME_DIR"]
        error, interruption = _executed(manager, client, environment)
        tidy(notebook, secrets)
        verdict = conclude(notebook, order, interruption, datetime.now(UTC))
        manager.notebook_complete()
    if error is not None and not isinstance(error, CellExecutionError | Stopped):
        raise error
    if verdict.outcome is not Outcome.PASSED and not papermill_raises(notebook):
        if output_path is None:  # papermill would have written it now
            write_ipynb(notebook, notebook.metadata.papermill.get("output_path"))
        raise NotPassed(f"the runbook {order['runbook']!r} {verdict.outcome}: {verdict.reason}")
    return notebook


def _executed(
    manager: Manager, client: Client, environment: Mapping[str, str] | None
) -> tuple[Exception | None, Interruption | None]:
    """Run the cells; what ended them early, and how that reads."""
    error: Exception | None = None
    try:
        manager.notebook_start()
        client.execute(**({"env": dict(environment)} if environment else {}))
        error = client.raised
    except Exception as raised:
        error = raised
    if error is None or (isinstance(error, CellExecutionError) and client.stop.asked is None):
        return error, None
    if client.stop.asked is not None:
        why = f"{client.stop.asked.name} asked for the end"
        return error, Interruption(outcome=Outcome.ABORTED, reason=why)
    if isinstance(error, DeadKernelError):
        return error, Interruption(outcome=Outcome.DIED, reason="the kernel died")
    if isinstance(error, CellTimeoutError):
        why = f"a cell took longer than {client.timeout} s"
        return error, Interruption(outcome=Outcome.ABORTED, reason=why)
    told = client.secrets.text(str(error).strip().split("\n")[0])
    why = f"papermill ended with {type(error).__name__}: {told}"
    return error, Interruption(outcome=Outcome.DIED, reason=why)


def papermill_raises(notebook: Any) -> bool:
    """Whether papermill will raise for an error among the outputs: it takes ``sys.exit(0)`` for none."""
    errors = [o for c in notebook.cells for o in c.get("outputs", []) if o.output_type == "error"]
    return any(not (e.ename == "SystemExit" and e.evalue in ("", "0")) for e in errors)


def settle_lost(path: Path) -> None:
    """Put right what the notebook at `path` says, after the papermill that ran it was lost."""
    notebook = nbformat.read(path, as_version=4)
    if "opskit" not in notebook.metadata:
        lost = Interruption(outcome=Outcome.DIED, reason="papermill was killed")
        order = _order(notebook, notebook.metadata.papermill.input_path, Scrubber())
        order["started_at"] = notebook.metadata.papermill.get("start_time") or order["started_at"]
        conclude(notebook, order, lost, datetime.now(UTC))
        write_whole(path, nbformat.writes(notebook))


def _order(notebook: Any, input_path: str, secrets: Scrubber) -> dict[str, Any]:
    """What is to be run, by whom and since when, once it is known to be no wrong order."""
    name = Path(str(input_path)).stem
    parameters = _checked(notebook, name, secrets)
    return {
        "runbook": name,
        "cluster": parameters["cluster"],
        "parameters": parameters,
        "started_at": timestamp(datetime.now(UTC)),
        "host": socket.gethostname(),
        "actor": actor(),
        "jupyter_user": jupyter_user(),
        "opskit_version": __version__,
    }


def _checked(notebook: Any, name: str, secrets: Scrubber) -> dict[str, Value]:
    declared = parameters_of(notebook.cells, name)
    given = notebook.metadata.papermill.get("parameters", {})
    if not given and any("injected-parameters" in _tags(cell) for cell in notebook.cells):
        raise InputError(
            f"{name!r} is an executed copy, with the parameters of an earlier run",
            hint="Run the master that it was made from.",
        )
    return check_parameters(declared, given, secrets, texts=False)


def _tags(cell: Any) -> list[str]:
    tags: list[str] = cell.metadata.get("tags", [])
    return tags
