"""What commands print on stdout: JSON for programs, tables for people."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from opskit.cli._run import one_line
from opskit.model.backup import BaseBackup, write_record
from opskit.reports.format import format_bytes, format_duration, format_time

if TYPE_CHECKING:
    from rich.table import Table

    from opskit.demo import DemoResult
    from opskit.model.freshness import FreshnessFinding
    from opskit.operations.check import Finding
    from opskit.operations.restore import RestorePlan
    from opskit.reports.report import Report

BACKUP_KEYS = (
    "name",
    "cluster",
    "kind",
    "trigger",
    "status",
    "started_at",
    "stopped_at",
    "start_lsn",
    "stop_lsn",
    "timeline",
    "stored_bytes",
    "cluster_bytes",
    "parent",
    "note",
    "chain_length",
    "full_bytes",
    "reason",
)
_AMOUNTS = ("Took", "Size", "Stored")
_LAST_WIDTH = 16
_GAP = 2


def print_json(data: object) -> None:
    """Data for programs, with times as ISO 8601 in UTC."""
    typer.echo(json.dumps(data, ensure_ascii=False, indent=2, default=_plain))


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], optional: Sequence[str] = ()
) -> None:
    """A table for people, whose last column alone is broken into lines.

    It is as wide as it needs where nobody looks, so that nothing is cut. On a terminal that is too narrow the
    `optional` columns are left out, the first of them first.
    """
    from rich.cells import cell_len
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=10_000)
    widths = {
        heading: max(cell_len(one_line(cell)) for cell in (heading, *cells))
        for heading, *cells in zip(headings, *rows, strict=True)
    }
    widths[headings[-1]] = min(widths[headings[-1]], _LAST_WIDTH)
    out: list[str] = []
    while len(out) < len(optional) and _needed(widths, out) > console.width:
        out.append(optional[len(out)])
    left = [n for n, heading in enumerate(headings) if heading not in out]
    console.print(_table([headings[n] for n in left], [[row[n] for n in left] for row in rows]))


def _needed(widths: Mapping[str, int], out: Sequence[str]) -> int:
    return sum(width + _GAP for heading, width in widths.items() if heading not in out) - _GAP


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        justify: Literal["left", "right"] = "right" if heading in _AMOUNTS else "left"
        table.add_column(heading, justify=justify, no_wrap=heading != headings[-1], overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    return table


def print_facts(facts: Mapping[str, str]) -> None:
    """One thing, a line for each of its facts."""
    width = max(map(len, facts))
    for key, value in facts.items():
        typer.echo(f"{key:<{width}}  {one_line(value)}".rstrip())


def backup_rows(cluster: str, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of `Cluster.backup_rows` as they are printed, with the cluster."""
    return [{key: {**row, "cluster": cluster}[key] for key in BACKUP_KEYS} for row in rows]


def print_backups(rows: Sequence[Mapping[str, Any]], with_cluster: bool) -> None:
    """Backups as a table."""
    if not rows:
        typer.echo("no backups", err=True)
        return
    headings = [
        "Backup",
        "Kind",
        "Trigger",
        "Status",
        "Started (UTC)",
        "Took",
        "Size",
        "Stored",
        "Note",
    ]
    cells = [
        [
            str(row["name"] or ""),
            str(row["kind"] or ""),
            str(row["trigger"] or ""),
            str(row["status"]),
            _time(row["started_at"]).removesuffix(" UTC"),
            _duration(row["started_at"], row["stopped_at"]),
            _size(row["cluster_bytes"]),
            _size(row["stored_bytes"]),
            _note(row),
        ]
        for row in rows
    ]
    if with_cluster:
        headings.insert(0, "Cluster")
        cells = [[str(row["cluster"]), *line] for row, line in zip(rows, cells, strict=True)]
    print_table(headings, cells, optional=("Took", "Kind", "Stored", "Started (UTC)", "Trigger"))


def _note(row: Mapping[str, Any]) -> str:
    """What a backup is for; of an attempt, also why it failed."""
    failed = row["reason"] if row["status"] == "failed" else None
    return " — ".join(filter(None, (row["note"], failed)))


def backup_record(backup: BaseBackup) -> dict[str, Any]:
    """A backup as its record tells it."""
    record: dict[str, Any] = json.loads(write_record(backup))
    return record


