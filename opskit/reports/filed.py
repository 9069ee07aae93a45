"""Reports as they lie in their directory: what each says of its run, and whether its files are as its record says.

What was read is kept and not read again as long as the files of a report have the same sizes and times, so that a
directory of thousands is looked through in a moment. Files that were compared with the digests of their record once
are not compared again either; that the records themselves are genuine, only ``opskit audit verify`` tells.
"""

import fcntl
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from opskit.errors import OpskitError
from opskit.evidence import Record, read_record
from opskit.evidence.reports import wrong_files
from opskit.reports.report import Files, Report, ReportedBackup

_STEM = re.compile(r"\d{8}T\d{6}Z-(.+?)(?:-\d+)?")
_TRACE = re.compile(r"\.(.+)\.run")
_SUFFIXES = (".ipynb", ".html", ".json")

Signature = list[list[int | str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What was read of a report, and the sizes and times that its files had then."""

    signature: Signature
    report: Report


def look_through(directory: Path, kept: Mapping[str, Kept], cluster: str = "*") -> dict[str, Kept]:
    """Every report below `directory`, and every trace of a run, by name; runs of one `cluster` if that is named.

    Parameters
    ----------
    kept
        What was read before; of a report whose files are unchanged since, nothing is read.
    """
    found: dict[str, Kept] = {}
    for month in directory.glob(f"{cluster}/[0-9][0-9][0-9][0-9]/[0-9][0-9]"):
        place = month.relative_to(directory).as_posix()
        signatures, traces = _month(month)
        for stem in traces:
            # Where there is a record, the run is filed, and the trace about to be cleared.
            if ".json" not in _suffixes(signatures.get(stem, [])):
                with suppress(OSError, ValueError, KeyError, TypeError):
                    trace = _trace(month / f".{stem}.run", place, stem)
                    found[trace.name] = Kept(signature=[], report=trace)
        for stem, signature in signatures.items():
            name = f"{place}/{stem}"
            before = kept.get(name)
            if name in found:
                continue
            if before is not None and before.signature == signature:
                found[name] = before
            else:
                found[name] = Kept(signature=signature, report=_report(directory, name, signature))
    return found


def _month(month: Path) -> tuple[dict[str, Signature], list[str]]:
    """The files of each report in a folder, with what changes when they do, and the traces of runs."""
    signatures: dict[str, Signature] = {}
    traces = []
    with suppress(FileNotFoundError), os.scandir(month) as entries:
        for entry in entries:
            stem, suffix = os.path.splitext(entry.name)  # noqa: PTH122  30,000 of them
            if suffix in _SUFFIXES and _STEM.fullmatch(stem):
                with suppress(FileNotFoundError):
                    stat = entry.stat()
                    times = (stat.st_mtime_ns, stat.st_ctime_ns)
                    signatures.setdefault(stem, []).append(
                        [suffix, stat.st_size, *times, stat.st_ino]
                    )
            elif match := _TRACE.fullmatch(entry.name):
                traces.append(match[1])
    for signature in signatures.values():
        signature.sort()
    return signatures, traces


def _suffixes(signature: Signature) -> tuple[str, ...]:
    return tuple(str(state[0]) for state in signature)


def _report(directory: Path, name: str, signature: Signature) -> Report:
    suffixes = _suffixes(signature)
    if not all(os.access(directory / f"{name}{suffix}", os.R_OK) for suffix in suffixes):
        report = _untold(name, "its files belong to another account")
        return replace(report, suffixes=suffixes, files=Files.NOT_READABLE)
    record: Record | None = None
    unreadable = ""
    if ".json" in suffixes:
        try:
            record = read_record(directory / f"{name}.json")
        except OpskitError as error:
            unreadable = error.message
    run = record.predicate if record is not None else _metadata(directory / f"{name}.ipynb")
    try:
        report = _told(name, run)
    except (KeyError, ValueError, TypeError, AttributeError):
        report = _untold(name)
    report = replace(report, suffixes=suffixes, checked_at=datetime.now(UTC))
    if record is not None:
        changed = _differences(directory, name, record)
        files = Files.CHANGED if changed else Files.AS_RECORDED
        return replace(report, files=files, changed=changed, signed=record.is_signed)
    if unreadable:
        return replace(report, files=Files.CHANGED, changed=unreadable)
    return replace(report, files=Files.NO_RECORD)


def _told(name: str, run: Mapping[str, Any]) -> Report:
    """What the record of a run says."""
    results = [check["result"] for check in run["checks"]]
    return Report(
        name=name,
        runbook=str(run["runbook"]),
        cluster=str(run["cluster"]),
        outcome=str(run["outcome"]),
        reason=str(run["reason"]),
        started_at=datetime.fromisoformat(run["started_at"]).astimezone(UTC),
        duration=timedelta(seconds=run["duration_seconds"]),
        actor=str(run["actor"]),
        host=str(run["host"]),
        checks=(results.count("passed"), results.count("failed"), results.count("not run")),
        backups=tuple(_backups(run)),
    )


def _backups(run: Mapping[str, Any]) -> Iterator[ReportedBackup]:
    """Those that the record tells enough of."""
    for backup in run.get("backups", ()):
        with suppress(KeyError, ValueError, TypeError):
            yield ReportedBackup(
                name=str(backup["name"]),
                started_at=datetime.fromisoformat(backup["started_at"]).astimezone(UTC),
                duration=timedelta(seconds=backup["duration_seconds"]),
                stored_bytes=int(backup["stored_bytes"]),
            )


def _untold(name: str, why: str = "neither record nor notebook say how it ended") -> Report:
    """A report by its name alone, since nothing that it says can be read."""
    cluster, _, _, stem = name.split("/")
    match = _STEM.fullmatch(stem)
    assert match is not None
    return Report(
        name=name,
        runbook=match[1],
        cluster=cluster,
        outcome="unknown",
        reason=why,
        started_at=_time_of(stem),
    )


def _time_of(stem: str) -> datetime:
    try:
        return datetime.strptime(stem[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


def _metadata(notebook: Path) -> Mapping[str, Any]:
    """What reports that were filed before there were records say in their notebook."""
    try:
        run = json.loads(notebook.read_bytes())["metadata"]["opskit"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return run if isinstance(run, dict) else {}


def _differences(directory: Path, name: str, record: Record) -> str:
    """What of the report is not as its record says, in words; nothing when all is."""
    try:
        wrong = wrong_files(directory, record)
    except OSError as error:
        return f"a file cannot be read: {error.strerror}"
    return ", ".join(text.replace(f" of report {name!r}", "") for text in wrong)


def _trace(trace: Path, place: str, stem: str) -> Report:
    """A run that goes on, or was lost; see `opskit.runbooks._filing`, which makes these folders."""
    order = json.loads((trace / "order.json").read_text(encoding="utf-8"))
    ours = order["host"] == socket.gethostname()
    if _is_locked(trace / "lock"):
        outcome, reason = "running", ""
    elif ours:
        outcome, reason = _noted(trace / "lock")
    else:
        outcome = "unknown"
        reason = f"it began on {order['host']}; whether it goes on cannot be told from here"
    return Report(
        name=f"{place}/{stem}",
        runbook=str(order["runbook"]),
        cluster=str(order["cluster"]),
        outcome=outcome,
        reason=reason,
        started_at=datetime.fromisoformat(order["started_at"]).astimezone(UTC),
        actor=str(order["actor"]),
        host=str(order["host"]),
    )


def _noted(lock: Path) -> tuple[str, str]:
    """How a run of this host ended that nobody answers for: as it noted itself (`opskit.runbooks._lost`), or lost."""
    try:
        end = json.loads(lock.read_bytes())["interruption"]
        if end is None:
            return "unknown", "it ended, and its report is not filed yet"
        return str(end["outcome"]), str(end["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        return "died", "every process of the run was lost"


def _is_locked(lock: Path) -> bool:
    """Whether the process that carries out a run holds its lock."""
    descriptor = os.open(lock, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def newest_first(found: Mapping[str, Kept]) -> Iterator[Report]:
    """The reports that were found, by falling start."""
    reports = (kept.report for kept in found.values())
    return iter(sorted(reports, key=lambda report: (report.started_at, report.name), reverse=True))
