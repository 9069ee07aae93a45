"""The index of the reports, made when somebody asks for it: the lost are filed first, and everything is read again."""

import socket
from contextlib import suppress
from pathlib import Path

from opskit.reports.index import PAGE, update_index
from opskit.reports.report import Report
from opskit.runbooks._filing import lost_runs
from opskit.runbooks._outcome import Interruption
from opskit.runbooks._record import Outcome
from opskit.runbooks._report import file_report


def make_index(reports: Path) -> tuple[Path, list[Report]]:
    """File the runs of this host that were lost, and make the index of the directory anew; the page, and what it shows.

    Raises
    ------
    StoreError
        The directory cannot be written to.

    Effects
    -------
    Reads every report below `reports` and compares it with its record.
    """
    lost = Interruption(outcome=Outcome.DIED, reason="every process of the run was lost")
    for desk in lost_runs(reports, socket.gethostname()):
        with suppress(Exception):  # a strange trace must not keep the others from being seen
            file_report(desk, lost)
    return reports / PAGE, update_index(reports, afresh=True)
