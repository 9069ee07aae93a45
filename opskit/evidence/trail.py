"""Filing in the audit trail: the record sealed, stamped and entered. Nothing of it may cost a report that is there.

What cannot be done is told in `Trail.problems`, and the entry that could not be written is written by a later filing.
"""

import hashlib
import json
import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opskit.config import Settings
from opskit.errors import IntegrityError, NotFoundError, OpskitError, unexpected
from opskit.evidence._record import PAYLOAD, Record, read_record
from opskit.evidence.log import open_catalog
from opskit.evidence.reports import STAMP, wrong_files
from opskit.model.audit import AuditEvent, AuditKind, Head, ReportReference, SignatureState
from opskit.model.secrets import Scrubber

if TYPE_CHECKING:
    from opskit.catalog import Catalog

UNENTERED = ".unentered"
_log = logging.getLogger(__name__)


class Trail:
    """The configured key, time-stamp authority and audit log, as far as they can be used.

    Parameters
    ----------
    settings
        `None` when they cannot be read (any more), for the reason `why`.
    """

    def __init__(self, settings: Settings | None, why: str = "") -> None:
        self._settings = settings
        self.problems: list[str] = [why] if why else []
        self.head: Head | None = None
        self._catalog: Catalog | None = None
        if settings is not None:
            try:
                self._catalog = open_catalog(settings)
                self.head = self._catalog.audit_head()
            except OpskitError as error:
                self._catalog = None
                self._tell("the audit log cannot be read", error)

    def before(self) -> dict[str, Any]:
        """What a report says of the log that it is filed after: its head, and what cannot be used now."""
        key = self._settings and self._settings.audit.key
        if key:
            from opskit.evidence.keys import KeyFile

            try:
                _ = KeyFile(key).public_key
            except OpskitError as error:
                self._tell("the record is not signed", error)
        return {"head": self.head and self.head.as_dict(), "problems": list(self.problems)}

    def seal(self, statement: bytes) -> bytes:
        """The record to file: the statement in a signed envelope, or as it is when no key is there or can be used."""
        key = self._settings and self._settings.audit.key
        if not key:
            return statement
        from opskit.evidence.keys import KeyFile, make_envelope

        try:
            signature = KeyFile(key).sign(statement, PAYLOAD)
        except OpskitError:
            return statement  # `before` told why
        return json.dumps(make_envelope(statement, PAYLOAD, signature), indent=2).encode() + b"\n"

    def stamp(self, record: bytes) -> bytes | None:
        """A time stamp on the record; `None` when no authority is configured or it gave none."""
        authority = self._settings and self._settings.audit.timestamp_authority
        if not authority:
            return None
        from opskit.evidence._timestamp import request_timestamp

        try:
            return request_timestamp(authority, record)
        except Exception as error:
            self._tell("the record is not time-stamped", _known(error))
            return None

    def enter(self, reports: Path, path: Path, write: Callable[[Path, bytes], None]) -> None:
        """Enter the record at `path` in the audit log, once; then those that earlier filings could not enter.

        Parameters
        ----------
        write
            Writes the empty file that marks a record as not entered.
        """
        mark = path.with_name(f".{path.stem}{UNENTERED}")
        try:
            self._enter(reports, path)
        except Exception as error:
            # The report is filed: whatever this is, it must not look as if it were lost.
            self._tell("the report is not entered in the audit log yet", _known(error))
            write(mark, b"")
            return
        mark.unlink(missing_ok=True)
        for other in reports.glob(f"*/*/*/.*{UNENTERED}"):
            self._catch_up(reports, other)

    def _enter(self, reports: Path, path: Path) -> None:
        if self._catalog is None:
            raise OpskitError("the catalog could not be opened")
        # As it lies there: this may end what an earlier filing began.
        record = read_record(path)
        if wrong_files(reports, record) or not self._is_ours(record):
            raise IntegrityError("it is not as it was filed")
        self._catalog.enter(report_event(reports, record))

    def _catch_up(self, reports: Path, mark: Path) -> None:
        """Enter what an earlier filing left."""
        path = mark.with_name(f"{mark.name.removeprefix('.').removesuffix(UNENTERED)}.json")
        try:
            self._enter(reports, path)
        except NotFoundError:
            pass
        except Exception as error:
            told = f"the report {path.stem!r} is not entered in the audit log yet"
            self._tell(told, _known(error))
            return
        mark.unlink(missing_ok=True)

    def _is_ours(self, record: Record) -> bool:
        """Whether it is signed by the configured key, or says why not."""
        key = self._settings and self._settings.audit.key
        if not key:
            return True
        if record.envelope is None:
            return bool(record.predicate.get("audit", {}).get("problems"))
        from opskit.evidence.keys import KeyFile, KeyRing

        ring = KeyRing([KeyFile(key).public_key])
        return ring.check_envelope(record.envelope) is SignatureState.VALID

    def _tell(self, what: str, error: OpskitError) -> None:
        self.problems.append(f"{what}: {error}")
        _log.warning("%s: %s", what, error)


def _known(error: Exception) -> OpskitError:
    return error if isinstance(error, OpskitError) else unexpected(error)


def report_event(reports: Path, record: Record) -> AuditEvent:
    """The event of a report that was filed, as its record tells it.

    Raises
    ------
    IntegrityError
        The record tells no run.
    """
    run, stamp = record.predicate, record.path.with_suffix(STAMP)
    try:
        ended_at = run.get("ended_at")
        return AuditEvent(
            kind=AuditKind.REPORT,
            what=run["runbook"],
            cluster=run["cluster"],
            actor=run["actor"],
            jupyter_user=run.get("jupyter_user"),
            host=run["host"],
            parameters=Scrubber().data(run["parameters"]),
            outcome=run["outcome"],
            started_at=datetime.fromisoformat(run["started_at"]),
            ended_at=ended_at and datetime.fromisoformat(ended_at),
            backup=next((n.split("/")[2] for n in record.subjects if "/backups/" in n), None),
            report=ReportReference(
                path=record.path.relative_to(reports).as_posix(),
                sha256=record.sha256,
                timestamp_sha256=(
                    hashlib.sha256(stamp.read_bytes()).hexdigest() if stamp.exists() else None
                ),
            ),
        )
    except (LookupError, TypeError, ValueError, OSError) as error:
        raise IntegrityError(
            f"the record {str(record.path)!r} tells no run: {type(error).__name__}"
        ) from None
