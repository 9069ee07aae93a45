"""What notebooks show of values: a card for each class that has one, by `opskit.model.shown.card_html`."""

import shlex
from functools import singledispatch

from opskit.config import ClusterSettings
from opskit.errors import OpskitError
from opskit.evidence.verify import AuditVerdict
from opskit.model.backup import BaseBackup
from opskit.model.operation import Operation, OperationStatus
from opskit.model.retention import Hold
from opskit.operations.consolidate import ConsolidatePlan
from opskit.operations.copy import RestoredCopy
from opskit.operations.expire import Expired, ExpirePlan
from opskit.operations.process import OperationHandle
from opskit.operations.recovery import RecoveryPlan
from opskit.operations.restore import RestorePlan
from opskit.operations.wal_status import WalStatus
from opskit.postgres.facts import ClusterFacts
from opskit.postgres.programs import CompletedRun
from opskit.reports.drawn_card import Tone, code_lines, draw_card
from opskit.reports.format import format_bytes, format_duration
from opskit.reports.view import table, time_and_local
from opskit.repository import Repository

_TONES = {
    OperationStatus.COMPLETE: Tone.GOOD,
    OperationStatus.FAILED: Tone.BAD,
    OperationStatus.DIED: Tone.BAD,
}
_SHOWN = 20  # rows of a card's table


@singledispatch
def card(value: object) -> str | None:
    """A value's card as HTML; `None` for a class that has none."""
    return None


def cluster_card(cluster: ClusterSettings, repository: Repository) -> str:
    """A configured cluster and what the repository holds of it; the server is not asked."""
    facts = {"Repository": repository.url}
    tone, told = Tone.CALM, ""
    try:
        backups = repository.backups(cluster.name)
        stored = format_bytes(sum(backup.stored_bytes for backup in backups))
        facts["Backups"] = f"{len(backups):,}, {stored}" if backups else "none yet"
        facts["Newest"] = ", ".join(
            f"{backup.name}, {format_bytes(backup.cluster_bytes)}" for backup in backups[:1]
        )
    except OpskitError as error:
        tone, told = Tone.BAD, f"The repository cannot be read: {error.message}."
        facts["What to do"] = error.hint
    facts["Schedule"] = f"{cluster.schedule} (cron, UTC)" if cluster.schedule else "none"
    facts["Retention"] = "configured" if cluster.retention else "none: nothing is ever removed"
    return draw_card(f"Cluster {cluster.name}", facts, tone=tone, told=told)


@card.register
def _backup(value: BaseBackup) -> str:
    return draw_card(
        f"Backup {value.name} of {value.cluster}",
        {
            "Kind": f"{value.kind}, {value.trigger}",
            "Because": value.reason,
            "Based on": value.parent or "",
            "Started": time_and_local(value.started_at),
            "Took": format_duration(value.stopped_at - value.started_at),
            "Unpacked": format_bytes(value.cluster_bytes),
            "Stored": f"{format_bytes(value.stored_bytes)} in {_count(value.volumes, 'volume')}",
            "Log": f"{value.start_lsn} to {value.stop_lsn} on timeline {value.timeline}",
            "PostgreSQL": f"{value.postgresql_version}, system identifier {value.system_identifier}",
            "Tablespaces": ", ".join(space.name for space in value.tablespaces),
            "Note": value.note,
        },
        tone=Tone.GOOD,
    )


@card.register
def _operation(value: Operation) -> str:
    ended = value.ended_at
    return draw_card(
        f"{str(value.kind).capitalize()} of {value.cluster}: {value.words}",
        {
            "Backup": value.backup or "",
            "Started": time_and_local(value.started_at),
            "Took": "" if ended is None else format_duration(ended - value.started_at),
            "By": f"{value.jupyter_user or value.actor} on {value.host}, process {value.pid}",
            "What to do": (value.error or {}).get("hint", ""),
            "Id": value.id,
        },
        tone=_TONES.get(value.status, Tone.CALM),
    )


