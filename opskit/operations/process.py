"""Operations in processes of their own: started, watched through the catalog, cancelled.

The child is the ``opskit`` command itself; it writes the row, under the id that it is given. Knows how to start one
and how to tell how it ended; does not know what it does.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from opskit.catalog import Catalog
from opskit.config import Settings
from opskit.errors import (
    Cancelled,
    ErrorKind,
    InputError,
    NotFoundError,
    OpskitError,
    StoreError,
    error_from_dict,
    error_of_exit,
)
from opskit.model.operation import Operation, OperationKind, OperationStatus, Progress
from opskit.model.shown import Shown

_DEATH_CONFIRMED_SECONDS = 3.0
_OUTPUT_BYTES = 64 * 1024
_MESSAGE = re.compile(r"^opskit: (.*)$", re.MULTILINE)
_HINT = re.compile(r"^HINT: (.*)$", re.MULTILINE)


def start_process(
    settings: Settings,
    catalog: Catalog,
    arguments: Sequence[str],
    *,
    kind: OperationKind,
    cluster: str,
    parameters: Mapping[str, str],
    detached: bool,
) -> "OperationHandle":
    """Start ``opskit <arguments>`` as an operation, and return at once.

    Parameters
    ----------
    kind, cluster, parameters
        What the row will say; shown until the child has written it.
    detached
        Whether it lives on when this process and its terminal or kernel end.

    Raises
    ------
    InputError
        The settings were made in a program, so that no file can be handed on.
    """
    if settings.file is None:
        raise InputError(
            "settings that were made in a program cannot be handed on to another process",
            hint="Write them to an opskit.toml, or run the operation in this process.",
        )
    operation_id = uuid.uuid4().hex
    command = [sys.executable, "-m", "opskit", "--config", str(settings.file)]
    child = _Child([*command, *arguments, "--operation", operation_id], detached)
    now = datetime.now(UTC)
    expected = Operation(
        id=operation_id,
        kind=kind,
        cluster=cluster,
        status=OperationStatus.RUNNING,
        host=os.uname().nodename,
        pid=child.pid,
        actor="",
        parameters=dict(parameters),
        started_at=now,
        heartbeat_at=now,
        progress=Progress(phase="starting"),
    )
    return OperationHandle(catalog, operation_id, child=child, expected=expected)


class OperationHandle(Shown):
    """An operation of the catalog, to look at, to wait for and to cancel; it may run in any process on any host."""

    def __init__(
        self,
        catalog: Catalog,
        id: str,  # noqa: A002  the model's own name
        *,
        child: "_Child | None" = None,
        expected: Operation | None = None,
    ) -> None:
        self.id = id
        self._catalog = catalog
        self._child = child
        self._expected = expected
        self._died_at: float | None = None

    def __repr__(self) -> str:
        try:
            return repr(self.refresh())
        except OpskitError as error:
            return f"<opskit operation {self.id[:8]}: {error.message}>"

    def refresh(self) -> Operation:
        """The operation as it stands now.

        Raises
        ------
        NotFoundError
            There is no operation with this `id`.
        """
        ended = self._child is None or self._child.exit_code is not None
        try:
            return self._catalog.get(self.id)
        except NotFoundError:
            if self._child is None or self._expected is None:
                raise
            if (
                not ended
            ):  # looked at before the catalog, so that a row written in between is not missed
                return self._expected
            return self._ended_early(self._child, self._expected)

    @property
    def status(self) -> OperationStatus:
        """How the operation stands now."""
        return self.refresh().status

    @property
    def progress(self) -> Progress:
        """How far the operation has come by now."""
        return self.refresh().progress

    def cancel(self) -> None:
        """Ask for the end, by the catalog and, where the process is a child of this one, by SIGTERM; do not wait."""
        with contextlib.suppress(NotFoundError):
            self._catalog.request_cancel(self.id)
        if self._child is not None:
            self._child.terminate()

    def wait(
        self,
        timeout: float | None = None,
        poll: float = 0.2,
        watch: Callable[[Progress], None] | None = None,
    ) -> Operation:
        """Wait for the end of the operation.

        Parameters
        ----------
        timeout, poll
            In seconds: when to give up, and how often to look.
        watch
            Called with the progress after every look.

        Returns
        -------
        Operation
            Complete; or, when `timeout` ran out, as it stands then.

        Raises
        ------
        OpskitError
            What the operation itself raised; `Cancelled` when it was cancelled; ``operation died`` when its process
            ended without a word.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            operation = self._look()
            if operation is not None and watch is not None:
                watch(operation.progress)
            if operation is not None and self._has_ended(operation):
                break
            left = poll if deadline is None else min(poll, deadline - time.monotonic())
            if left <= 0:
                return operation or self.refresh()
            time.sleep(left)
        if operation.status is OperationStatus.COMPLETE:
            return operation
        raise self._error(operation)

    def _look(self) -> Operation | None:
        """As `refresh`; `None` while the catalog is out of reach, and a child of ours goes on without it."""
        try:
            return self.refresh()
        except StoreError as error:
            if error.permanent or self._child is None or self._child.exit_code is not None:
                raise
            return None

    def _has_ended(self, operation: Operation) -> bool:
        """Whether it has; a heartbeat that is old for a moment (a clock was set, a laptop slept) is no death."""
        if operation.status is not OperationStatus.DIED:
            self._died_at = None
            return operation.status is not OperationStatus.RUNNING
        if self._child is not None:
            return self._child.exit_code is not None
        self._died_at = self._died_at or time.monotonic()
        return time.monotonic() - self._died_at > _DEATH_CONFIRMED_SECONDS

    def _error(self, operation: Operation) -> OpskitError:
        if operation.error is not None:
            return error_from_dict(operation.error)
        if operation.status is OperationStatus.CANCELLED:
            return Cancelled(f"the {operation.kind} was cancelled")
        last = self._child.last_words() if self._child is not None else ""
        return OpskitError(
            f"the {operation.kind} died: its process {operation.pid} on {operation.host!r} ended without a word",
            ErrorKind.OPERATION_DIED,
            f"Its last output was {last!r}."
            if last
            else "Start it again; what it left half-made is never listed.",
        )

    def _ended_early(self, child: "_Child", expected: Operation) -> Operation:
        """What became of a child that ended before it wrote its row."""
        error = child.error()
        cancelled = isinstance(error, Cancelled)
        return replace(
            expected,
            status=OperationStatus.CANCELLED if cancelled else OperationStatus.FAILED,
            ended_at=datetime.now(UTC),
            error=error.as_dict(),
        )


