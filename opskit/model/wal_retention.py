"""Which WAL the kept backups leave without a use.

A segment is of use when a recovery from a kept backup may read it: when it lies on a path of timelines that leads on
from that backup, at or behind its start. The rest goes, except where it cannot be told.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from opskit.model.backup import BaseBackup
from opskit.model.lsn import Lsn
from opskit.model.timeline import TimelineHistory
from opskit.model.wal import WalSegment


@dataclass(frozen=True, slots=True)
class TimelineNeed:
    """What of a timeline is needed: from `keep_from` on; `None` means none of it. `reason` says why."""

    timeline: int
    keep_from: Lsn | None
    reason: str

    def needs(self, segment: WalSegment) -> bool:
        """Whether a segment of the timeline is needed, or any byte of it."""
        return self.keep_from is not None and segment.end > self.keep_from


def wal_needs(
    kept: Sequence[BaseBackup],
    histories: Iterable[TimelineHistory],
    *,
    backup_running: bool = False,
) -> list[TimelineNeed]:
    """The need of each timeline.

    Parameters
    ----------
    kept
        The cluster's backups that stay.
    histories
        Of every timeline in the archive; `TimelineHistory.alone` where the history file is missing.
    backup_running
        Whether a backup may be running, whose timeline is not known yet.
    """
    return [_need(history, kept, backup_running) for history in histories]


def _need(
    history: TimelineHistory, kept: Sequence[BaseBackup], backup_running: bool
) -> TimelineNeed:
    timeline = history.timeline
    leading = [b for b in kept if history.passes(b.timeline, b.start_lsn)]
    if leading:
        oldest = min(leading, key=lambda backup: backup.start_lsn)
        return TimelineNeed(timeline, oldest.start_lsn, f"from the start of {oldest.name} on")
    if kept and not backup_running and timeline < min(backup.timeline for backup in kept):
        return TimelineNeed(timeline, None, "no kept backup leads into it")
    # A first backup on it may be on its way, or its history file is missing.
    return TimelineNeed(timeline, Lsn(0), "no kept backup leads into it yet")