def backup_facts(backup: BaseBackup) -> dict[str, str]:
    """A backup for people."""
    facts = {
        "name": backup.name,
        "cluster": backup.cluster,
        "system identifier": backup.system_identifier,
        "PostgreSQL": backup.postgresql_version,
        "kind": f"{backup.kind} ({backup.reason})" if backup.reason else str(backup.kind),
        "parent": backup.parent or "",
        "consolidated": f"{format_time(one.at)}, with {', '.join(one.chain)}"
        if (one := backup.consolidated)
        else "",
        "trigger": str(backup.trigger),
        "started": format_time(backup.started_at),
        "stopped": f"{format_time(backup.stopped_at)} ({_duration(backup.started_at, backup.stopped_at)})",
        "WAL": f"{backup.start_lsn} to {backup.stop_lsn} on timeline {backup.timeline}",
        "size": format_bytes(backup.cluster_bytes),
        "stored": f"{format_bytes(backup.stored_bytes)} in {backup.volumes} volume{'s'[: backup.volumes != 1]}",
        "data checksums": "on" if backup.data_checksums else "off",
        "superuser": backup.superuser,
        "note": backup.note,
    }
    for tablespace in backup.tablespaces:
        facts[f"tablespace {tablespace.oid}"] = (
            f"{tablespace.name!r} at {tablespace.location!r}, {format_bytes(tablespace.tablespace_bytes)}"
        )
    return {key: value for key, value in facts.items() if value}


def report_record(report: "Report", directory: Path) -> dict[str, Any]:
    """A run as the columns of `Cluster.reports` name it."""
    from opskit.reports.tables import report_rows

    [row] = report_rows([report], directory)
    seconds = report.duration and report.duration.total_seconds()
    return {
        ("duration_seconds" if key == "duration" else key): seconds if key == "duration" else value
        for key, value in row.items()
    }


def print_reports(reports: Sequence["Report"], with_cluster: bool) -> None:
    """Runs as a table."""
    if not reports:
        typer.echo("no reports", err=True)
        return
    headings = ["Started (UTC)", "Runbook", "Outcome", "Took", "Files", "By", "Reason"]
    cells = [
        [
            format_time(report.started_at).removesuffix(" UTC"),
            report.runbook,
            report.outcome,
            "" if report.duration is None else format_duration(report.duration),
            str(report.files or ""),
            report.actor,
            report.reason,
        ]
        for report in reports
    ]
    if with_cluster:
        headings.insert(0, "Cluster")
        cells = [[report.cluster, *line] for report, line in zip(reports, cells, strict=True)]
    print_table(headings, cells, optional=("By", "Took", "Files"))


def finding_data(finding: "Finding | FreshnessFinding") -> dict[str, Any]:
    """What a check found, for programs."""
    from opskit.model.freshness import FreshnessFinding, Severity

    severity = Severity.OK if finding.passed else Severity.CRITICAL
    if isinstance(finding, FreshnessFinding):
        severity = finding.severity
    return {
        "name": finding.name,
        "passed": finding.passed,
        "severity": str(severity),
        "message": finding.message,
        "hint": finding.hint,
    }


def print_findings(findings: "Iterable[Finding | FreshnessFinding]") -> None:
    """What a check found, each with what to do about it."""
    for finding in findings:
        typer.echo(
            f"{'ok  ' if finding.passed else 'FAIL'}  {finding.name}: {one_line(finding.message)}"
        )
        if finding.hint and not finding.passed:
            typer.echo(f"      HINT: {one_line(finding.hint)}")


def restore_facts(plan: "RestorePlan") -> dict[str, str]:
    """What a restore would do, for people."""
    backup = plan.backup
    facts = {
        "would restore": f"backup {backup.name} of cluster {backup.cluster!r}, PostgreSQL {backup.postgresql_version}",
        "writing": f"{format_bytes(backup.cluster_bytes)} below {str(plan.directory)!r}",
        "data directory": str(plan.data_directory),
    }
    for oid, place in plan.tablespaces.items():
        facts[f"tablespace {oid}"] = str(place)
    if plan.recovery is not None:
        recovery = plan.recovery
        count, timelines = len(recovery.path.names), {s.timeline for s in recovery.path.names}
        facts["target"] = str(recovery.target) + (", held there" if plan.paused else "")
        facts["because it is"] = recovery.why
        facts["timeline"] = " → ".join(map(str, sorted(timelines))) or str(recovery.timeline)
        facts["WAL"] = f"{count} segments, {format_bytes(recovery.path.stored_bytes)} stored"
        if recovery.path.end is not None:
            facts["WAL up to"] = str(recovery.path.end)
    return facts


def demo_facts(demo: "DemoResult") -> dict[str, str]:
    """A demo that runs, for people."""
    names = ", ".join(repr(database.name) for database in demo.databases)
    account = f" as {demo.account!r}" if demo.account else ""
    return {
        "server": f"PostgreSQL {demo.postgresql_version}, {demo.state}{account}, in {str(demo.server_directory)!r}",
        "databases": f"{names}; {format_bytes(demo.cluster_bytes)}",
        "connect": demo.psql_line,
        "configuration": str(demo.configuration),
        "WAL": f"streamed into the repository by process {demo.stream_pid}; log {str(demo.stream_log)!r}",
        "next": "opskit backup main",
    }


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if hasattr(value, "item"):  # numpy's scalars
        return value.item()
    return str(value)


def _time(value: datetime | None) -> str:
    return "" if value is None else format_time(value)


def _duration(start: datetime | None, end: datetime | None) -> str:
    return "" if start is None or end is None else format_duration(end - start)


def _size(value: float | None) -> str:
    return "" if value is None else format_bytes(value)
