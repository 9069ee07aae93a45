"""How a cluster's WAL archive stands: what it holds, what is missing, and how far it is behind the server."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from opskit.config import ClusterSettings
from opskit.errors import NotFoundError, OpskitError
from opskit.model.backup import BaseBackup
from opskit.model.format import format_bytes, format_duration
from opskit.model.lsn import Lsn
from opskit.model.shown import Shown
from opskit.operations.check import Finding
from opskit.operations.wal_gaps import TimelineWal, WalGap, find_gaps, survey_timelines
from opskit.operations.wal_stream import slot_name
from opskit.postgres.connection import connect
from opskit.postgres.wal_facts import LogFacts, log_facts
from opskit.repository import Repository
from opskit.repository.wal import WalArchive

_LIMIT = timedelta(seconds=60)
_POLL_SECONDS = 0.5
_NEAR = 0.2  # of max_slot_wal_keep_size


@dataclass(frozen=True, slots=True, kw_only=True)
class WalStatus(Shown):
    """One look at a WAL archive. Times are aware and in UTC.

    `timeline` and `end` are where the archive ends, on its newest timeline; `None` while it is empty. `server` is
    `None` when the server could not be asked. `behind_bytes` is what the server has on its disk and the archive not
    yet; `behind` how old that is at most, zero for an idle server, `None` where the clock went back meanwhile.
    """

    cluster: str
    timelines: tuple[TimelineWal, ...]
    gaps: tuple[WalGap, ...]
    timeline: int | None
    end: Lsn | None
    stored_at: datetime | None
    slot_name: str
    server: LogFacts | None
    behind_bytes: int | None
    behind: timedelta | None
    findings: tuple[Finding, ...]

    def __repr__(self) -> str:
        wrong = [
            f"{finding.name}: {finding.message}" for finding in self.findings if not finding.passed
        ]
        where = "empty" if self.end is None else f"up to {self.end} on timeline {self.timeline}"
        return f"<opskit WAL of {self.cluster!r}: {where}, {'; '.join(wrong) or 'all is well'}>"

    @property
    def passed(self) -> bool:
        """Whether all is well."""
        return all(finding.passed for finding in self.findings)


@dataclass(frozen=True, slots=True)
class _Behind:
    amount_bytes: int
    age: timedelta | None
    is_growing: bool


def wal_status(
    cluster: ClusterSettings, repository: Repository, *, patience_seconds: float = 15
) -> WalStatus:
    """Look at the archive, and at the server where it answers.

    Parameters
    ----------
    patience_seconds
        How long an archive that seems to be behind has to take in what the server had when it was asked: a server
        that was idle until a moment ago is not behind.

    Raises
    ------
    NotFoundError
        The repository does not know the cluster.
    """
    archive = repository.known_wal(cluster.name)
    slot = slot_name(cluster.name)
    server: LogFacts | None = None
    refused: OpskitError | None = None
    try:
        connection = connect(cluster.conninfo)
        try:
            server = log_facts(connection, slot)
        finally:
            connection.close()
    except OpskitError as error:
        refused = error
    timelines = survey_timelines(archive)
    last = timelines[-1] if timelines else None
    behind = _behind(archive, last, server, patience_seconds) if server is not None else None
    if behind is not None:
        timelines = survey_timelines(archive)
        last = timelines[-1] if timelines else None
    backups = repository.backups(cluster.name)
    gaps = find_gaps(archive, timelines, backups)
    findings = [
        *_archive_findings(cluster.name, archive, timelines, gaps, backups),
        *_server_findings(cluster.name, slot, server, refused, behind),
    ]
    return WalStatus(
        cluster=cluster.name,
        timelines=tuple(timelines),
        gaps=tuple(gaps),
        timeline=last.timeline if last else None,
        end=last.end if last else None,
        stored_at=last.stored_at if last else None,
        slot_name=slot,
        server=server,
        behind_bytes=behind.amount_bytes if behind else None,
        behind=behind.age if behind else None,
        findings=tuple(replace(f, hint="") if f.passed else f for f in findings),
    )


def _behind(
    archive: WalArchive, last: TimelineWal | None, server: LogFacts, patience_seconds: float
) -> _Behind | None:
    """What the archive lacks of what the server had; `None` when there is nothing to compare.

    Without a slot the server archives whole segments: one that is still being filled is not missing.
    """
    if last is None:
        return None
    size = archive.segment_bytes
    wanted = server.flushed_lsn
    if server.slot is None:
        wanted = Lsn(wanted // size * size)
    missing = _lacking(archive, last, server.timeline, wanted)
    age = datetime.now(UTC) - last.stored_at
    if missing == 0 or abs(age) <= _LIMIT:
        return _Behind(missing, max(age, timedelta()) if missing else timedelta(), False)
    deadline = time.monotonic() + patience_seconds
    while missing and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        latest = survey_timelines(archive)[-1]
        missing = _lacking(archive, latest, server.timeline, wanted)
    if age < timedelta():  # stored in the future: a clock went back, and nobody knows since when
        return _Behind(missing, None if missing else timedelta(), missing > 0)
    return _Behind(missing, age if missing else timedelta(), missing > 0)


def _lacking(archive: WalArchive, last: TimelineWal, timeline: int, wanted: Lsn) -> int:
    """How many bytes up to `wanted` on the server's `timeline` the archive lacks at its end."""
    end = last.end
    if last.timeline < timeline:  # the log is one sequence of bytes, up to the fork and behind it
        try:
            end = min(end, archive.history(timeline).stretches[-1].start)
        except NotFoundError:
            return max(wanted - end, 1)
    return max(wanted - end, 0) if last.timeline <= timeline else 0


