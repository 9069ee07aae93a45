"""What was run on a cluster, and where the reports lie."""

from typing import TYPE_CHECKING

from opskit.cluster._opened import OpenedCluster

if TYPE_CHECKING:
    import pandas as pd


class Reports(OpenedCluster):
    """Reports of runbooks that were run on a cluster."""

    def reports(self) -> "pd.DataFrame":
        """The runs of runbooks, newest first, with those that go on or were lost.

        Files are compared with their record once, and again when their size or time has changed. Whether the records
        themselves are genuine, ``opskit audit verify`` tells.

        Returns
        -------
        DataFrame
            See `opskit.reports.tables.reports_table`.
        """
        from opskit.reports.index import read_reports
        from opskit.reports.tables import reports_table

        directory = self.settings.reports_directory
        return reports_table(read_reports(directory, self.name), directory)
