"""The records of backups, compared with the digests that reports keep of them."""

import re
from collections.abc import Callable, Sequence

from opskit.evidence.reports import FiledReport
from opskit.model.chain import AuditFinding, Fault

_RECORD = re.compile(r"[a-z0-9][a-z0-9_-]*/backups/\w+/backup\.json", re.ASCII)
# The SHA-256 of an object of the repository, by its name; `None` when it is not there (any more).
Digest = Callable[[str], str | None]


def compare_backups(
    reports: Sequence[FiledReport], digest: Digest | None
) -> tuple[list[AuditFinding], list[str]]:
    """What differs, and what could not be compared; each record of a backup is looked at once."""
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
    for name, witnesses in sorted(kept.items()):
        found = digest(name)
        gone += found is None
        findings += [
            _differs(name, witness)
            for sha256, witness in witnesses.items()
            if found not in (None, sha256)
        ]
    if not gone:
        return findings, []
    told = "1 backup is" if gone == 1 else f"{gone:,} backups are"
    return findings, [f"{told} not in the repository any more, and could not be compared"]


def _differs(name: str, report: str) -> AuditFinding:
    backup = name.removesuffix("/backup.json")
    return AuditFinding(
        fault=Fault.EDITED,
        subject=f"backup {backup}",
        number=0,
        message=f"the record of backup {backup!r} is not the one that report {report!r} vouches for",
    )
