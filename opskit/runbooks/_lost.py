"""Runs that ended and were not filed: because every process was lost, or because there was no room for a report.

How a run ended is noted in the lock of its desk before its report is filed. The note has its room from the beginning,
so it can be written on a disk that the run itself has filled.
"""

import json
import os
from contextlib import suppress
from pathlib import Path

from opskit.runbooks._filing import Desk, lost_runs
from opskit.runbooks._outcome import Interruption
from opskit.runbooks._record import Outcome
from opskit.runbooks._report import file_report

ROOM = 2048
LOST = Interruption(outcome=Outcome.DIED, reason="every process of the run was lost")


def make_room(desk: Desk) -> None:
    """Take the room for the note."""
    os.pwrite(desk.lock, b" " * ROOM, 0)


def note_end(desk: Desk, interruption: Interruption | None) -> None:
    """Note how the run ended, for whoever files it should this process not come to it."""
    data = interruption and {"outcome": interruption.outcome, "reason": interruption.reason}
    text = json.dumps({"interruption": data})
    if len(text) <= ROOM:
        os.pwrite(desk.lock, text.encode().ljust(ROOM), 0)


def noted_end(desk: Desk) -> Interruption | None:
    """How the run ended, as far as anybody noted it: `None` when its notebook came to its end."""
    try:
        data = json.loads(os.pread(desk.lock, ROOM, 0))["interruption"]
    except ValueError:
        return LOST
    return data and Interruption(outcome=Outcome(data["outcome"]), reason=data["reason"])


def file_lost(reports: Path, host: str) -> None:
    """File the runs of this host that nobody answers for any more."""
    for desk in lost_runs(reports, host):
        with suppress(Exception):  # a strange trace must not keep the others from being seen
            file_report(desk, noted_end(desk))
