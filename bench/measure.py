"""What a command costs: wall time, processor time, memory. Knows no contest."""

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from bench.watch import Watch, worked_seconds
from opskit.postgres.account import Account


class CommandFailed(Exception):
    """A command of a contest ended with an error, which the message quotes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one run took: `seconds` on the wall, of the processor, and its processes' memory in bytes.

    Processor time is that of the command and of what it started; what a server worked meanwhile, and the memory of
    the process that served, stand beside it, where a server was watched. `stored_bytes`: what a backup added.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    server_cpu_seconds: float | None = None
    server_peak_bytes: int | None = None
    stored_bytes: int | None = None


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
    command: Sequence[str],
    directory: Path,
    account: Account | None = None,
    server_pid: int | None = None,
) -> tuple[Cost, str]:
    """Run a command to its end; what it cost, and what it wrote to its output. A server is watched meanwhile.

    Raises
    ------
    CommandFailed
        Its exit code is not 0.
    """
    with TemporaryFile() as output, TemporaryFile() as errors:
        worked = worked_seconds(server_pid) if server_pid else 0.0
        began = time.monotonic()
        process = start(command, directory, account, output, errors)
        try:
            with Watch(process.pid, server_pid) as watch:
                _, status, usage = os.wait4(process.pid, 0)
                seconds = time.monotonic() - began
        except BaseException:
            process.kill()
            process.wait()
            raise
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
            # of one that was over at once it is at least what this process had (getrusage(2))
            peak_bytes=watch.tree_bytes or usage.ru_maxrss * 1024,
            server_cpu_seconds=worked_seconds(server_pid) - worked if server_pid else None,
            server_peak_bytes=watch.server_bytes,
        ),
        said,
    )


def shell(
    script: str, directory: Path, account: Account | None = None, server_pid: int | None = None
) -> Cost:
    """Run a line of shell, of which every part has to succeed; errors as `run`."""
    return run(["bash", "-c", f"set -eo pipefail; {script}"], directory, account, server_pid)[0]
