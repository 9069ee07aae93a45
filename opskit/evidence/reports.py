"""Reports as they lie on the disk, compared with their records and with the audit log.

A report is a notebook, a page and a record of one name, and maybe a time stamp. Nothing is taken from a file's date.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from opskit.errors import IntegrityError
from opskit.evidence._record import Record, read_record
from opskit.model.audit import AuditEntry, Head, SignatureState
from opskit.model.chain import AuditFinding, Fault, Witness

if TYPE_CHECKING:
    from opskit.evidence.keys import KeyRing

RECORD, STAMP = ".json", ".tsr"
MASTER = "runbook:"  # begins the name of a subject that is a master: no cluster can be called so
_PARTS = {".ipynb": "notebook", ".html": "page"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FiledReport:
    """What lies under one name: ``main/2026/11/<time>-<runbook>``.

    `why` says why `record` is `None`. `is_on_its_way` while the run's own directory is there: its entry follows.
    """

    name: str
    files: Mapping[str, Path]
    record: Record | None
    why: str = ""
    is_on_its_way: bool = False


def survey_reports(reports: Path) -> list[FiledReport]:
    """What lies below the directory of the reports, by name; runs that go on are hidden and left out."""
    found: dict[str, dict[str, Path]] = {}
    for path in reports.glob("*/*/*/*"):
        if not path.name.startswith(".") and path.suffix in (*_PARTS, RECORD, STAMP):
            name = path.relative_to(reports).with_suffix("").as_posix()
            found.setdefault(name, {})[path.suffix] = path
    return [_report(reports, name, found[name]) for name in sorted(found)]


def _report(reports: Path, name: str, files: Mapping[str, Path]) -> FiledReport:
    directory, _, stem = name.rpartition("/")
    under_way = (reports / directory / f".{stem}.run").is_dir()
    record, why = None, "it has no record"
    if RECORD in files:
        try:
            record, why = read_record(files[RECORD]), ""
        except (IntegrityError, LookupError) as error:
            why = str(error)
    return FiledReport(name=name, files=files, record=record, why=why, is_on_its_way=under_way)


def wrong_files(reports: Path, record: Record) -> list[str]:
    """What about the files beside a record is not as the record says; empty when all is well."""
    name = record.path.relative_to(reports).with_suffix("").as_posix()
    files = {s: p for s in _PARTS if (p := record.path.with_suffix(s)).exists()}
    filed = FiledReport(name=name, files=files, record=record)
    return [message for _, message in _file_faults(filed, record, {})]


class ReportCheck:
    """Reports held against the entries of a log; `entries` is `None` when there is no log to hold them against."""

    def __init__(
        self,
        reports: Sequence[FiledReport],
        entries: Sequence[AuditEntry] | None,
        *,
        keys: "KeyRing | None" = None,
        certificates: Sequence[Path] = (),
    ) -> None:
        self.reports, self._entries = reports, entries or ()
        self._has_log, self._keys, self._certificates = entries is not None, keys, certificates
        self._by_path: dict[str, list[AuditEntry]] = {}
        for entry in self._entries:
            if entry.event.report is not None:
                self._by_path.setdefault(entry.event.report.path, []).append(entry)
        self._last = max((entry.number for entry in self._entries), default=0)
        self._homes = dict(_homes(reports))
        self.findings: list[AuditFinding] = []
        self.witnesses: list[Witness] = []
        self.unsigned: list[str] = []
        self.on_their_way: list[str] = []

    def run(self) -> None:
        """Look at every report, and for every report that the log knows of."""
        for report in self.reports:
            if report.is_on_its_way and f"{report.name}{RECORD}" not in self._by_path:
                self.on_their_way.append(report.name)
                continue
            faults = self._faults(report)
            fault = next(faults, None)
            if fault is not None:
                self._add(*fault, report.name)
        there = {f"{report.name}{RECORD}" for report in self.reports}
        for path, entries in sorted(self._by_path.items()):
            if path not in there:
                name = path.removesuffix(RECORD)
                told = f"missing: entry {entries[0].number} knows it"
                self._add(Fault.REMOVED, told, name)

    def _add(self, fault: Fault, told: str, name: str) -> None:
        entries = self._by_path.get(f"{name}{RECORD}")
        number = entries[0].number if entries else self._last + 1
        self.findings.append(
            AuditFinding(
                fault=fault,
                subject=f"report {name}",
                number=number,
                message=f"report {name!r} is {told}" if fault in _ADJECTIVES else told,
            )
        )

    def _faults(self, report: FiledReport) -> Iterator[tuple[Fault, str]]:
        """What is wrong with a report, the gravest first; its head is a witness once its record can be believed."""
        entries = self._by_path.get(f"{report.name}{RECORD}", [])
        record = report.record
        if record is None:
            if RECORD in report.files:
                yield Fault.EDITED, f"the record of report {report.name!r} was edited: {report.why}"
            elif entries:
                yield Fault.REMOVED, f"without its record, which entry {entries[0].number} knows"
            else:
                yield Fault.INSERTED, f"the report {report.name!r} has no record, and no entry"
            return
        yield from self._signature_faults(report, record)
        yield from self._entry_faults(report, record, entries)
        head = head_of(record)
        if head is not None:
            self.witnesses.append(Witness(name=report.name, head=head))
        if head is not None and any(entry.number <= head.number for entry in entries):
            yield (
                Fault.REORDERED,
                f"the report {report.name!r} was filed after entry {head.number},"
                f" but is entered as {entries[0].number}",
            )
        yield from _file_faults(report, record, self._homes)
        yield from self._stamp_faults(report, record, entries)
        if self._has_log and not entries and (head is None or head.number <= self._last):
            yield (
                Fault.NOT_ENTERED,
                f"the report {report.name!r} is not in the log: it was put there by hand, its entry was cut off, or"
                " it is not entered yet",
            )

    def _signature_faults(self, report: FiledReport, record: Record) -> Iterator[tuple[Fault, str]]:
        if record.envelope is None:
            self.unsigned.append(report.name)
        elif self._keys is not None:
            state = self._keys.check_envelope(record.envelope)
            if state is SignatureState.WRONG:
                yield Fault.EDITED, f"the record of report {report.name!r} is not what was signed"
            elif state is SignatureState.UNKNOWN_KEY:
                yield Fault.RESIGNED, "signed with another key"

    def _entry_faults(
        self, report: FiledReport, record: Record, entries: Sequence[AuditEntry]
    ) -> Iterator[tuple[Fault, str]]:
        for entry in entries:
            reference = entry.event.report
            if reference is None or reference.sha256 == record.sha256:
                continue
            home = self._home_of_record(record)
            if home is not None and home != report.name:
                yield Fault.SWAPPED, _swapped(report.name, "record", home)
            yield (
                Fault.EDITED,
                f"the record of report {report.name!r} is not the one that entry {entry.number} knows",
            )

    def _home_of_record(self, record: Record) -> str | None:
        for path, entries in self._by_path.items():
            for entry in entries:
                if entry.event.report is not None and entry.event.report.sha256 == record.sha256:
                    return path.removesuffix(RECORD)
        return None

    def _stamp_faults(
        self, report: FiledReport, record: Record, entries: Sequence[AuditEntry]
    ) -> Iterator[tuple[Fault, str]]:
        stamp = report.files.get(STAMP)
        content = stamp.read_bytes() if stamp is not None else None
        sha256 = None if content is None else hashlib.sha256(content).hexdigest()
        for entry in entries:
            expected = entry.event.report and entry.event.report.timestamp_sha256
            if expected == sha256:
                continue
            if sha256 is None:
                yield Fault.REMOVED, f"without its time stamp, which entry {entry.number} knows"
            else:
                yield (
                    Fault.EDITED,
                    f"the time stamp of report {report.name!r} is not the one that entry {entry.number} knows",
                )
        if content is not None:
            from opskit.evidence._timestamp import check_timestamp

            try:
                check_timestamp(content, record.content, self._certificates)
            except ValueError as error:
                yield Fault.EDITED, f"the time stamp of report {report.name!r} is wrong: {error}"


_ADJECTIVES = (Fault.REMOVED, Fault.RESIGNED)


def head_of(record: Record) -> Head | None:
    """The head of the log that a report was filed after; `None` when it could not be read then."""
    try:
        head = record.predicate["audit"]["head"]
        return Head(number=int(head["number"]), sha256=str(head["sha256"]))
    except (LookupError, TypeError, ValueError):
        return None


def _homes(reports: Iterable[FiledReport]) -> Iterator[tuple[str, str]]:
    """Which report each digest of a file belongs to."""
    for report in reports:
        if report.record is not None:
            for name, sha256 in report.record.subjects.items():
                if name.endswith(tuple(_PARTS)) and not name.startswith(MASTER):
                    yield sha256, name.rpartition(".")[0]


def _file_faults(
    report: FiledReport, record: Record, homes: Mapping[str, str]
) -> Iterator[tuple[Fault, str]]:
    own = {name: sha256 for name, sha256 in record.subjects.items() if name.endswith(tuple(_PARTS))}
    own = {name: sha256 for name, sha256 in own.items() if not name.startswith(MASTER)}
    if f"{report.name}.ipynb" not in own:
        home = next((name.removesuffix(".ipynb") for name in own), "none")
        yield Fault.SWAPPED, _swapped(report.name, "record", home)
    for suffix, part in _PARTS.items():
        expected, path = own.get(f"{report.name}{suffix}"), report.files.get(suffix)
        if path is None:
            if expected is not None:
                yield Fault.REMOVED, f"without its {part}, which its record knows"
            continue
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found == expected:
            continue
        home = homes.get(found, report.name)
        if expected is None:
            yield Fault.INSERTED, f"the {part} of report {report.name!r} is not in its record"
        elif home != report.name:
            yield Fault.SWAPPED, _swapped(report.name, part, home)
        else:
            yield Fault.EDITED, f"the {part} of report {report.name!r} is not what its record says"


def _swapped(name: str, part: str, home: str) -> str:
    return f"the {part} of report {name!r} is that of {home!r}"
