"""A cluster's WAL archive: filled, looked at, and what it makes recoverable."""

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from opskit.cluster._opened import OpenedCluster
from opskit.errors import Cancelled
from opskit.model.backup import BaseBackup
from opskit.model.operation import OperationKind
from opskit.operations.monitor import Monitor

if TYPE_CHECKING:
    import pandas as pd

    from opskit.operations.wal_status import WalStatus


class Wal(OpenedCluster):
    """The WAL archive of a cluster."""

    def wal(self) -> "pd.DataFrame":
        """What the WAL archive holds.

        Returns
        -------
        DataFrame
            See `opskit.reports.tables.wal_table`.
        """
        from opskit.operations.wal_gaps import survey_timelines
        from opskit.reports.tables import wal_table

        return wal_table(survey_timelines(self.repository.known_wal(self.name)))

    def wal_status(self) -> "WalStatus":
        """How the WAL archive stands; see `opskit.operations.wal_status.wal_status`."""
        from opskit.operations.wal_status import wal_status  # loads psycopg

        return wal_status(self.configuration, self.repository)

    def stream_wal(
        self,
        *,
        partial_seconds: float | None = None,
        after_gap: bool = False,
        monitor: Monitor | None = None,
        operation: str | None = None,
    ) -> None:
        """Stream WAL into the archive until the monitor, or somebody by the catalog, asks for the end.

        Errors and effects as `opskit.operations.wal_stream.stream_wal`; an end that was asked for is none.
        """
        from opskit.operations.wal_stream import stream_wal  # loads psycopg

        seconds = partial_seconds or self.configuration.wal_partial_seconds
        parameters = {"partial_seconds": f"{seconds:g}", "after_gap": str(after_gap).lower()}
        with (
            self._recorded(OperationKind.WAL_STREAM, parameters, monitor, operation) as recorder,
            suppress(Cancelled),
        ):
            stream_wal(
                self.configuration,
                self.repository,
                recorder,
                partial_seconds=seconds,
                after_gap=after_gap,
            )

    def recoverable(self, backups: Sequence[BaseBackup] | None = None) -> "pd.DataFrame":
        """What can be restored: from each backup on, along each timeline that it leads to, without a gap.

        Parameters
        ----------
        backups
            Those to tell of, newest first; by default all, which have to be read then.

        Returns
        -------
        DataFrame
            See `opskit.reports.recoverable.recoverable_table`; the newest backup first, then the newest timeline.

        Raises
        ------
        NotFoundError
            This machine has no PostgreSQL programs of the cluster's major version, which read the archive's ends.
        """
        from opskit.operations.recoverable import recoverable_intervals
        from opskit.reports.recoverable import recoverable_table

        return recoverable_table(
            recoverable_intervals(self.repository, self.name, self.settings.postgres, backups)
        )
