"""Reports as runs leave them, made without running anything."""

import fcntl
import hashlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from opskit.evidence import make_statement

BEGIN = datetime(2026, 11, 22, 2, tzinfo=UTC)


def run_of(number: int = 0, **changed: Any) -> dict[str, Any]:
    """What a report says of its run, the `number`-th hour after the first."""
    started = BEGIN + timedelta(hours=number)
    return {
        "format": 1,
        "runbook": "scheduled_backup",
        "cluster": "main",
        "parameters": {"cluster": "main"},
        "outcome": "passed",
        "reason": "",
        "started_at": _stamp(started),
        "ended_at": _stamp(started + timedelta(seconds=134)),
        "duration_seconds": 134.0,
        "host": "db1",
        "actor": "operator",
        "opskit_version": "1.0",
        "steps": [],
        "checks": [{"what": "one is one", "result": "passed", "detail": ""}],
        **changed,
    }


def write_report(reports: Path, run: dict[str, Any], *, recorded: bool = True) -> Path:
    """File a report as `opskit.runbooks` does; the path of its notebook."""
    started = datetime.fromisoformat(run["started_at"])
    place = reports / str(run["cluster"]) / f"{started:%Y}" / f"{started:%m}"
    place.mkdir(parents=True, exist_ok=True)
    stem = f"{started:%Y%m%dT%H%M%SZ}-{run['runbook']}"
    contents = {
        ".ipynb": json.dumps({"cells": [], "metadata": {"opskit": run}, "nbformat": 4}).encode(),
        ".html": b"<!DOCTYPE html><title>a report</title>",
    }
    name = (place / stem).relative_to(reports).as_posix()
    for suffix, content in contents.items():
        (place / f"{stem}{suffix}").write_bytes(content)
    if recorded:
        subjects = {f"{name}{s}": hashlib.sha256(c).hexdigest() for s, c in contents.items()}
        (place / f"{stem}.json").write_bytes(make_statement(subjects, run))
    return place / f"{stem}.ipynb"


@contextmanager
def trace(
    reports: Path, run: dict[str, Any], *, held: bool, host: str | None = None
) -> Iterator[Path]:
    """The hidden folder of a run, its lock `held` as long as this lasts; it is of this host unless one is named."""
    started = datetime.fromisoformat(run["started_at"])
    place = reports / run["cluster"] / f"{started:%Y}" / f"{started:%m}"
    work = place / f".{started:%Y%m%dT%H%M%SZ}-{run['runbook']}.run"
    work.mkdir(parents=True)
    order = {**run, "host": host or socket.gethostname()}
    (work / "order.json").write_text(json.dumps(order))
    lock = os.open(work / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    if held:
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield work
    finally:
        os.close(lock)


def _stamp(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