def _archive_findings(
    cluster: str,
    archive: WalArchive,
    timelines: list[TimelineWal],
    gaps: list[WalGap],
    backups: list[BaseBackup],
) -> Iterator[Finding]:
    if not timelines:
        yield Finding(
            name="archive",
            passed=False,
            message=f"the archive of {cluster!r} is empty",
            hint=f"Run 'opskit wal stream {cluster}' as a service.",
        )
        return
    for gap in gaps:
        count = f"{gap.segments} segment{'s'[: gap.segments != 1]}"
        span = gap.first.name if gap.segments == 1 else f"{gap.first.name} to {gap.last.name}"
        if gap.matters:
            message = (
                f"{count} missing, {span}: backup {gap.backups[0]} cannot be recovered past it"
            )
        else:
            message = f"{count} missing, {span}, before the oldest backup: no backup needs it"
        yield Finding(
            name="gap",
            passed=not gap.matters,
            message=message,
            hint="Put the segments back by 'opskit wal push' if a server or another copy has them;"
            " else take a new backup.",
        )
    if not any(gap.matters for gap in gaps):
        yield Finding(name="gaps", passed=True, message="none that a backup needs")
    if backups:
        yield _connection(cluster, archive, timelines, backups[0])


def _connection(
    cluster: str, archive: WalArchive, timelines: list[TimelineWal], backup: BaseBackup
) -> Finding:
    """Whether the archive goes on where the newest backup ends."""
    size = archive.segment_bytes
    begins = [r.first.start for t in timelines for r in t.ranges if t.timeline == backup.timeline]
    begins += [
        t.partial.segment.start for t in timelines if t.partial and t.timeline == backup.timeline
    ]
    first = min(begins, default=None)
    if first is None or first <= max(backup.stop_lsn - 1, 0) // size * size:
        return Finding(
            name="newest backup", passed=True, message=f"{backup.name}: the archive goes on from it"
        )
    return Finding(
        name="newest backup",
        passed=False,
        message=f"{backup.name} stopped at {backup.stop_lsn}, the archive begins at {first}",
        hint=f"Take a new backup: 'opskit backup {cluster}'.",
    )


def _server_findings(
    cluster: str,
    slot_name: str,
    server: LogFacts | None,
    refused: OpskitError | None,
    behind: _Behind | None,
) -> Iterator[Finding]:
    if server is None:
        why = refused.message if refused is not None else ""
        yield Finding(
            name="server", passed=True, message=f"does not answer, so nothing is compared: {why}"
        )
        return
    yield _slot(cluster, slot_name, server)
    if behind is None:
        return
    yield Finding(
        name="behind",
        passed=not behind.is_growing,
        message="the archive has all that the server has"
        if not behind.amount_bytes
        else f"{format_bytes(behind.amount_bytes)} not archived yet, {_since(behind.age)}",
        hint=f"Check that 'opskit wal stream {cluster}' is running, and see what it says.",
    )


def _since(age: timedelta | None) -> str:
    if age is None:
        return "unknown since when: the archive's newest object is dated in the future, as a clock was set back"
    return f"the oldest of it at most {format_duration(age)} old"


def _slot(cluster: str, name: str, server: LogFacts) -> Finding:
    slot, limit = server.slot, server.slot_limit_bytes
    if slot is None:
        return Finding(
            name="slot",
            passed=server.is_archiving,
            message=f"there is no slot {name!r}"
            + ("; the server archives by itself" if server.is_archiving else ""),
            hint=f"Run 'opskit wal stream {cluster}', which makes it.",
        )
    if slot.is_lost:
        return Finding(
            name="slot",
            passed=False,
            message=f"the slot {name!r} is lost: the server keeps no WAL for the archive any more",
            hint=f"Run 'opskit wal stream {cluster}', which goes on if the server still has the WAL;"
            " if not, add --after-gap, and take a new backup.",
        )
    near = slot.wal_status == "unreserved" or (
        limit is not None and slot.safe_bytes is not None and slot.safe_bytes < limit * _NEAR
    )
    state = "in use" if slot.is_active else "not in use"
    if near:
        return Finding(
            name="slot",
            passed=False,
            message=f"the slot {name!r} is near max_slot_wal_keep_size:"
            f" {format_bytes(max(slot.safe_bytes or 0, 0))} are left",
            hint=f"Make sure that 'opskit wal stream {cluster}' is running, or raise max_slot_wal_keep_size.",
        )
    return Finding(name="slot", passed=True, message=f"{name!r} is {slot.wal_status} and {state}")
