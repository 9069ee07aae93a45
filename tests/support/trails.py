"""An audit trail made by hand: a log and its reports, quickly, with a key or without; and ways to tamper with it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from opskit.evidence import make_statement, read_record
from opskit.evidence._record import PAYLOAD as STATEMENT
from opskit.evidence.keys import KeyFile, KeyRing, make_envelope
from opskit.evidence.trail import report_event
from opskit.model.audit import (
    PAYLOAD,
    START,
    AuditEntry,
    AuditEvent,
    AuditKind,
    Head,
    Signature,
    SignatureState,
    StoredEntry,
)

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)


class RememberingRing(KeyRing):
    """A key ring that checks each signature once: the same bytes are looked at many times."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._known: dict[tuple[bytes, str, Signature], SignatureState] = {}

    def check(self, payload: bytes, payload_type: str, signature: Signature) -> SignatureState:
        """As the real one."""
        asked = payload, payload_type, signature
        if asked not in self._known:
            self._known[asked] = super().check(*asked)
        return self._known[asked]


@dataclass(frozen=True)
class MadeTrail:
    """A trail that is whole; `reports` are the names of the reports, oldest first."""

    directory: Path
    entries: list[StoredEntry]
    reports: list[str]

    def report_entry(self, name: str) -> int:
        """The number of a report's entry."""
        return next(e.number for e in self.entries if f"{name}.json" in e.text)


def operation(number: int) -> AuditEvent:
    """A backup that ended."""
    at = BEGIN + timedelta(minutes=number)
    return AuditEvent(
        kind=AuditKind.OPERATION,
        what="backup",
        cluster="main",
        actor="operator",
        jupyter_user="ä\N{SNOWMAN}" if number % 7 == 0 else None,
        host="host",
        parameters={"note": f"number {number}", "trigger": "scheduled"},
        outcome="complete",
        started_at=at,
        ended_at=at + timedelta(seconds=30),
        backup=f"{at:%Y%m%dT%H%M%SZ}",
        operation=hashlib.md5(str(number).encode()).hexdigest(),
    )


def seal(number: int, previous: str, event: AuditEvent, key: KeyFile | None) -> StoredEntry:
    """An entry, signed with `key`."""
    at = BEGIN + timedelta(minutes=number % 100_000, seconds=31)
    entry = AuditEntry(number=number, at=at, previous=previous, event=event)
    return (entry.signed(key.sign(entry.payload(), PAYLOAD)) if key else entry).stored()


def write_report(reports: Path, name: str, head: Head | None, key: KeyFile | None) -> None:
    """File a report: a small notebook, a page, and their record."""
    notebook, page, record = (
        reports / f"{name}{suffix}" for suffix in (".ipynb", ".html", ".json")
    )
    notebook.parent.mkdir(parents=True, exist_ok=True)
    notebook.write_text(json.dumps({"cells": [], "metadata": {"name": name}}))
    page.write_text(f"<h1>{name}</h1>")
    run = {
        "runbook": "local_restore",
        "cluster": "main",
        "parameters": {"cluster": "main", "times": 1, "share": 0.25, "dry_run": False},
        "outcome": "passed",
        "started_at": "2026-11-01T00:00:00.000Z",
        "ended_at": "2026-11-01T00:00:09.000Z",
        "host": "host",
        "actor": "operator",
        "audit": {"head": head and head.as_dict(), "problems": []},
    }
    subjects = {
        "runbook:local_restore.ipynb": "0" * 64,
        f"{name}.ipynb": _sha256(notebook),
        f"{name}.html": _sha256(page),
    }
    statement = make_statement(subjects, run)
    record.write_bytes(statement if key is None else enveloped(statement, key))


def enveloped(statement: bytes, key: KeyFile) -> bytes:
    """A statement in a signed envelope."""
    return json.dumps(make_envelope(statement, STATEMENT, key.sign(statement, STATEMENT))).encode()


def make_trail(directory: Path, entries: int, reports: int, key: KeyFile | None) -> MadeTrail:
    """A log of that many entries, in which reports are spread evenly, the last one near the end."""
    every = entries // reports
    stored: list[StoredEntry] = []
    names: list[str] = []
    for number in range(1, entries + 1):
        last = stored[-1] if stored else None
        head = Head(number=number - 1, sha256=last.sha256 if last else START)
        event = operation(number)
        if number % every == every - 1 and len(names) < reports:
            at = BEGIN + timedelta(minutes=number)
            name = f"main/2026/11/{at:%Y%m%dT%H%M%SZ}-local_restore"
            write_report(directory, name, head, key)
            event = report_event(directory, read_record(directory / f"{name}.json"))
            names.append(name)
        stored.append(seal(number, head.sha256, event, key))
    return MadeTrail(directory=directory, entries=stored, reports=names)


def rechain(
    entries: Sequence[StoredEntry], start: int, key: KeyFile | None = None
) -> list[StoredEntry]:
    """The entries with numbers, links and digests made to fit from place `start` on: all that needs no trusted key."""
    fitted = list(entries[:start])
    for one in entries[start:]:
        entry = one.read()
        assert entry is not None
        entry = replace(
            entry,
            number=len(fitted) + 1,
            previous=fitted[-1].sha256 if fitted else START,
        )
        if key is not None:
            entry = entry.signed(key.sign(entry.payload(), PAYLOAD))
        fitted.append(entry.stored())
    return fitted


def edited(one: StoredEntry, **changes: Any) -> StoredEntry:
    """The entry with changes in what it tells, and its digest made to fit."""
    entry = one.read()
    assert entry is not None
    return replace(entry, event=replace(entry.event, **changes)).stored()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