@card.register
def _handle(value: OperationHandle) -> str | None:
    try:
        return _operation(value.refresh())
    except OpskitError:  # its line of text says why
        return None


@card.register
def _hold(value: Hold) -> str:
    return draw_card(
        f"Backup {value.backup} is held",
        {
            "Until": "it is released" if value.until is None else time_and_local(value.until),
            "By": value.by,
            "Since": time_and_local(value.placed_at),
            "Why": value.reason,
        },
    )


@card.register
def _restore(value: RestorePlan) -> str:
    recovery = value.recovery
    inside = {oid: place for oid, place in value.tablespaces.items() if place in value.folders}
    places = ", ".join(f"{oid} at {place}" for oid, place in inside.items())
    return draw_card(
        f"Plan: restore {value.backup.name} of {value.backup.cluster}",
        {
            "Into": f"{value.directory} ({value.layout})",
            "Tablespaces": places,
            "Writes": format_bytes(value.backup.cluster_bytes),
            "Reads": format_bytes(value.backup.stored_bytes),
            "As it was at": f"the backup's end, {time_and_local(value.backup.stopped_at)}"
            if recovery is None
            else str(recovery.target),
            "Because": "" if recovery is None else recovery.why,
            "WAL": "" if recovery is None else _wal(recovery),
            "Then": "held there, readable, until you move it on" if value.paused else "",
            "PostgreSQL": value.backup.postgresql_version,
        },
        told="Nothing is done yet.",
    )


@card.register
def _recovery(value: RecoveryPlan) -> str:
    stops = "where the backup or the archive ends" if value.stops_at is None else value.stops_at
    return draw_card(
        f"Plan: reach {value.target}",
        {
            "From": f"backup {value.backup.name} of {value.backup.cluster}",
            "Because": value.why,
            "WAL": _wal(value),
            "Stops at": str(stops),
        },
        told="Nothing is done yet.",
    )


@card.register
def _consolidate(value: ConsolidatePlan) -> str:
    backup, others = value.backup, value.chain[1:]
    return draw_card(
        f"Plan: make {backup.name} of {backup.cluster} a full backup",
        {
            "Put together with": ", ".join(other.name for other in others),
            "Stored now": format_bytes(backup.stored_bytes),
            "Stored then": f"about {format_bytes(value.estimated_bytes)}" if others else "",
        },
        told="It is a full backup already." if value.is_empty else "Nothing is done yet.",
    )


@card.register
def _expire(value: ExpirePlan) -> str:
    gone = [
        (
            d.backup.name,
            str(d.backup.trigger),
            format_bytes(d.backup.stored_bytes),
            "; ".join(d.reasons),
        )
        for d in value.decisions
        if not d.keep
    ]
    listed = table(["Goes", "Started by", "Stored", "Why"], gone[:_SHOWN], numbers=["Stored"]).html
    more = f"<p>and {len(gone) - _SHOWN:,} more</p>" if len(gone) > _SHOWN else ""
    return draw_card(
        f"Plan: remove {_count(len(gone), 'backup')} of {value.cluster}",
        {
            "Frees": format_bytes(value.freed_bytes),
            "Stay": _count(len(value.kept), "backup"),
            "Unfinished": ", ".join(value.abandoned),
            "WAL": _count(len(value.wal), "segment"),
        },
        told="There is nothing to remove." if value.is_empty else "Nothing is done yet.",
        below=f'<div style="overflow-x:auto">{listed}{more}</div>' if gone else "",
    )


@card.register
def _expired(value: Expired) -> str:
    return draw_card(
        f"Removed {_count(len(value.backups), 'backup')}",
        {
            "Freed": format_bytes(value.freed_bytes),
            "Backups": ", ".join(value.backups[:_SHOWN]) + (", …" * (len(value.backups) > _SHOWN)),
            "Unfinished": ", ".join(value.abandoned),
            "WAL": _count(value.wal_segments, "segment"),
            "Kept after all": "; ".join(f"{n}: {why}" for n, why in value.kept_after_all.items()),
        },
        tone=Tone.ODD if value.kept_after_all else Tone.GOOD,
    )


