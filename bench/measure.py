"""What a command costs: wall time, processor time, memory. Knows no contest."""

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from opskit.postgres.account import Account


class CommandFailed(Exception):
    """A command of a contest ended with an error, which the message quotes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one run took: `seconds` on the wall, of the processor, and its largest process's memory in bytes.

    Processor time is that of the command and of what it started; a server that it talks to is not in it.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def start(
    command: Sequence[str],
    directory: Path,
    account: Account | None,
    output: IO[bytes],
    errors: IO[bytes],
) -> "subprocess.Popen[bytes]":
    """Start a command, as an account if one is given."""
    return subprocess.Popen(
        command,
        cwd=directory,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=() if account else None,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
    )


def run(
    command: Sequence[str], directory: Path, account: Account | None = None
) -> tuple[Cost, str]:
    """Run a command to its end; what it cost, and what it wrote to its output.

    Raises
    ------
    CommandFailed
        Its exit code is not 0.
    """
    with TemporaryFile() as output, TemporaryFile() as errors:
        began = time.monotonic()
        process = start(command, directory, account, output, errors)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        said = output.read().decode(errors="replace").strip()
        if process.returncode != 0:
            reason = errors.read().decode(errors="replace").strip() or said
            raise CommandFailed(
                f"{Path(command[0]).name} ended with {process.returncode}: {reason}"
            )
    return (
        Cost(
            seconds=seconds,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            peak_bytes=usage.ru_maxrss * 1024,
        ),
        said,
    )


def shell(script: str, directory: Path, account: Account | None = None) -> Cost:
    """Run a line of shell, of which every part has to succeed; errors as `run`."""
    return run(["bash", "-c", f"set -eo pipefail; {script}"], directory, account)[0]
