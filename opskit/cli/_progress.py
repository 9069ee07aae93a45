"""The monitor of a command: progress on stderr where that is a terminal, and the end that a signal asked for."""

import contextlib
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from opskit.cli._run import Ending
from opskit.errors import Cancelled
from opskit.model.operation import Progress
from opskit.reports.format import format_bytes, format_duration

if TYPE_CHECKING:
    from rich.progress import Progress as Display
    from rich.progress import Task, TaskID


class CommandMonitor:
    """Shows what is reported, and raises `Cancelled` once a signal has come."""

    def __init__(self, ending: Ending, display: "Display | None") -> None:
        self._ending, self._display = ending, display
        self._task: TaskID | None = None

    def report(self, progress: Progress) -> None:
        """Move the bar."""
        if self._display is None:
            return
        if self._task is None:
            self._task = self._display.add_task(progress.phase, total=None)
        expected = progress.bytes_expected
        total = (
            None if expected is None else max(expected, progress.bytes_done)
        )  # it is an estimate
        self._display.update(
            self._task, description=progress.phase, completed=progress.bytes_done, total=total
        )

    def check(self) -> None:
        """Go on, unless SIGINT or SIGTERM has come."""
        if self._ending.asked is not None:
            raise Cancelled("cancelled")


@contextlib.contextmanager
def monitored(ending: Ending) -> Iterator[CommandMonitor]:
    """A monitor for one operation, which a signal ends gently."""
    with ending.gently(), _display() as display:
        yield CommandMonitor(ending, display)


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """While something runs that tells nothing of its progress, and that a signal may interrupt where it stands."""
    with _display() as display:
        if display is not None:
            display.add_task(what, total=None)
        yield


@contextlib.contextmanager
def _display() -> Iterator["Display | None"]:
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, TextColumn
    from rich.progress import Progress as Display
    from rich.text import Text

    class Amounts(ProgressColumn):
        """Bytes, rate and the time that is left, as far as they are known."""

        def render(self, task: "Task") -> Text:
            told = amounts(task.completed, task.total, task.speed, task.time_remaining)
            return Text(told, no_wrap=True)

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(24),
        Amounts(),
    )
    with Display(*columns, console=Console(stderr=True), transient=True) as display:
        yield display


def amounts(
    done: float, total: float | None, speed: float | None, seconds_left: float | None
) -> str:
    """``1.2 GB of 3.0 GB, 310 MB/s, 6.0 s left``; what is not known is left out."""
    if not done:
        return ""
    parts = [format_bytes(done) + (f" of {format_bytes(total)}" if total else "")]
    if speed:
        parts.append(f"{format_bytes(speed)}/s")
    if seconds_left:
        parts.append(f"{format_duration(timedelta(seconds=seconds_left))} left")
    return ", ".join(parts)
