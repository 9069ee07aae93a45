"""The whole audit trail looked at: log and reports, from a configuration or from files alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from opskit.config import Settings
from opskit.errors import InputError, OpskitError
from opskit.evidence._backups import Digest, compare_backups
from opskit.evidence.keys import KeyFile, KeyRing
from opskit.evidence.log import open_catalog, read_log
from opskit.evidence.reports import STAMP, FiledReport, ReportCheck, survey_reports
from opskit.model.audit import PAYLOAD, START, Head
from opskit.model.chain import AuditFinding, Fault, FoundEntry, Witness, verify_chain
from opskit.model.operation import Operation, OperationStatus
from opskit.model.shown import Shown

_ENDED = (OperationStatus.COMPLETE, OperationStatus.FAILED, OperationStatus.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditVerdict(Shown):
    """What a verification found.

    `entries` and `reports` are how many were looked at, `head` is the last entry: noted elsewhere, it shows later that
    the end was not cut off. `findings` name what is not as it was written, the first entry first, then reports by name;
    `notes` say what could not be looked at.
    """

    entries: int
    reports: int
    head: Head
    findings: tuple[AuditFinding, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        looked_at = f"{self.entries:,} entries and {self.reports:,} reports"
        if self.passed:
            return f"<opskit audit: {looked_at} are as they were written>"
        first = f"{self.findings[0].subject}: {self.findings[0].message}"
        return f"<opskit audit: {len(self.findings):,} findings in {looked_at}, the first: {first}>"

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def verify_audit(
    settings: Settings,
    *,
    keys: Sequence[Path] = (),
    head: str | None = None,
    digest: Digest | None = None,
) -> AuditVerdict:
    """Verify the configured log and reports.

    Parameters
    ----------
    keys
        The public keys to trust; by default those that are configured, and the public half of the configured key.
    head
        The digest of an entry that was noted elsewhere, and must be in the log.
    digest
        Gives the SHA-256 of an object of the repository, to compare the records of backups.

    Raises
    ------
    InputError
        A key cannot be used.
    StoreError
        The catalog cannot be read.
    """
    notes: list[str] = []
    # First: each tells of entries that are there by now.
    filed = survey_reports(settings.reports_directory)
    catalog = open_catalog(settings)
    try:
        # In this order: what has ended by the first look is entered, or told by the second, or seen by the third.
        operations = catalog.operations()
        pending = set(catalog.not_entered())
        found = [FoundEntry.of(one) for one in catalog.audit_entries()]
    finally:
        catalog.close()
    if pending:
        notes.append(
            f"{len(pending)} operations that ended are not entered yet; the next one to end enters them"
        )
    ring = KeyRing.read(keys) if keys else _configured(settings, notes)
    verdict = verify_files(
        found,
        filed,
        keys=ring,
        head=head,
        certificates=settings.audit.timestamp_certificates,
        authority=settings.audit.timestamp_authority is not None,
        digest=digest,
    )
    missing = _missing(operations, found, pending)
    return AuditVerdict(
        entries=verdict.entries,
        reports=verdict.reports,
        head=verdict.head,
        findings=(*verdict.findings, *missing),
        notes=(*notes, *verdict.notes),
    )


def verify_offline(
    log: Path | None,
    reports: Path | None,
    *,
    keys: Sequence[Path] = (),
    head: str | None = None,
    certificates: Sequence[Path] = (),
) -> AuditVerdict:
    """Verify from files alone: an exported log or an SQLite catalog, and a directory of reports.

    Raises
    ------
    InputError
        A key cannot be used; or the directory is none.
    NotFoundError
        There is no such log.
    """
    if reports is not None and not reports.is_dir():
        raise InputError(f"{str(reports)!r} is no directory of reports")
    filed = None if reports is None else survey_reports(reports)
    return verify_files(
        None if log is None else [FoundEntry.of(one) for one in read_log(log)],
        filed,
        keys=KeyRing.read(keys) if keys else None,
        head=head,
        certificates=certificates,
    )


def verify_files(
    found: Sequence[FoundEntry] | None,
    filed: Sequence[FiledReport] | None,
    *,
    keys: KeyRing | None = None,
    head: str | None = None,
    certificates: Sequence[Path] = (),
    authority: bool = False,
    digest: Digest | None = None,
) -> AuditVerdict:
    """Verify a log, reports, or both against each other; no server, catalog or network is asked.

    Parameters
    ----------
    found, filed
        The entries in the order in which they were found, and the reports; `None` for what there is not.
    authority
        Whether reports should be time-stamped.
    digest
        As for `verify_audit`.
    """
    notes = []
    read = None if found is None else [one.entry for one in found if one.entry is not None]
    check = ReportCheck(filed or (), read, keys=keys, certificates=certificates)
    if filed is not None:
        check.run()
    else:
        notes.append("reports were not checked: no directory is given")
    findings: list[AuditFinding] = []
    if found is None:
        notes.append("entries were not checked: no audit log is given")
    else:
        findings, told = _log_findings(found, keys, check.witnesses, head)
        notes += told
    notes += _report_notes(check, keys, certificates, authority)
    differing, told = compare_backups(check.reports, digest, read or ())
    notes += told
    last = max(found or (), key=lambda one: one.number, default=None)
    return AuditVerdict(
        entries=len(found or ()),
        reports=len(check.reports),
        head=Head(number=last.number, sha256=last.sha256) if last else Head(number=0, sha256=START),
        findings=(*findings, *check.findings, *differing),
        notes=tuple(notes),
    )


def _log_findings(
    found: Sequence[FoundEntry],
    keys: KeyRing | None,
    witnesses: Sequence[Witness],
    head: str | None,
) -> tuple[list[AuditFinding], list[str]]:
    verdict = verify_chain(
        found,
        check=None if keys is None else lambda payload, s: keys.check(payload, PAYLOAD, s),
        witnesses=witnesses,
    )
    findings, notes = list(verdict.findings), list(verdict.notes)
    last = max((one.number for one in found), default=0)
    if head is None:
        seen = max((witness.head.number for witness in witnesses), default=0)
        if last > seen:
            which = f"entries {seen + 1} to {last}" if last > seen + 1 else f"entry {last}"
            notes.append(
                f"no report was filed after {which}, so entries cut off behind them would not be noticed"
            )
    elif head not in {one.sha256 for one in found}:
        message = f"no entry has the digest {head!r}: the end was cut off, or the log was rewritten"
        findings.append(
            AuditFinding(
                fault=Fault.TRUNCATED, subject=f"entry {last + 1}", number=last + 1, message=message
            )
        )
    return findings, notes


def _report_notes(
    check: ReportCheck, keys: KeyRing | None, certificates: Sequence[Path], authority: bool
) -> list[str]:
    notes = []
    if check.on_their_way:
        notes.append(f"{_count(check.on_their_way)} being filed, or left by a run that was lost")
    if keys is not None and check.unsigned:
        notes.append(
            f"{_count(check.unsigned)} not signed; what the log says of them is all there is"
        )
    stamped = [r for r in check.reports if STAMP in r.files]
    if stamped and not certificates:
        notes.append("the signatures of time stamps were not checked: no certificate is given")
    if authority and len(stamped) < len(check.reports):
        notes.append(
            f"{_count([r.name for r in check.reports if STAMP not in r.files])} not time-stamped"
        )
    return notes


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} reports are" if len(names) > 1 else f"the report {names[0]!r} is"


def _configured(settings: Settings, notes: list[str]) -> KeyRing | None:
    audit = settings.audit
    ring = list(KeyRing.read(audit.public_keys).keys)
    if audit.key is not None:
        try:
            ring.append(KeyFile(audit.key).public_key)
        except OpskitError as error:
            notes.append(f"the configured key was not used: {error}")
    return KeyRing(ring) if ring else None


def _missing(
    operations: Sequence[Operation], found: Sequence[FoundEntry], pending: set[str]
) -> list[AuditFinding]:
    """Operations that ended since the log began, and have no entry."""
    entries = [one.entry for one in found if one.entry is not None]
    begun = min((entry.at for entry in entries), default=None)
    known = {entry.event.operation for entry in entries} | pending
    return [
        AuditFinding(
            fault=Fault.REMOVED,
            subject=f"operation {operation.id}",
            number=len(found) + 1,
            message=f"the {operation.kind} {operation.id!r} of {operation.cluster!r} has ended, but has no entry",
        )
        for operation in reversed(operations)
        if operation.status in _ENDED
        and operation.id not in known
        and begun is not None
        and operation.ended_at is not None
        and operation.ended_at > begun
    ]