class _Child:
    """A process that is reaped when it ends, whatever becomes of the handle, and what it printed."""

    def __init__(self, command: Sequence[str], detached: bool) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  closed by the reaper
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                start_new_session=detached,
            )
        except BaseException:
            self._output.close()
            raise
        self.pid = self._process.pid
        self.exit_code: int | None = None
        self._told = ""
        threading.Thread(target=self._reap, name="opskit reaper", daemon=True).start()

    def _reap(self) -> None:
        exit_code = self._process.wait()
        with self._output as output:
            output.seek(0, os.SEEK_END)
            output.seek(max(0, output.tell() - _OUTPUT_BYTES))
            self._told = output.read().decode(errors="replace")
        self.exit_code = exit_code

    def terminate(self) -> None:
        self._process.terminate()

    def last_words(self) -> str:
        return self._told.strip().rpartition("\n")[2]

    def error(self) -> OpskitError:
        """The error that the child printed, as the class that its exit code tells."""
        if self.exit_code in (-signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGTERM):
            return Cancelled("the operation was cancelled")
        messages, hints = _MESSAGE.findall(self._told), _HINT.findall(self._told)
        if not messages:
            return OpskitError(
                f"the operation's process ended with exit code {self.exit_code} before it began",
                ErrorKind.OPERATION_DIED,
                f"Its last output was {self.last_words()!r}.",
            )
        return error_of_exit(self.exit_code or 0, messages[-1], hints[-1] if hints else "")
