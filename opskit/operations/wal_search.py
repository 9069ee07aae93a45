"""Where in the log a recovery to a target will end, as PostgreSQL decides it (``recoveryStopsBefore``, ``…After``)."""

from datetime import datetime
from typing import Protocol

from opskit.model.lsn import Lsn
from opskit.model.target import RecoveryTarget, TargetKind
from opskit.operations.wal_path import WalPath
from opskit.postgres.waldump import LoggedRecords


class Records(Protocol):
    """What the segments of a path hold."""

    def records(self, index: int, *, every_record: bool = False) -> LoggedRecords:
        """What begins in the path's segment of that index."""


def find_target(
    target: RecoveryTarget, begins: Lsn, path: WalPath, reader: Records
) -> tuple[int, Lsn] | None:
    """The segment, by its index, and the record at which recovery ends; `None` when the path does not hold it.

    What lies before `begins`, the backup's end, is in the copy already: recovery cannot stop there.
    """
    if isinstance(target.value, datetime):
        return _find_time(target.value, target.inclusive, begins, path, reader)
    if isinstance(target.value, Lsn):
        return _find_lsn(target.value, path, reader)
    by_xid = target.kind is TargetKind.XID
    # A restore point's name may be used again; PostgreSQL stops at the first that it comes to.
    indices = range(len(path.names))
    for index in reversed(indices) if by_xid else indices:
        records = reader.records(index)
        if by_xid:
            seen = [end.lsn for end in records.ends if end.xid == target.value]
        else:
            seen = [point.lsn for point in records.points if point.name == target.value]
        if found := [lsn for lsn in seen if lsn >= begins]:
            return index, found[0]
    return None


def _find_lsn(lsn: Lsn, path: WalPath, reader: Records) -> tuple[int, Lsn] | None:
    """The segment that holds the first record from `lsn` on."""
    if path.end is None or lsn >= path.end:
        return None
    for index, segment in enumerate(path.names):
        if segment.end > lsn:
            last = reader.records(index, every_record=True).last_record
            if last is not None and last >= lsn:
                return index, lsn
    return None


def _find_time(
    time: datetime, inclusive: bool, begins: Lsn, path: WalPath, reader: Records
) -> tuple[int, Lsn] | None:
    """The first segment with a transaction's end behind `time`, by bisection, as times rise with the log.

    Where a clock was set back they do not; then a later one is found, or none, but never a place short of the target.
    """

    def behind(index: int) -> Lsn | None:
        for end in reader.records(index).ends:
            if end.lsn >= begins and (end.at > time or (not inclusive and end.at == time)):
                return end.lsn
        return None

    low, high = 0, len(path.names)
    while low < high:
        middle = probe = (low + high) // 2
        while probe < high and not reader.records(probe).ends:
            probe += 1
        if probe == high or behind(probe) is not None:
            high = middle
        else:
            low = probe + 1
    for index in range(low, len(path.names)):
        lsn = behind(index)
        if lsn is not None:
            return index, lsn
    return None
