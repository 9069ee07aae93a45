"""Commands that run until they are told to end: what they cost until something has happened."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from bench.measure import CommandFailed, Cost, start
from bench.place import Place
from opskit.postgres.account import Account

_POLL_SECONDS = 0.01
_LONGEST_SECONDS = 900.0


@dataclass(slots=True)
class Background:
    """A command that runs; `cost` is known when it has been ended."""

    name: str
    process: "subprocess.Popen[bytes]"
    began: float
    cost: Cost | None = None

    def wait(self, happened: Callable[[], bool]) -> float:
        """Wait until something has happened; the seconds since the command was started.

        Raises
        ------
        CommandFailed
            The command ended before, or it takes too long.
        """
        while not happened():
            seconds = time.monotonic() - self.began
            if self.process.poll() is not None or seconds > _LONGEST_SECONDS:
                raise CommandFailed(f"{self.name} did not get there in {seconds:.0f} s")
            time.sleep(_POLL_SECONDS)
        return time.monotonic() - self.began

    def ended(self) -> Cost:
        """What it cost, from its start to its end."""
        assert self.cost is not None, "it runs still"
        return self.cost


@contextmanager
def background(
    command: list[str], directory: Path, account: Account | None = None
) -> Iterator[Background]:
    """A command while it runs; SIGTERM ends it."""
    with TemporaryFile() as said:
        began = time.monotonic()
        process = start(command, directory, account, said, said)
        running = Background(Path(command[0]).name, process, began)
        try:
            yield running
        except CommandFailed as error:
            said.seek(0)
            raise CommandFailed(f"{error}: {said.read().decode(errors='replace')[-500:]}") from None
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                running.cost = Cost(
                    seconds=time.monotonic() - began,
                    cpu_seconds=usage.ru_utime + usage.ru_stime,
                    peak_bytes=usage.ru_maxrss * 1024,
                )


def opskit_command(place: Place, *arguments: str) -> list[str]:
    """The command, as `Place.opskit` runs it; from the directory `PROJECT`."""
    return [sys.executable, "-m", "opskit", "--config", str(place.configuration), *arguments]


def machine_seconds() -> float:
    """What all processors have worked since the machine was started; on a quiet one that is the contest's."""
    words = Path("/proc/stat").read_text(encoding="ascii").split(maxsplit=9)[1:8]
    user, nice, system, _, _, interrupts, soft = (int(word) for word in words)
    return (user + nice + system + interrupts + soft) / os.sysconf("SC_CLK_TCK")
