"""A cluster's chains: increments made full backups where they lie."""

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from opskit.cluster._opened import OpenedCluster
from opskit.errors import ConflictError, ErrorKind, StoreError
from opskit.model.audit import REPLACED
from opskit.model.backup import BaseBackup
from opskit.model.operation import Operation, OperationKind, OperationStatus
from opskit.operations.monitor import Monitor

if TYPE_CHECKING:
    from opskit.operations.consolidate import ConsolidatePlan
    from opskit.operations.process import OperationHandle
    from opskit.operations.recorder import Recorder

_log = logging.getLogger(__name__)

_READING = (
    OperationKind.RESTORE,
    OperationKind.DOWNLOAD,
    OperationKind.BACKUP,
    OperationKind.CONSOLIDATE,
)


class Consolidated(OpenedCluster):
    """What of a cluster's backups is made full."""

    def plan_consolidate(self, backup: str) -> "ConsolidatePlan":
        """What `consolidate` would do; errors as `opskit.operations.consolidate.plan_consolidate`.

        Parameters
        ----------
        backup
            Its name, or ``latest``.
        """
        from opskit.operations.consolidate import plan_consolidate  # loads what joins chains

        return plan_consolidate(self.repository, self.name, backup)

    def consolidate(
        self,
        backup: str,
        *,
        monitor: Monitor | None = None,
        operation: str | None = None,
    ) -> BaseBackup:
        """Make an increment a full backup, in the repository; the server is not asked. A full one is left as it is.

        Errors and effects as `plan_consolidate` and `opskit.operations.consolidate.execute_consolidate`. Repeatable:
        one that was cut off changes nothing, and the next one begins anew.

        Raises
        ------
        ConflictError
            Another consolidation of it is running.
        """
        from opskit.operations.consolidate import execute_consolidate

        plan = self.plan_consolidate(backup)
        parameters = {"backup": plan.backup.name}
        with self._recorded(
            OperationKind.CONSOLIDATE, parameters, monitor, operation, plan.backup
        ) as recorder:
            own = recorder.operation_id
            if own:
                self._refuse_second(plan.backup.name, own)
            done = execute_consolidate(
                plan,
                self.repository,
                datetime.now(UTC),
                recorder,
                is_read=lambda: self._is_read(own),
                replacing=lambda *digests: self._vouch(recorder, digests),
            )
            recorder.result = {
                **(recorder.result or self._vouched(done)),
                "stored_bytes": done.stored_bytes,
                "was_full": plan.is_empty,
            }
            return done

    def start_consolidate(self, backup: str, *, detached: bool = False) -> "OperationHandle":
        """Consolidate in a process of its own; see `consolidate` and `start_backup`."""
        parameters = {"backup": backup}
        arguments = ["consolidate", self.name, backup]
        return self._started(OperationKind.CONSOLIDATE, arguments, parameters, detached)

    def _running(self, *kinds: OperationKind) -> list[Operation]:
        return [
            o
            for o in self.catalog.operations(cluster=self.name)
            if o.status is OperationStatus.RUNNING and o.kind in kinds
        ]

    def _refuse_second(self, backup: str, own: str) -> None:
        """Of two that began at once, the first goes on."""
        same = [
            o
            for o in self._running(OperationKind.CONSOLIDATE)
            if o.parameters.get("backup") == backup
        ]
        first = min(same, key=lambda o: (o.started_at, o.id), default=None)
        if first is not None and first.id != own:
            raise ConflictError(
                f"backup {backup!r} is being consolidated by {first.actor} on {first.host}",
                ErrorKind.BACKUP_RUNNING,
                f"Wait until operation {first.id[:8]} has ended, or cancel it.",
            )

    def _vouched(self, backup: BaseBackup) -> dict[str, str]:
        """As `_vouch`, of one that was consolidated before, should whoever did it have been killed."""
        if backup.consolidated is None:
            return {}
        now = self.repository.record_sha256(backup)
        return dict(zip(REPLACED, (backup.consolidated.record_sha256, now), strict=True))

    def _is_read(self, own: str) -> bool:
        """Whether anything else runs that may read the backup, if only as what another one is based on."""
        try:
            return any(o.id != own for o in self._running(*_READING))
        except StoreError as error:
            _log.warning("what the backup was before stays for a day: %s", error)
            return True

    def _vouch(self, recorder: "Recorder", digests: tuple[str, ...]) -> None:
        """Have the audit log tell which record took which one's place, even if this process is killed right after."""
        recorder.result = dict(zip(REPLACED, digests, strict=True))
        try:
            if recorder.operation_id:
                self.catalog.note(recorder.operation_id, recorder.result)
        except StoreError as error:  # what is written at the end has it, too
            _log.warning("the record's digests are not noted yet: %s", error)
