"""The embedded scheduler: one process that begins what is due, and ends what it began when it is stopped."""

import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from opskit.cluster import Cluster
from opskit.config import Settings, sends_alarms
from opskit.errors import ErrorKind, InputError, OpskitError
from opskit.model.schedule import ScheduleStatus
from opskit.planner._states import cluster_schedule
from opskit.reports.format import format_time

_POLL_SECONDS = 0.2
# Records are read to know what is due: not more often than this, nor less often, for clocks jump.
_SOONEST_SECONDS, _LATEST_SECONDS = 5.0, 60.0
_REMEMBERED = timedelta(days=1)
# Silence is looked for so often; a run that ended is looked at at once.
_FIRST_ALARMS_SECONDS, _ALARMS_SECONDS = 60.0, 300.0
_BACKUP, _EXPIRE = "scheduled_backup", "expire_backups"


@dataclass(slots=True)
class _Run:
    """A runbook that was begun."""

    cluster: Cluster
    runbook: str
    process: "subprocess.Popen[bytes]"


class Scheduler:
    """Runs the runbooks of the configured schedules: `scheduled_backup`, and `expire_backups` behind one that passed.

    Parameters
    ----------
    tell
        Gets a line for everything that is begun, ended, or cannot be known.
    stopped
        Asked several times a second; once it is true, what runs is ended in order and filed.

    Raises
    ------
    InputError
        No cluster has a schedule, or the settings come from no file.
    """

    def __init__(
        self, settings: Settings, tell: Callable[[str], None], stopped: Callable[[], bool]
    ) -> None:
        self._clusters = [
            Cluster(name, settings) for name, one in settings.clusters.items() if one.schedule
        ]
        if not self._clusters or settings.file is None:
            raise InputError(
                "no cluster has a schedule",
                ErrorKind.WRONG_SETTING,
                'Below [clusters.main], for example: schedule = "0 2 * * *" (cron, UTC).',
            )
        self._file, self._at_once = settings.file, settings.scheduler.at_once
        self._tell, self._stopped = tell, stopped
        self._running: list[_Run] = []
        self._failed_at: defaultdict[str, list[datetime]] = defaultdict(list)
        self._troubled: dict[str, str] = {}
        self._look_again = dict.fromkeys((cluster.name for cluster in self._clusters), 0.0)
        self._tells_alarms = sends_alarms(settings.alarms)
        self._alarms: subprocess.Popen[bytes] | None = None
        self._alarms_at = time.monotonic() + _FIRST_ALARMS_SECONDS

    def run(self) -> None:
        """Work until it is stopped. No process that was begun is left."""
        try:
            while not self._stopped():
                self._gather()
                self._begin_what_is_due()
                self._tell_alarms()
                time.sleep(_POLL_SECONDS)
        finally:
            processes = [run.process for run in self._running]
            processes += [self._alarms] if self._alarms is not None else []
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()

    def _begin_what_is_due(self) -> None:
        for cluster in self._clusters:
            if len(self._running) >= self._at_once:
                return
            busy = any(run.cluster is cluster for run in self._running)
            if not busy and time.monotonic() >= self._look_again[cluster.name]:
                self._look(cluster, datetime.now(UTC))

    def _look(self, cluster: Cluster, now: datetime) -> None:
        """Begin the cluster's backup if it is due, and note when to look again."""
        name = cluster.name
        self._failed_at[name] = [at for at in self._failed_at[name] if now - at < _REMEMBERED]
        try:
            found = cluster_schedule(cluster, now, self._failed_at[name])
        except OpskitError as error:
            self._trouble(name, error.message)
            self._look_again[name] = time.monotonic() + _LATEST_SECONDS
            return
        self._trouble(name, "")
        assert found is not None  # only clusters with a schedule are asked
        state = found.state
        if state.status is ScheduleStatus.DUE:
            self._tell(f"{name}: backup for {format_time(state.period)}")
            self._begin(cluster, _BACKUP, f"scheduled_for={state.period.isoformat()}")
        then = state.next_period if state.status is ScheduleStatus.DONE else state.not_before
        seconds = min(max((then - now).total_seconds(), _SOONEST_SECONDS), _LATEST_SECONDS)
        self._look_again[name] = time.monotonic() + seconds

    def _begin(self, cluster: Cluster, runbook: str, parameter: str) -> None:
        key, _, value = parameter.partition("=")
        process = self._started("runbook", "run", runbook, cluster.name, "-p", key, value)
        self._running.append(_Run(cluster, runbook, process))

    def _started(self, *arguments: str, output: int | None = None) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "opskit", "--config", str(self._file), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            start_new_session=True,  # a Ctrl-C is ours to pass on
        )

    def _tell_alarms(self) -> None:
        """Look for alarms in a process of its own, one at a time: a receiver that hangs must not hold up a backup."""
        going = self._alarms is not None and self._alarms.poll() is None
        if self._tells_alarms and not going and time.monotonic() >= self._alarms_at:
            self._alarms = self._started("alarms", "run", output=subprocess.DEVNULL)
            self._alarms_at = time.monotonic() + _ALARMS_SECONDS

    def _gather(self) -> None:
        for run in [run for run in self._running if run.process.poll() is not None]:
            self._running.remove(run)
            self._alarms_at = time.monotonic()
            name, code = run.cluster.name, run.process.returncode
            self._tell(f"{name}: {run.runbook} {'passed' if code == 0 else f'failed ({code})'}")
            if run.runbook == _BACKUP and code != 0:
                self._failed_at[name].append(datetime.now(UTC))
            elif run.runbook == _BACKUP and run.cluster.configuration.retention is not None:
                self._begin(run.cluster, _EXPIRE, "dry_run=false")

    def _trouble(self, cluster: str, message: str) -> None:
        """Tell what keeps a schedule from being known: once, until it is something else."""
        if message and self._troubled.get(cluster) != message:
            self._tell(f"{cluster}: {message}")
        self._troubled[cluster] = message
