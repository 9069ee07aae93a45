"""The process that answers for one run: it starts the worker, ends what must end, and files the report.

It is started by `run_runbook` with the order on its standard input, and ends the run when that input ends (whoever
ordered it is gone), on a signal, and at the time limit. Whatever happens to the worker, its kernel and what they
started, the report is filed and says so, and no process is left.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from opskit.errors import OpskitError
from opskit.reports.format import format_duration
from opskit.runbooks import _worker
from opskit.runbooks._filing import LOG, WORK, Desk, not_writable, reserve
from opskit.runbooks._imports import lighten
from opskit.runbooks._lost import file_lost, make_room, note_end
from opskit.runbooks._outcome import Interruption
from opskit.runbooks._processes import become_subreaper, end_descendants, reap
from opskit.runbooks._record import Outcome
from opskit.runbooks._report import file_report
from opskit.runbooks._scratch import scratch
from opskit.runbooks._secrets import run_scrubber

POLL = 0.1
# An interrupted cell stops servers and cancels operations; then the kernel is shut down.
GRACE = 30.0
LEFT_BEHIND_GRACE = 5.0
LINE = 300


def main() -> int:
    """Do the run that the first line of standard input orders, and write its result to standard output."""
    stopped = _StopSignals()
    lighten()
    order = json.loads(_worker.first_line())
    become_subreaper()
    try:
        answer: dict[str, Any] = {"result": _supervise(order, stopped)}
    except OpskitError as error:
        answer = {"error": error.as_dict()}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


def _supervise(order: dict[str, Any], stopped: "_StopSignals") -> dict[str, Any]:
    reports = Path(order["reports"])
    desk = reserve(reports, order)
    try:
        make_room(desk)
        file_lost(reports, order["host"])
        interruption = _run(order, desk, stopped)
        note_end(desk, interruption)
        return file_report(desk, interruption, datetime.now(UTC))
    except OSError as error:
        raise not_writable(reports, error) from error


class _StopSignals:
    """Remembers the first signal that asked for the end."""

    def __init__(self) -> None:
        self.reason: str | None = None
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._remember)

    def _remember(self, number: int, _frame: Any) -> None:
        self.reason = self.reason or f"{signal.Signals(number).name} asked for the end"


def _run(order: dict[str, Any], desk: Desk, stopped: _StopSignals) -> Interruption | None:
    with scratch() as environment, (desk.work / LOG).open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-P", "-m", _worker.__name__],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=environment | {"OPSKIT_CONFIG": order["configuration"]},
            start_new_session=True,
            pass_fds=(desk.lock,),  # the desk is not free before the worker has ended, too
        )
        assert worker.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            worker.stdin.write(
                json.dumps({**order, "output": str(desk.work / WORK)}).encode() + b"\n"
            )
            worker.stdin.flush()
        threading.Thread(target=_load_ahead, daemon=True).start()
        reason, code = _wait(worker.pid, order.get("timeout_seconds"), stopped)
        left = end_descendants(LEFT_BEHIND_GRACE)
        worker.returncode = code if code is not None else left.get(worker.pid, -signal.SIGKILL)
        with contextlib.suppress(BrokenPipeError):
            worker.stdin.close()
    return interruption(worker.returncode, reason, desk.work / LOG)


def _load_ahead() -> None:
    """Import what the page and the audit log need in the end: seconds, which cost nothing while the worker works."""
    for name in ("nbconvert.exporters", "opskit.catalog"):
        import_module(name)


def _wait(pid: int, timeout: float | None, stopped: _StopSignals) -> tuple[str | None, int | None]:
    """Why the run was stopped, if it was, and the worker's exit code, if it ended in time."""
    limit = None if timeout is None else time.monotonic() + timeout
    reason, patience = None, 0.0
    while True:
        ended = reap()
        if pid in ended:
            return reason, ended[pid]
        if reason is None:
            reason = stopped.reason or _orderer_gone()
            if reason is None and limit is not None and time.monotonic() > limit:
                reason = f"it took longer than {format_duration(timedelta(seconds=timeout or 0))}"
            if reason is not None:
                patience = time.monotonic() + GRACE
                os.kill(pid, signal.SIGTERM)
        elif time.monotonic() > patience:
            return reason, None
        time.sleep(POLL)


def _orderer_gone() -> str | None:
    readable, _, _ = select.select([0], [], [], 0)
    return "the process that ordered the run ended" if readable and not os.read(0, 1024) else None


def interruption(code: int, reason: str | None, log: Path) -> Interruption | None:
    """Why the notebook cannot be trusted to have ended by itself; `None` when it did."""
    if code == _worker.COMPLETE or (code == _worker.RAISED and reason is None):
        return None
    if reason is not None:
        return Interruption(outcome=Outcome.ABORTED, reason=reason)
    if code == _worker.STOPPED:
        why = "the process that ran the notebook was asked to end"
        return Interruption(outcome=Outcome.ABORTED, reason=why)
    if code == _worker.KERNEL_DIED:
        why = "the kernel died"
    elif code == _worker.NO_ROOM:
        why = "there was no room for the executed notebook"
    elif code < 0:
        why = f"the process that ran the notebook was ended by {signal.Signals(-code).name}"
    else:
        last = log.read_text("utf-8", "replace").strip().split("\n")[-1][:LINE]
        last = run_scrubber().text(last)
        why = f"the process that ran the notebook ended with exit code {code}: {last}"
    return Interruption(outcome=Outcome.DIED, reason=why)


if __name__ == "__main__":
    sys.exit(main())
