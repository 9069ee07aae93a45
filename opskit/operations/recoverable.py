"""Which times can be restored: from which backup on, along which timeline, how far, and why no further."""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate

from opskit.config import PostgresSettings
from opskit.model.backup import BaseBackup
from opskit.model.lsn import Lsn
from opskit.model.timeline import TimelineHistory
from opskit.model.wal import WalSegment
from opskit.operations.recovery import own_history
from opskit.operations.wal_path import LogReader, PathFinder, WalPath
from opskit.postgres.programs import Programs, find_programs
from opskit.repository import Repository
from opskit.repository.wal import WalArchive

_READERS = min(os.cpu_count() or 1, 8)

NO_WAL = "no WAL after the backup is archived"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Every point that one backup leads to along one timeline.

    It begins where the backup ends. `to_at` is when the last transaction in reach ended, `to_lsn` where the last record
    in reach begins; both are the beginning's when there is none. `stored_bytes` is what the whole segments take in the
    repository. `missing` is the segment that ends it, `None` where no gap does; `ends_because` says why in words.
    """

    backup: str
    timeline: int
    from_at: datetime
    to_at: datetime
    from_lsn: Lsn
    to_lsn: Lsn
    stored_bytes: int
    missing: WalSegment | None
    ends_because: str

    @property
    def wal_bytes(self) -> int:
        """How much log there is to replay up to `to_lsn`."""
        return self.to_lsn - self.from_lsn


@dataclass(frozen=True, slots=True)
class _Walk:
    """A path from the oldest of the backups that lead into it, and what is read at its end, once for all of them.

    `stored` are the stored bytes of its first so many segments; `last` is when the last transaction of the path ended,
    and where its last record begins.
    """

    path: WalPath
    stored: tuple[int, ...]
    last: Future[tuple[datetime | None, Lsn | None]]

    def leads_on_from(self, backup: BaseBackup) -> bool:
        names, end = self.path.names, self.path.end
        if end is None or end < backup.stop_lsn:
            return False
        return names[0].number <= _first(backup) <= names[-1].number

    def stored_bytes(self, backup: BaseBackup) -> int:
        skipped = _first(backup) - self.path.names[0].number if self.path.names else 0
        return self.stored[-1] - self.stored[min(skipped, len(self.path.segments))]


def find_intervals(
    backups: Sequence[BaseBackup], archive: WalArchive, programs: Programs
) -> list[Interval]:
    """One for each backup and timeline that it leads to: the newest backup first, then the newest timeline.

    Parameters
    ----------
    backups
        The complete backups, newest first.
    programs
        PostgreSQL's programs of the cluster's major version: ``pg_waldump`` reads the archive's ends.
    """
    finder = PathFinder(archive)
    histories = {history.timeline: history for history in finder.histories}
    for backup in backups:
        if backup.timeline not in histories:
            histories[backup.timeline] = own_history(archive, backup)

    def along(
        history: TimelineHistory, readers: ThreadPoolExecutor
    ) -> Iterator[tuple[BaseBackup, _Walk]]:
        walk: _Walk | None = None
        for backup in reversed(backups):
            if history.passes(backup.timeline, backup.stop_lsn):
                if walk is None or not walk.leads_on_from(backup):
                    path = finder.from_backup(backup, history)
                    sizes = (finder.stored_bytes(segment) for segment in path.segments)
                    last = readers.submit(_read_end, LogReader(archive, programs, path))
                    walk = _Walk(path, tuple(accumulate(sizes, initial=0)), last)
                if backup.timeline == history.timeline or _arrives(walk.path):
                    yield backup, walk

    # Paths are found in an instant; each of their ends takes a run of pg_waldump.
    with ThreadPoolExecutor(_READERS, thread_name_prefix="log") as readers:
        walks = [pair for history in histories.values() for pair in along(history, readers)]
        found = [_interval(backup, walk, histories.values()) for backup, walk in walks]
    return sorted(found, key=lambda i: (i.from_at, i.backup, i.timeline), reverse=True)


def recoverable_intervals(
    repository: Repository,
    cluster: str,
    postgres: PostgresSettings,
    backups: Sequence[BaseBackup] | None = None,
) -> list[Interval]:
    """`find_intervals` in a repository as it is now; none for a cluster without backups.

    Parameters
    ----------
    backups
        Those to tell of, newest first; by default all, which have to be read then.

    Raises
    ------
    NotFoundError
        This machine has no programs of the cluster's major version.
    """
    if backups is None:
        backups = repository.backups(cluster)
    if not backups:
        return []
    programs = find_programs(backups[0].major, postgres.programs)
    return find_intervals(backups, repository.known_wal(cluster), programs)


def _first(backup: BaseBackup) -> int:
    """The number of the first segment that a recovery of the backup needs."""
    return WalSegment.ending_at(backup.stop_lsn, backup.timeline, backup.wal_segment_bytes).number


def _read_end(reader: LogReader) -> tuple[datetime | None, Lsn | None]:
    """See `_Walk.last`; in this order, the last segment is read once."""
    record, last = reader.last_record(), reader.last_end()
    return last[1].at if last else None, record


def _arrives(path: WalPath) -> bool:
    """Whether a path comes to where its own timeline begins."""
    return path.end is not None and path.end > path.history.stretches[-1].start


def _interval(backup: BaseBackup, walk: _Walk, histories: Iterable[TimelineHistory]) -> Interval:
    missing, because = _end(walk.path, histories)
    last_at, last_record = walk.last.result()
    return Interval(
        backup=backup.name,
        timeline=walk.path.history.timeline,
        from_at=backup.stopped_at,
        to_at=max(backup.stopped_at, last_at or backup.stopped_at),
        from_lsn=backup.stop_lsn,
        to_lsn=max(backup.stop_lsn, last_record or backup.stop_lsn),
        stored_bytes=walk.stored_bytes(backup),
        missing=missing,
        ends_because=because,
    )


def _end(path: WalPath, histories: Iterable[TimelineHistory]) -> tuple[WalSegment | None, str]:
    """The segment that is missing behind a path, and why the path ends, in words."""
    missing, timeline = path.gap, path.history.timeline
    if missing is None and path.end is None:
        return None, NO_WAL
    forks = [
        (stretch.end, history.timeline)
        for history in histories
        if (stretch := history.stretch_of(timeline)) is not None
        and stretch.end is not None
        and path.end is not None
        and stretch.end >= path.end
    ]
    if missing is None and forks:
        lsn, other = min(forks)
        following = path.names[-1].next()
        if lsn <= following.end:
            return None, f"timeline {other} branched off at {lsn}"
        missing = path.names[-1] if path.partial else following
    if missing is not None:
        return missing, f"segment {missing.name} is missing"
    return None, "the archive ends here"
