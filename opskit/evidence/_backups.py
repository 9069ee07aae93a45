"""The records of backups, compared with the digests that reports keep of them."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from opskit.evidence.reports import FiledReport
from opskit.model.audit import REPLACED, AuditEntry, AuditKind
from opskit.model.chain import AuditFinding, Fault
from opskit.model.operation import OperationKind

_RECORD = re.compile(r"[a-z0-9][a-z0-9_-]*/backups/\w+/backup\.json", re.ASCII)
# The SHA-256 of an object of the repository, by its name; `None` when it is not there (any more).
Digest = Callable[[str], str | None]


def compare_backups(
    reports: Sequence[FiledReport], digest: Digest | None, entries: Iterable[AuditEntry] = ()
) -> tuple[list[AuditFinding], list[str]]:
    """What differs, and what could not be compared; each record of a backup is looked at once.

    A record that took another's place by a consolidation that `entries` tell of is what the reports on the other one
    vouch for.
    """
    kept: dict[str, dict[str, str]] = {}
    for report in reports:
        for name, sha256 in report.record.subjects.items() if report.record else ():
            if _RECORD.fullmatch(name):
                kept.setdefault(name, {}).setdefault(sha256, report.name)
    if digest is None:
        return [], [
            "the records of backups were not compared: no repository is given"
        ] if kept else []
    findings, gone = [], 0
    replaced = _replaced(entries)
    for name, witnesses in sorted(kept.items()):
        found = digest(name)
        gone += found is None
        findings += [
            _differs(name, witness)
            for sha256, witness in witnesses.items()
            if found is not None and found not in _successors(sha256, replaced.get(name, {}))
        ]
    if not gone:
        return findings, []
    told = "1 backup is" if gone == 1 else f"{gone:,} backups are"
    return findings, [f"{told} not in the repository any more, and could not be compared"]


def _replaced(entries: Iterable[AuditEntry]) -> dict[str, dict[str, set[str]]]:
    """By the name of a backup's record: by what, by their digests, records were replaced."""
    replaced: dict[str, dict[str, set[str]]] = {}
    for entry in entries:
        event = entry.event
        if (event.kind, event.what) != (AuditKind.OPERATION, OperationKind.CONSOLIDATE):
            continue
        before, after = (event.parameters.get(key) for key in REPLACED)
        if isinstance(before, str) and isinstance(after, str):
            name = f"{event.cluster}/backups/{event.parameters.get('backup')}/backup.json"
            replaced.setdefault(name, {}).setdefault(before, set()).add(after)
    return replaced


def _successors(sha256: str, replaced: Mapping[str, set[str]]) -> set[str]:
    """The digest, and those of the records that took its place."""
    found, looked_at = {sha256}, set[str]()
    while found > looked_at:
        for one in found - looked_at:
            looked_at.add(one)
            found = found | replaced.get(one, set())
    return found


def _differs(name: str, report: str) -> AuditFinding:
    backup = name.removesuffix("/backup.json")
    return AuditFinding(
        fault=Fault.EDITED,
        subject=f"backup {backup}",
        number=0,
        message=f"the record of backup {backup!r} is not the one that report {report!r} vouches for",
    )
