"""The index of the reports, made when somebody asks for it: the lost are filed first, and everything is read again."""

import socket
from pathlib import Path

from opskit.reports.index import PAGE, update_index
from opskit.reports.report import Report
from opskit.runbooks._lost import file_lost


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
    file_lost(reports, socket.gethostname())
    return reports / PAGE, update_index(reports, afresh=True)
