"""Backups, operations, reports as DataFrames. The columns, their order and types are promised, also when empty."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from opskit.model.audit import StoredEntry
from opskit.model.backup import BaseBackup
from opskit.model.operation import Operation
from opskit.operations.wal_gaps import TimelineWal
from opskit.reports.listed import backup_rows
from opskit.reports.report import Report

TEXT, BYTES, NUMBER, TIME = "string", "Int64", "Int64", "datetime64[us, UTC]"
DURATION = "timedelta64[us]"

_BACKUPS = {
    "name": TEXT,
    "kind": TEXT,
    "trigger": TEXT,
    "status": TEXT,
    "started_at": TIME,
    "stopped_at": TIME,
    "start_lsn": TEXT,
    "stop_lsn": TEXT,
    "timeline": NUMBER,
    "cluster_bytes": BYTES,
    "stored_bytes": BYTES,
    "parent": TEXT,
    "note": TEXT,
    "chain_length": NUMBER,
    "full_bytes": BYTES,
    "reason": TEXT,
}
_OPERATIONS = {
    "id": TEXT,
    "kind": TEXT,
    "status": TEXT,
    "backup": TEXT,
    "actor": TEXT,
    "host": TEXT,
    "started_at": TIME,
    "ended_at": TIME,
    "phase": TEXT,
    "done_bytes": BYTES,
    "expected_bytes": BYTES,
    "error": TEXT,
}
_AUDIT = {
    "number": NUMBER,
    "entered_at": TIME,
    "kind": TEXT,
    "what": TEXT,
    "outcome": TEXT,
    "actor": TEXT,
    "jupyter_user": TEXT,
    "host": TEXT,
    "started_at": TIME,
    "ended_at": TIME,
    "parameters": TEXT,
    "backup": TEXT,
    "operation": TEXT,
    "report": TEXT,
    "keyid": TEXT,
    "sha256": TEXT,
}
_WAL = {
    "timeline": NUMBER,
    "first": TEXT,
    "last": TEXT,
    "start_lsn": TEXT,
    "end_lsn": TEXT,
    "segments": NUMBER,
    "stored_bytes": BYTES,
}

_REPORTS = {
    "started_at": TIME,
    "cluster": TEXT,
    "runbook": TEXT,
    "outcome": TEXT,
    "reason": TEXT,
    "duration": DURATION,
    "actor": TEXT,
    "host": TEXT,
    "checks_passed": NUMBER,
    "checks_failed": NUMBER,
    "checks_not_run": NUMBER,
    "files": TEXT,
    "signed": "boolean",
    "notebook": TEXT,
    "html": TEXT,
    "record": TEXT,
}


def backups_table(
    backups: Iterable[BaseBackup],
    operations: Iterable[Operation],
    parents: Mapping[str, str | None] | None = None,
) -> pd.DataFrame:
    """Backups as a table, newest first; parameters as `opskit.reports.listed.backup_rows`.

    Returns
    -------
    DataFrame
        One row a backup: name, kind (``full``, ``incremental``; of an attempt what was asked for, ``auto`` until it is
        known), trigger, status (``complete``, ``running``, ``failed``), started_at, stopped_at
        (UTC), start_lsn, stop_lsn (texts), timeline, cluster_bytes, stored_bytes, parent, note, chain_length (how many
        backups it takes to restore it), full_bytes (what it stores if it is full, else about what a full one would),
        reason (why it is full or incremental; why it failed). The index counts rows.
    """
    return typed_table(backup_rows(backups, operations, parents), _BACKUPS)


def operations_table(operations: Sequence[Operation]) -> pd.DataFrame:
    """Operations as a table, in the given order.

    Returns
    -------
    DataFrame
        One row an operation: id, kind, status, backup, actor, host, started_at, ended_at (UTC), phase, done_bytes,
        expected_bytes (an estimate), error (its message). The index counts rows.
    """
    rows = [
        {column: getattr(operation, column, None) for column in _OPERATIONS}
        | {
            "phase": operation.progress.phase,
            "done_bytes": operation.progress.bytes_done,
            "expected_bytes": operation.progress.bytes_expected,
            "error": (operation.error or {}).get("message"),
        }
        for operation in operations
    ]
    return typed_table(rows, _OPERATIONS)


def audit_table(stored: Iterable[StoredEntry], cluster: str) -> pd.DataFrame:
    """The entries of the audit log on a cluster as a table, newest first; what cannot be read as one is left out.

    Returns
    -------
    DataFrame
        One row an entry: number, entered_at (UTC), kind (``operation``, ``report``), what, outcome, actor,
        jupyter_user, host, started_at, ended_at (UTC), parameters (JSON), backup, operation, report (the path of its
        record below the reports), keyid (who signed it, unless nobody did), sha256. The index counts rows.
    """
    rows = []
    for one in stored:
        entry = one.read()
        if entry is None or entry.event.cluster != cluster:
            continue
        event = entry.event
        own = {column: getattr(event, column, None) for column in _AUDIT}
        rows.append(
            own
            | {
                "number": entry.number,
                "entered_at": entry.at,
                "parameters": json.dumps(dict(event.parameters), ensure_ascii=False),
                "report": event.report and event.report.path,
                "keyid": entry.signature and entry.signature.keyid,
                "sha256": one.sha256,
            }
        )
    return typed_table(rows[::-1], _AUDIT)


def wal_table(timelines: Iterable[TimelineWal]) -> pd.DataFrame:
    """The contiguous ranges of a WAL archive as a table, by rising timeline and address.

    Returns
    -------
    DataFrame
        One row a range: timeline, first, last (segments, both of the range), start_lsn, end_lsn (texts), segments,
        stored_bytes. The end of the last range counts the beginning of the next segment, where that is stored.
        Between two rows of a timeline is a gap. The index counts rows.
    """
    rows = []
    for one in timelines:
        for held in one.ranges:
            follows = one.partial is not None and one.partial.segment == held.last.next()
            rows.append(
                {
                    "timeline": one.timeline,
                    "first": held.first.name,
                    "last": held.last.name,
                    "start_lsn": held.start,
                    "end_lsn": one.end if follows else held.end,
                    "segments": held.last.number - held.first.number + 1,
                    "stored_bytes": held.stored_bytes,
                }
            )
    return typed_table(rows, _WAL)


def report_rows(reports: Iterable[Report], directory: Path) -> list[dict[str, Any]]:
    """Runs as plain values by column, in the given order; paths are below `directory`, the reports' own."""
    rows = []
    for report in reports:
        paths = {s: str(directory / f"{report.name}{s}") for s in report.suffixes}
        changed = f": {report.changed}" if report.changed else ""
        rows.append(
            {column: getattr(report, column, None) for column in _REPORTS}
            | dict(
                zip(
                    ("checks_passed", "checks_failed", "checks_not_run"), report.checks, strict=True
                )
            )
            | {"files": None if report.files is None else f"{report.files}{changed}"}
            | {"notebook": paths.get(".ipynb"), "html": paths.get(".html")}
            | {"record": paths.get(".json")}
        )
    return rows


def reports_table(reports: Iterable[Report], directory: Path) -> pd.DataFrame:
    """Runs of runbooks as a table, in the given order.

    Parameters
    ----------
    directory
        Where the reports are.

    Returns
    -------
    DataFrame
        One row a run: started_at (UTC), cluster, runbook, outcome (``passed``, ``failed``, ``aborted``, ``died``,
        ``running``, ``unknown``), reason, duration, actor, host, checks_passed, checks_failed, checks_not_run, files
        (``as recorded``, ``changed: …`` with what differs from the record, ``no record``, ``not readable``; missing
        while it runs), signed (whether the record carries a signature, of whatever worth), and the paths notebook,
        html, record, missing where there is no such file. The index counts rows.
    """
    return typed_table(report_rows(reports, directory), _REPORTS)


def typed_table(rows: list[dict[str, Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    """Rows as a table of the given columns and types, which it has also when there is no row."""
    return pd.DataFrame(
        {
            column: pd.Series([_plain(row[column], dtype) for row in rows], dtype=dtype)
            for column, dtype in columns.items()
        }
    )


def _plain(value: Any, dtype: str) -> Any:
    return str(value) if dtype == TEXT and value is not None else value
