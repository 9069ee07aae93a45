"""The ``opskit`` command as a process of its own, as people and schedulers run it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from opskit.config import Settings

PROJECT = Path(__file__).parents[2]


def command(settings: Settings, *arguments: str) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "opskit", "--config", str(settings.file), *arguments]


def run_command(
    settings: Settings, *arguments: str, environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run it to its end."""
    return subprocess.run(
        command(settings, *arguments),
        cwd=PROJECT,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def output_of(command: Sequence[str], directory: Path, environment: Mapping[str, str]) -> str:
    """The standard output of any command, which has to succeed."""
    run = subprocess.run(
        command,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, f"{command[-1]}\n{run.stdout}\n{run.stderr}"
    return run.stdout


@contextmanager
def started(
    settings: Settings, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """It while it runs; ended at the end."""
    with subprocess.Popen(
        command(settings, *arguments),
        cwd=PROJECT,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def interrupted(
    settings: Settings,
    *arguments: str,
    after: float,
    by: signal.Signals,
    once: Callable[[], bool] = lambda: True,
) -> int:
    """Send it a signal some seconds after `once` is true, unless it ends before; its exit code."""
    with started(settings, *arguments) as process:
        while not once() and process.poll() is None:
            time.sleep(0.005)
        with suppress(subprocess.TimeoutExpired):
            process.wait(after)  # its outputs are no longer than a pipe
        process.send_signal(by)
        process.communicate(timeout=60)
        return process.returncode
