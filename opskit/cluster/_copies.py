"""A cluster's restored copies on this machine: found again, and their servers run by operations of their own."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from opskit.cluster._restores import Restores
from opskit.errors import OpskitError
from opskit.model.operation import OperationKind, OperationStatus
from opskit.model.target import TargetArguments, parse_target, target_arguments
from opskit.operations.monitor import Monitor

if TYPE_CHECKING:
    from opskit.local_copy import CopyServer, LocalCopy
    from opskit.operations.prediction import Prediction
    from opskit.operations.process import OperationHandle
    from opskit.operations.restore import RestorePlan


class Copies(Restores):
    """What was restored here, and how long a restore will take."""

    def copies(self) -> "list[LocalCopy]":
        """The copies that were restored on this machine and are still there, the newest first.

        Those of the layout ``archive``, which opskit can run; as the catalog tells of them, so that a copy that was
        carried here is opened by `copy`.
        """
        found: dict[str, LocalCopy] = {}
        host = os.uname().nodename
        for operation in self.catalog.operations(cluster=self.name, kind=OperationKind.RESTORE):
            if operation.status is not OperationStatus.COMPLETE or operation.host != host:
                continue
            directory = str((operation.result or {}).get("directory", ""))
            if directory in found or not (Path(directory) / "snapshot/conf").is_dir():
                continue
            try:
                found[directory] = self.copy(directory)
            except (OpskitError, OSError):  # half removed, or another one's by now
                continue
        return list(found.values())

    def predict_restore(self, plan: "RestorePlan") -> "Prediction | None":
        """How long the restore of a plan will take, by earlier ones on this machine; `None` before the first."""
        from opskit.operations.prediction import predict_restore

        operations = self.catalog.operations(kind=OperationKind.RESTORE, limit=100)
        return predict_restore(operations, plan, os.uname().nodename)

    def run_copy(
        self,
        directory: Path | str,
        *,
        port: int | None = None,
        monitor: Monitor | None = None,
        operation: str | None = None,
    ) -> "CopyServer":
        """Start the server of the copy in a directory, and leave it running; recorded, unlike `LocalCopy.start`.

        Errors as `copy` and `LocalCopy.start`.
        """
        copy = self.copy(directory)
        parameters = {"directory": str(copy.directory)}
        with self._recorded(OperationKind.START, parameters, monitor, operation) as recorder:
            recorder.backup = copy.files.backup or None
            server = copy.start(port, recorder)
            recorder.result = _running(copy, server)
            return server

    def start_run_copy(self, directory: Path | str, *, detached: bool = False) -> "OperationHandle":
        """Start a copy's server by a process of its own; see `run_copy` and `start_backup`."""
        place = str(Path(directory).absolute())
        return self._started(OperationKind.START, ["start", place], {"directory": place}, detached)

    def advance_copy(
        self,
        directory: Path | str,
        *,
        promote: bool = False,
        monitor: Monitor | None = None,
        operation: str | None = None,
        **target: Unpack[TargetArguments],
    ) -> "CopyServer":
        """Move a held copy on to a later target, or promote it; recorded, unlike `LocalCopy.advance`.

        Errors as `copy`, `LocalCopy.advance` and `LocalCopy.promote`.

        Parameters
        ----------
        promote
            Whether it becomes a server of its own, at the target or, without one, where it is.
        """
        copy = self.copy(directory)
        parameters = _advancing(copy.directory, promote, target)
        with self._recorded(OperationKind.ADVANCE, parameters, monitor, operation) as recorder:
            recorder.backup = copy.files.backup or None
            if promote and not target:
                server = copy.promote()
            else:
                server = copy.advance(pause=not promote, monitor=recorder, **target)
            recorder.result = _running(copy, server)
            return server

    def start_advance_copy(
        self,
        directory: Path | str,
        *,
        promote: bool = False,
        detached: bool = False,
        **target: Unpack[TargetArguments],
    ) -> "OperationHandle":
        """Move a held copy on by a process of its own; see `advance_copy` and `start_backup`."""
        place = str(Path(directory).absolute())
        told = [a for a in target_arguments(parse_target(**target), pause=False) if _advances(a)]
        arguments = ["advance", place, *told, *(["--promote"] * promote)]
        parameters = _advancing(Path(place), promote, target)
        return self._started(OperationKind.ADVANCE, arguments, parameters, detached)


def _running(copy: "LocalCopy", server: "CopyServer") -> dict[str, object]:
    stop = f"opskit stop {shlex.quote(str(copy.directory))}"
    return {"directory": str(copy.directory), "psql": server.psql_line(), "stop": stop}


def _advancing(directory: Path, promote: bool, target: Mapping[str, object]) -> dict[str, str]:
    named = {name: str(value) for name, value in target.items()}
    return {"directory": str(directory), **named, **({"promote": "true"} if promote else {})}


def _advances(option: str) -> bool:
    """Whether ``opskit advance`` knows an option of ``opskit restore``: a copy keeps to its timeline."""
    return not option.startswith("--timeline")
