"""All configured clusters side by side: what is kept of each, how it grows, what failed last, what is due next.

What the repository and the catalog say is read first, for all clusters, and takes no longer because a server is away.
Servers are asked after that, many at a time, for as long as the caller has patience.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Semaphore, Thread
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from cronsim import CronSim

from opskit.cluster import Cluster, Sources
from opskit.config import Settings, load_settings
from opskit.errors import NotFoundError, OpskitError, unexpected
from opskit.model.backup import BackupKind, BaseBackup
from opskit.model.freshness import FreshnessFinding
from opskit.model.operation import Operation, OperationStatus
from opskit.operations.wal_gaps import TimelineWal, survey_timelines
from opskit.operations.wal_status import WalStatus, wal_status
from opskit.reports.report import Report

if TYPE_CHECKING:
    import pandas as pd

PATIENCE_SECONDS = 10.0
_READERS, _ASKERS = 4, 12
_FAILED = (OperationStatus.FAILED, OperationStatus.DIED)
_RECENT = 2000  # operations, of all clusters together
_GROWTH = timedelta(days=30)
_SHORTEST = timedelta(hours=1)  # in less, growth per day is an accident

Read = TypeVar("Read")
Told = TypeVar("Told", Operation, Report)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterState:
    """One cluster at one moment. Times are aware and in UTC.

    `backups` are the complete ones, newest first; `archive` is the newest timeline of the WAL archive, `None` where
    nothing is kept; `operations` and `reports` are the last ones, newest first; `due_at` is when the schedule's next
    backup is. `findings` and `wal` are empty until the server was asked; `errors` tell by name what could not be read.
    """

    cluster: str
    at: datetime
    backups: Sequence[BaseBackup] = ()
    archive: TimelineWal | None = None
    operations: Sequence[Operation] = ()
    reports: Sequence[Report] = ()
    due_at: datetime | None = None
    findings: Sequence[FreshnessFinding] = ()
    wal: WalStatus | None = None
    errors: Mapping[str, OpskitError] = field(default_factory=dict)

    @property
    def newest(self) -> BaseBackup | None:
        """The newest backup."""
        return self.backups[0] if self.backups else None

    @property
    def failed(self) -> Operation | None:
        """The last operation that failed or died."""
        return next((o for o in self.operations if o.status in _FAILED), None)

    @property
    def stored_bytes(self) -> int:
        """What its backups take in the repository."""
        return sum(backup.stored_bytes for backup in self.backups)

    @property
    def growth_per_day_bytes(self) -> int | None:
        """What the cluster grew by a day, by the full backups of the last 30 days; `None` where that is not known."""
        full = [b for b in self.backups if b.kind is BackupKind.FULL]
        if not full:
            return None
        since = full[0].started_at - _GROWTH
        first = next(b for b in reversed(full) if b.started_at >= since)
        passed = full[0].started_at - first.started_at
        if passed < _SHORTEST:
            return None
        grown = full[0].cluster_bytes - first.cluster_bytes
        return round(grown / (passed / timedelta(days=1)))

    def heard(self, before: "ClusterState | None") -> "ClusterState":
        """The same, with what the server said when it was asked `before`."""
        return self if before is None else replace(self, findings=before.findings, wal=before.wal)

    @property
    def server_error(self) -> str:
        """Why the server could not be asked; empty if it answered, or was not asked."""
        if self.wal is None or self.wal.server is not None:
            return ""
        told = [finding.message for finding in self.wal.findings if finding.name == "server"]
        return told[0] if told else ""


def compare_clusters(
    config: Path | str | None = None, *, patience_seconds: float = PATIENCE_SECONDS
) -> "pd.DataFrame":
    """All configured clusters, one beside the other; parameters and errors as `opskit.cluster`.

    Parameters
    ----------
    patience_seconds
        How long servers have to answer, all of them at once; 0: none is asked.

    Returns
    -------
    DataFrame
        See `opskit.reports.comparison.clusters_table`.
    """
    opened = open_clusters(load_settings(Path(config) if config else None))
    states = {state.cluster: state for state in read_states(opened)}
    if patience_seconds > 0:
        for state in Questions(opened).ask(states, patience_seconds):
            states[state.cluster] = state
    return table_of([states[main.name] for main in opened])


def table_of(states: Sequence[ClusterState]) -> "pd.DataFrame":
    """States as `opskit.reports.comparison.clusters_table`, in the given order."""
    from opskit.reports.comparison import clusters_table

    return clusters_table([_row(state) for state in states])


def open_clusters(settings: Settings) -> list[Cluster]:
    """All configured clusters by name, which share one repository and one catalog."""
    names = sorted(settings.clusters)
    if not names:
        return []
    first = Cluster(names[0], settings)
    return [first, *(Cluster(name, settings, beside=first) for name in names[1:])]


def read_states(opened: Sequence[Cluster]) -> list[ClusterState]:
    """What repository and catalog say of each cluster, in the given order. No server is asked; nothing is raised."""
    if not opened:
        return []
    errors: dict[str, OpskitError] = {}
    none: list[Operation] = []
    nothing: list[Report] = []
    operations = _by_cluster(_tried("catalog", lambda: _operations(opened[0]), none, errors))
    reports = _by_cluster(_tried("reports", lambda: _reports(opened[0]), nothing, errors))

    def read(main: Cluster) -> ClusterState:
        return _read(main, operations[main.name], reports[main.name], errors)

    with ThreadPoolExecutor(_READERS, thread_name_prefix="opskit reads") as pool:
        return list(pool.map(read, opened))


class Questions:
    """What is asked of the servers of clusters. One that still owes an answer is not asked again."""

    def __init__(self, opened: Sequence[Cluster]) -> None:
        self._opened = tuple(opened)
        self._owing: set[str] = set()
        self._lock = Lock()

    def ask(
        self, states: Mapping[str, ClusterState], patience_seconds: float
    ) -> Iterator[ClusterState]:
        """The states with what the servers say, one by one as they answer; those that do not in time stay away.

        Parameters
        ----------
        patience_seconds
            For all of them together. What answers later is not waited for, and does no harm.
        """
        answers: SimpleQueue[ClusterState] = SimpleQueue()
        turns = Semaphore(_ASKERS)

        def ask(main: Cluster) -> None:
            with turns:
                answer = ask_server(main, states[main.name])
            with self._lock:
                self._owing.discard(main.name)
            answers.put(answer)

        with self._lock:
            free = [main for main in self._opened if main.name not in self._owing]
            self._owing |= {main.name for main in free}
        # Daemons: a server that keeps silent must not keep the kernel from ending.
        for main in free:
            Thread(target=ask, args=[main], name="opskit asks", daemon=True).start()
        deadline = monotonic() + patience_seconds
        for _ in free:
            try:
                yield answers.get(timeout=max(0.0, deadline - monotonic()))
            except Empty:
                return


def ask_server(main: Cluster, state: ClusterState) -> ClusterState:
    """A state with what the server says, and with what there is to be found; waits as long as the server does."""
    try:
        wal = _wal(main)
        sources = Sources(
            at=datetime.now(UTC),
            backups=state.backups,
            operations=state.operations,
            reports=state.reports,
            wal=wal,
        )
        return replace(state, findings=tuple(main.judge(sources)), wal=wal)
    except Exception as error:  # in a thread, where nobody would see it
        told = error if isinstance(error, OpskitError) else unexpected(error)
        return replace(state, errors={**state.errors, "server": told})


def _wal(main: Cluster) -> WalStatus | None:
    try:
        return wal_status(main.configuration, main.repository, patience_seconds=0)
    except NotFoundError:  # nothing of the cluster is kept yet
        return None


def _read(
    main: Cluster,
    operations: Sequence[Operation],
    reports: Sequence[Report],
    common: Mapping[str, OpskitError],
) -> ClusterState:
    errors = dict(common)
    nothing: list[BaseBackup] = []
    backups = _tried("repository", lambda: main.repository.backups(main.name), nothing, errors)
    return ClusterState(
        cluster=main.name,
        at=datetime.now(UTC),
        backups=backups,
        archive=_tried("WAL archive", lambda: _archive(main), None, errors) if backups else None,
        operations=operations,
        reports=reports,
        due_at=_due(main),
        errors=errors,
    )


def _operations(main: Cluster) -> list[Operation]:
    return main.catalog.operations(limit=_RECENT)


def _reports(main: Cluster) -> list[Report]:
    from opskit.reports.index import read_reports

    return read_reports(main.settings.reports_directory)


def _by_cluster(found: Iterable[Told]) -> Mapping[str, list[Told]]:
    grouped: defaultdict[str, list[Told]] = defaultdict(list)
    for one in found:
        grouped[one.cluster].append(one)
    return grouped


def _archive(main: Cluster) -> TimelineWal | None:
    timelines = survey_timelines(main.repository.known_wal(main.name))
    return timelines[-1] if timelines else None


def _due(main: Cluster) -> datetime | None:
    schedule = main.configuration.schedule
    return next(CronSim(schedule, datetime.now(UTC))) if schedule is not None else None


def _tried(
    name: str, read: Callable[[], Read], otherwise: Read, errors: dict[str, OpskitError]
) -> Read:
    try:
        return read()
    except OpskitError as error:
        errors[name] = error
    except Exception as error:  # one cluster's trouble is not that of the others
        errors[name] = unexpected(error)
    return otherwise


def _row(state: ClusterState) -> dict[str, object]:
    """A state as plain values by column."""
    newest = state.newest
    wrong = [finding.message for finding in state.findings if not finding.passed]
    return {
        "cluster": state.cluster,
        "backups": len(state.backups),
        "newest_backup": newest and newest.name,
        "newest_at": newest and newest.stopped_at,
        "newest_age": newest and max(state.at - newest.stopped_at, timedelta()),
        "oldest_at": state.backups[-1].stopped_at if state.backups else None,
        "cluster_bytes": newest and newest.cluster_bytes,
        "growth_per_day_bytes": state.growth_per_day_bytes,
        "stored_bytes": state.stored_bytes,
        "archive_at": state.archive and state.archive.stored_at,
        "behind_bytes": state.wal and state.wal.behind_bytes,
        "behind": state.wal and state.wal.behind,
        "answered": None if state.wal is None else state.wal.server is not None,
        "failed_at": state.failed and (state.failed.ended_at or state.failed.heartbeat_at),
        "failure": state.failed and f"{state.failed.kind}: {state.failed.words}",
        "due_at": state.due_at,
        "trouble": "; ".join([*(e.message for e in state.errors.values()), *wrong]) or None,
    }
