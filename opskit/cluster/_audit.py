"""What the audit log says of a cluster, and whether log and reports are as they were written."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from opskit.cluster._opened import OpenedCluster
from opskit.config import load_settings
from opskit.repository.records import object_sha256
from opskit.store import open_store

if TYPE_CHECKING:
    import pandas as pd

    from opskit.evidence.verify import AuditVerdict


class Audit(OpenedCluster):
    """The audit log of a cluster."""

    def audit(self) -> "pd.DataFrame":
        """What was done with the cluster and by whom, as it was entered when it ended, newest first.

        Nothing is checked here: `verify_audit` does that.

        Returns
        -------
        DataFrame
            See `opskit.reports.tables.audit_table`.
        """
        from opskit.reports.tables import audit_table

        return audit_table(self.catalog.audit_entries(), self.name)


def verify_audit(
    config: Path | str | None = None,
    *,
    keys: Sequence[Path | str] = (),
    head: str | None = None,
) -> "AuditVerdict":
    """Verify the audit log, all reports, and the records of the backups that they vouch for.

    What is found is a result, not an error. See `opskit.evidence.verify.verify_audit`.

    Parameters
    ----------
    config
        As for `cluster`.
    """
    from opskit.evidence.verify import verify_audit

    settings = load_settings(Path(config) if config else None)
    return verify_audit(
        settings,
        keys=[Path(key) for key in keys],
        head=head,
        digest=partial(object_sha256, open_store(settings.repository_url)),
    )
