"""What an increment can be based on: a pure function of the backups, the server, the rules and now.

PostgreSQL's WAL summaries say which blocks changed since a backup began (manual, "Incremental Backup"). They must
reach back that far, and the backup must be an earlier state of the very server.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise

from opskit.model.backup import BackupKind, BaseBackup
from opskit.model.lsn import Lsn
from opskit.model.timeline import Stretch, TimelineHistory

FIRST_MAJOR = 17


class BackupMode(StrEnum):
    """Which kind of backup is asked for; `AUTO` leaves it to opskit."""

    AUTO = "auto"
    FULL = "full"
    INCREMENTAL = "incremental"


@dataclass(frozen=True, slots=True, kw_only=True)
class IncrementalRules:
    """When a backup is a full one again, as ``incremental = { increments = 6, days = 7, percent = 50 }`` says it.

    After so many increments since the last full one; when that is so old; or when more than that part of the cluster
    has changed.
    """

    increments: int = 6
    days: timedelta = timedelta(days=7)
    percent: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class WalSummary:
    """A file in which the server keeps which blocks the WAL of a stretch changed."""

    timeline: int
    start: Lsn
    end: Lsn


@dataclass(frozen=True, slots=True, kw_only=True)
class Summarizing:
    """What a server has to say about increments. `history` leads to the timeline that it is on."""

    system_identifier: str
    major: int
    is_on: bool
    data_checksums: bool
    history: TimelineHistory
    summaries: tuple[WalSummary, ...]


class Obstacle(StrEnum):
    """Why there can be no increment, for programs."""

    VERSION = "version"
    NOT_SUMMARIZED = "not summarized"
    NO_PARENT = "no parent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A parent to build on, or `None` for a full backup, and why; `obstacle` tells that no increment is possible."""

    parent: BaseBackup | None
    reason: str
    obstacle: Obstacle | None = None


def choose_parent(backups: Iterable[BaseBackup], server: Summarizing) -> Choice:
    """The newest backup that an increment can be based on.

    When there is none, the reason is that of the newest backup.
    """
    if server.major < FIRST_MAJOR:
        reason = (
            f"PostgreSQL {server.major} takes no incremental backups, {FIRST_MAJOR} and later do"
        )
        return Choice(parent=None, reason=reason, obstacle=Obstacle.VERSION)
    if not server.is_on:
        reason = "the server does not summarize its WAL (summarize_wal is off)"
        return Choice(parent=None, reason=reason, obstacle=Obstacle.NOT_SUMMARIZED)
    known = {backup.name: backup for backup in backups}
    refused = Choice(
        parent=None, reason="there is no backup to build on", obstacle=Obstacle.NO_PARENT
    )
    for backup in sorted(known.values(), key=lambda backup: backup.name, reverse=True):
        found = _obstacle(backup, known, server)
        if found is None:
            return Choice(parent=backup, reason=f"changes since {backup.name}")
        if refused.reason == "there is no backup to build on":
            refused = Choice(parent=None, reason=found[1], obstacle=found[0])
    return refused


def enough(
    parent: BaseBackup,
    backups: Iterable[BaseBackup],
    rules: IncrementalRules,
    now: datetime,
    changed_bytes: int | None,
) -> str | None:
    """Why it is time for a full backup although `parent` could be built on; `None` if it is not.

    Parameters
    ----------
    changed_bytes
        What changed since the parent, as far as it is known.
    """
    chain = chain_of(parent, {backup.name: backup for backup in backups})
    if len(chain) > rules.increments:
        count = len(chain) - 1
        return f"{count} increment{'s'[: count != 1]} since the last full backup"
    if now - chain[-1].started_at >= rules.days:
        return f"the last full backup is {(now - chain[-1].started_at).days} days old"
    if changed_bytes is not None and changed_bytes * 100 > rules.percent * parent.cluster_bytes:
        return f"more than {rules.percent} % of the cluster has changed since {parent.name}"
    return None


def chain_of(backup: BaseBackup, known: Mapping[str, BaseBackup]) -> list[BaseBackup]:
    """The backup and what it is based on, newest first, down to the full one, or as far as it is known."""
    chain = [backup]
    while (parent := known.get(chain[-1].parent or "")) is not None and parent not in chain:
        chain.append(parent)
    return chain


def broken(chain: Sequence[BaseBackup]) -> str | None:
    """What is wrong with a chain, newest first; `None` when nothing is.

    It ends with a full backup, and each backup is based on the one behind it: the one that began where it says, of the
    same cluster and with the same state of data checksums, as `pg_combinebackup` demands.
    """
    last = chain[-1]
    if last.kind is not BackupKind.FULL:
        return f"backup {last.name!r} is based on {last.parent!r}, which is missing"
    for child, parent in pairwise(chain):
        if child.parent_start_lsn != parent.start_lsn or (
            child.system_identifier != parent.system_identifier
        ):
            return f"backup {child.name!r} is based on another {parent.name!r} than the one that is there"
        if child.data_checksums != parent.data_checksums:
            return f"data checksums were switched between {parent.name!r} and {child.name!r}"
    return None


def _obstacle(
    backup: BaseBackup, known: Mapping[str, BaseBackup], server: Summarizing
) -> tuple[Obstacle, str] | None:
    """Why an increment cannot be based on `backup`."""
    if (backup.system_identifier, backup.major) != (server.system_identifier, server.major):
        return Obstacle.NO_PARENT, f"backup {backup.name!r} is of another cluster"
    if (wrong := broken(chain_of(backup, known))) is not None:
        return Obstacle.NO_PARENT, wrong
    if not server.history.passes(backup.timeline, backup.stop_lsn):
        return Obstacle.NO_PARENT, (
            f"the server's timeline {server.history.timeline} forked away before backup {backup.name!r}"
            f" ended at {backup.stop_lsn} on timeline {backup.timeline}"
        )
    if backup.data_checksums != server.data_checksums:
        states = {True: "on", False: "off"}
        return Obstacle.NO_PARENT, (
            f"data checksums were {states[backup.data_checksums]} at backup {backup.name!r}"
            f" and are {states[server.data_checksums]} now"
        )
    if (missing := _unsummarized(backup, server)) is not None:
        return Obstacle.NOT_SUMMARIZED, (
            f"the server has no summaries of the WAL from {missing} on, backup {backup.name!r}"
            f" starts at {backup.start_lsn}"
        )
    return None


def _unsummarized(backup: BaseBackup, server: Summarizing) -> Lsn | None:
    """The first LSN since the backup's start that has no summary and will get none.

    Behind the last summary the summarizer is merely late: the server keeps that WAL for it.
    """
    needed = [s for s in server.history.stretches if s.end is None or s.end > backup.start_lsn]
    for number, stretch in enumerate(needed):
        reached = _reached(stretch, max(stretch.start, backup.start_lsn), server.summaries)
        if stretch.end is not None and reached >= stretch.end:
            continue
        later = {later.timeline for later in needed[number + 1 :]}
        for summary in server.summaries:
            if summary.timeline in later or (
                summary.timeline == stretch.timeline and summary.start > reached
            ):
                return reached
        return None
    return None


def _reached(stretch: Stretch, start: Lsn, summaries: Iterable[WalSummary]) -> Lsn:
    """How far the summaries of a timeline lead from `start` without a gap."""
    reached = start
    for summary in sorted(summaries, key=lambda summary: summary.start):
        if summary.timeline == stretch.timeline and summary.start <= reached < summary.end:
            reached = summary.end
    return reached