@card.register
def _wal_status(value: WalStatus) -> str:
    wrong = [finding for finding in value.findings if not finding.passed]
    behind = ""
    if value.behind_bytes is not None:
        behind = format_bytes(value.behind_bytes) if value.behind_bytes else "nothing"
    return draw_card(
        f"WAL archive of {value.cluster}: {'all is well' if not wrong else 'look at this'}",
        {
            "Ends": "" if value.end is None else f"{value.end} on timeline {value.timeline}",
            "Newest object": "" if value.stored_at is None else time_and_local(value.stored_at),
            "Missing of the server's": behind if value.server else "the server could not be asked",
            **{finding.name.capitalize(): finding.message for finding in value.findings},
            "What to do": " ".join(finding.hint for finding in wrong),
        },
        tone=Tone.BAD if wrong else Tone.GOOD,
    )


@card.register
def _copy(value: RestoredCopy) -> str:
    running = value.is_running
    directory = shlex.quote(str(value.directory))
    return draw_card(
        f"Copy of {value.cluster or 'a cluster'} {value.backup}".rstrip(),
        {
            "In": str(value.directory),
            "PostgreSQL": f"{value.major}, {'its server runs' if running else 'not running'}",
            "Target": value.target,
        },
        below=code_lines([f"opskit {'stop' if running else 'start'} {directory}"]),
    )


@card.register
def _facts(value: ClusterFacts) -> str:
    sizes = sorted(value.databases, key=lambda one: one.database_bytes or 0, reverse=True)
    names = [
        one.name if one.database_bytes is None else f"{one.name} {format_bytes(one.database_bytes)}"
        for one in sizes[:_SHOWN]
    ]
    more = f" and {len(sizes) - _SHOWN:,} more" if len(sizes) > _SHOWN else ""
    return draw_card(
        f"PostgreSQL {value.postgresql_version}{', a standby' if value.in_recovery else ''}",
        {
            "System identifier": value.system_identifier,
            "Databases": ", ".join(names) + more,
            "Together": format_bytes(value.databases_bytes),
            "Tablespaces": ", ".join(value.tablespace_names.values()),
            "Data checksums": "on" if value.data_checksums else "off",
            "WAL segments": format_bytes(value.wal_segment_bytes),
        },
    )


@card.register
def _run(value: CompletedRun) -> str:
    return draw_card(
        "Exit code 0" if value.exit_code == 0 else f"Failed with exit code {value.exit_code}",
        {},
        tone=Tone.BAD if value.exit_code else Tone.GOOD,
        below=code_lines(value.output.rstrip().splitlines()[-_SHOWN:]) if value.output else "",
    )


@card.register
def _audit(value: AuditVerdict) -> str:
    rows = [(f.subject, f.message) for f in value.findings[:_SHOWN]]
    more = len(value.findings) - len(rows)
    return draw_card(
        "Audit trail: as it was written"
        if value.passed
        else f"Audit trail: {_count(len(value.findings), 'finding')}",
        {
            "Looked at": f"{value.entries:,} entries, {value.reports:,} reports",
            "Last entry": f"{value.head.number}, SHA-256 {value.head.sha256}",
            "Notes": "; ".join(value.notes),
        },
        tone=Tone.GOOD if value.passed else Tone.BAD,
        below=(table(["What", "Finding"], rows).html if rows else "")
        + (f"<p>and {more:,} more</p>" if more else ""),
    )


def _wal(recovery: RecoveryPlan) -> str:
    return f"{_count(len(recovery.path.segments), 'segment')} on timeline {recovery.timeline}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s'[: number != 1]}"
