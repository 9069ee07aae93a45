"""The monitor that writes to the catalog: an operation's progress, heartbeat, and how it ended.

A thread of its own writes, so that the operation never waits for the catalog, and a catalog that fails while the
operation runs does not fail it: backups are worth more than their row.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from opskit.catalog import Catalog
from opskit.errors import Cancelled, OpskitError, StoreError, unexpected
from opskit.model.operation import OperationKind, OperationStatus, Progress
from opskit.operations.monitor import Monitor, SilentMonitor

_WATCH_SECONDS = 0.2
_WRITE_SECONDS = 0.8  # a cancel request shows within a second
_FINISH_SECONDS = 10.0

_log = logging.getLogger(__name__)


class Recorder:
    """A `Monitor` whose reports reach the catalog about every second.

    `operation_id` is empty when the operation could not be recorded. Set `backup` as soon as the backup's name is
    known, and `result` (plain data) before the end.
    """

    def __init__(self, operation_id: str, monitor: Monitor) -> None:
        self.operation_id = operation_id
        self.backup: str | None = None
        self.result: Mapping[str, object] | None = None
        self.progress = Progress(phase="starting")
        self._monitor = monitor
        self._cancelled = False

    def report(self, progress: Progress) -> None:
        """Keep the progress for the next writing, and pass it on."""
        self.progress = progress
        self._monitor.report(progress)

    def check(self) -> None:
        """Go on, unless the catalog's row, `cancel` or the inner monitor asks for the end."""
        if self._cancelled:
            raise Cancelled("the operation was cancelled")
        self._monitor.check()

    def cancel(self) -> None:
        """Ask for the end; safe in any thread and in a signal's handler."""
        self._cancelled = True  # no lock: a second signal may come within the first one's handler


@contextmanager
def recorded(
    catalog: Callable[[], Catalog],
    *,
    kind: OperationKind,
    cluster: str,
    parameters: Mapping[str, str],
    actor: str,
    jupyter_user: str | None = None,
    id: str | None = None,  # noqa: A002  the model's own name
    monitor: Monitor | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> Iterator[Recorder]:
    """Record what the ``with`` block does as one operation of the catalog.

    A normal end is written as complete, `Cancelled`, ``KeyboardInterrupt`` and ``SystemExit`` as cancelled, any other
    exception as failed; all of them pass through.

    Parameters
    ----------
    catalog
        Opens it, or gives the one that is open.
    id
        The row's id, where somebody waits for that row; a new one by default.
    monitor
        Who else gets every report and may ask for the end, called in the operation's thread.
    watch
        Who else looks at the progress a few times a second, called in the recorder's thread.

    Raises
    ------
    StoreError
        The row cannot be written, and an `id` was given. Without one the operation goes on, and that it is not
        recorded is logged only: a restore needs the repository alone.
    """
    inner = monitor or SilentMonitor()
    opened: Catalog | None = None
    try:
        opened = catalog()
        row = opened.start(
            kind=kind,
            cluster=cluster,
            parameters=parameters,
            actor=actor,
            jupyter_user=jupyter_user,
            id=id,
        )
    except StoreError as failure:
        if id is not None:
            raise
        _log.warning("the %s is not recorded: %s", kind, failure)
        opened = None
    if opened is None:
        yield Recorder("", inner)
        return
    recorder = Recorder(row.id, inner)
    heart = _Heart(opened, recorder, watch)
    heart.start()
    status, error = OperationStatus.COMPLETE, None
    try:
        yield recorder
    except (Cancelled, KeyboardInterrupt, SystemExit) as raised:
        status = OperationStatus.CANCELLED
        error = raised.as_dict() if isinstance(raised, OpskitError) else None
        raise
    except OpskitError as raised:
        status, error = OperationStatus.FAILED, raised.as_dict()
        raise
    except BaseException as raised:
        status, error = OperationStatus.FAILED, unexpected(raised).as_dict()
        raise
    finally:
        heart.stop()
        _finish(opened, recorder, status, error)


def _finish(
    catalog: Catalog, recorder: Recorder, status: OperationStatus, error: Mapping[str, str] | None
) -> None:
    progress = recorder.progress
    if status is OperationStatus.COMPLETE and progress.bytes_expected is not None:
        progress = replace(progress, bytes_expected=progress.bytes_done)  # it was an estimate
    deadline = time.monotonic() + _FINISH_SECONDS
    while True:
        try:
            catalog.update(recorder.operation_id, progress, recorder.backup)
            catalog.finish(recorder.operation_id, status, result=recorder.result, error=error)
            return
        except StoreError as failure:
            if failure.permanent or time.monotonic() > deadline:
                _log.warning(
                    "the end of operation %s is not recorded: %s", recorder.operation_id, failure
                )
                return
            time.sleep(0.5)


class _Heart:
    """The thread that writes the heartbeat and reads cancel requests, and shows the progress to a watcher."""

    def __init__(
        self, catalog: Catalog, recorder: Recorder, watch: Callable[[Progress], None] | None
    ) -> None:
        self._catalog, self._recorder, self._watch = catalog, recorder, watch
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="opskit recorder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        last = 0.0
        while not self._ended.wait(_WATCH_SECONDS):
            self._show()
            if time.monotonic() - last >= _WRITE_SECONDS:
                self._write()
                last = time.monotonic()
        self._show()

    def _write(self) -> None:
        recorder = self._recorder
        try:
            if self._catalog.update(recorder.operation_id, recorder.progress, recorder.backup):
                recorder.cancel()
        except StoreError as failure:
            _log.warning(
                "the progress of operation %s is not recorded: %s", recorder.operation_id, failure
            )

    def _show(self) -> None:
        if self._watch is None:
            return
        try:
            self._watch(self._recorder.progress)
        except Exception:
            _log.exception(
                "the watcher of operation %s failed and is left out", self._recorder.operation_id
            )
            self._watch = None
