"""The entries of the audit log: what they say, their canonical bytes and digests, and what may be wrong with them.

Knows no database, no file and no key; whoever has one signs and checks. How entries make a chain, and how a break in it
is found, is in `opskit.model.chain`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol

FORMAT = 1
START = "0" * 64
PAYLOAD = "application/vnd.opskit.audit-entry+json"
# Parameters of a consolidation's entry: the SHA-256 of the backup's record before and after.
REPLACED = ("former_record_sha256", "record_sha256")


class AuditKind(StrEnum):
    """What an entry tells of."""

    OPERATION = "operation"
    REPORT = "report"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The last entry of a log at some moment. That of an empty log has the number 0 and the digest `START`."""

    number: int
    sha256: str

    def as_dict(self) -> dict[str, Any]:
        """The head as plain data."""
        return {"number": self.number, "sha256": self.sha256}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature of a DSSE envelope, `sig` in base64."""

    keyid: str
    sig: str


class SignatureState(StrEnum):
    """What a signature is worth."""

    VALID = "valid"
    WRONG = "wrong"
    UNKNOWN_KEY = "unknown key"


class Signer(Protocol):
    """Who holds the private key."""

    def sign(self, payload: bytes, payload_type: str) -> Signature:
        """The signature of a DSSE envelope around `payload`.

        Raises
        ------
        InputError
            The key cannot be used.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportReference:
    """The record of a report: its path below the reports, its digest, and that of its time stamp, if it has one."""

    path: str
    sha256: str
    timestamp_sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """Something that was done and has ended.

    Parameters
    ----------
    what
        The kind of the operation, or the name of the runbook.
    actor, jupyter_user
        The account of the operating system, and who JupyterHub says it was.
    outcome
        ``complete``, ``failed``, ``cancelled`` or ``died`` for an operation; a runbook's outcome for a report.
    backup
        The name of the backup that it made or used, as far as it is known.
    """

    kind: AuditKind
    what: str
    cluster: str
    actor: str
    jupyter_user: str | None
    host: str
    parameters: Mapping[str, Any]
    outcome: str
    started_at: datetime
    ended_at: datetime | None
    backup: str | None = None
    operation: str | None = None
    report: ReportReference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """An event at its place in the log; `previous` is the digest of the entry before."""

    number: int
    at: datetime
    previous: str
    event: AuditEvent
    signature: Signature | None = None

    def payload(self) -> bytes:
        """What is signed: all of the entry but its signature."""
        return canonical(self._unsigned())

    def signed(self, signature: Signature) -> "AuditEntry":
        """The same with a signature over its payload."""
        return replace(self, signature=signature)

    def as_dict(self) -> dict[str, Any]:
        """The entry as plain data."""
        sealed = self.signature
        signature = None if sealed is None else {"keyid": sealed.keyid, "sig": sealed.sig}
        return {**self._unsigned(), "signature": signature}

    def stored(self) -> "StoredEntry":
        """The entry as the log keeps it."""
        text = canonical(self.as_dict()).decode()
        return StoredEntry(number=self.number, sha256=digest(text), text=text)

    def _unsigned(self) -> dict[str, Any]:
        event, report = self.event, self.event.report
        return {
            "format": FORMAT,
            "number": self.number,
            "at": _moment(self.at),
            "previous": self.previous,
            "kind": str(event.kind),
            "what": event.what,
            "cluster": event.cluster,
            "actor": event.actor,
            "jupyter_user": event.jupyter_user,
            "host": event.host,
            "parameters": dict(event.parameters),
            "outcome": event.outcome,
            "started_at": _moment(event.started_at),
            "ended_at": None if event.ended_at is None else _moment(event.ended_at),
            "backup": event.backup,
            "operation": event.operation,
            "report": None
            if report is None
            else {
                "path": report.path,
                "sha256": report.sha256,
                "timestamp_sha256": report.timestamp_sha256,
            },
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "AuditEntry":
        """What `as_dict` gave; any `LookupError`, `TypeError` or `ValueError` when it is none."""
        if data["format"] != FORMAT:
            raise ValueError(f"it is of format {data['format']!r}, this opskit reads {FORMAT}")
        if not isinstance(data["number"], int):
            raise TypeError("its number is none")
        report, signature, ended = data["report"], data["signature"], data["ended_at"]
        return cls(
            number=data["number"],
            at=datetime.fromisoformat(data["at"]),
            previous=data["previous"],
            event=AuditEvent(
                kind=AuditKind(data["kind"]),
                what=data["what"],
                cluster=data["cluster"],
                actor=data["actor"],
                jupyter_user=data["jupyter_user"],
                host=data["host"],
                parameters=data["parameters"],
                outcome=data["outcome"],
                started_at=datetime.fromisoformat(data["started_at"]),
                ended_at=None if ended is None else datetime.fromisoformat(ended),
                backup=data["backup"],
                operation=data["operation"],
                report=None if report is None else ReportReference(**report),
            ),
            signature=None if signature is None else Signature(**signature),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEntry:
    """An entry as it was found: where, the digest beside it, and its text. Nothing of it need be true."""

    number: int
    sha256: str
    text: str

    def line(self) -> str:
        """The entry as a line of an exported log."""
        return f'{{"sha256":"{self.sha256}","entry":{self.text}}}'

    @classmethod
    def from_line(cls, line: str, number: int) -> "StoredEntry":
        """The entry in a line of an exported log; one that is no entry is kept as it is, for `verify_chain` to name."""
        try:
            data = json.loads(line)
            return cls(
                number=number, sha256=str(data["sha256"]), text=canonical(data["entry"]).decode()
            )
        except (ValueError, LookupError, TypeError, RecursionError):
            return cls(number=number, sha256="", text=line)

    def read(self) -> AuditEntry | None:
        """The entry that the text says; `None` when it says none, or not in the canonical form."""
        try:
            entry = AuditEntry.from_dict(json.loads(self.text))
            return entry if canonical(entry.as_dict()).decode() == self.text else None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None


def canonical(data: object) -> bytes:
    """JSON in one form only: keys sorted, no spaces, ASCII (``jq -jcaS`` writes the same)."""
    return json.dumps(
        data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode("ascii")


def digest(text: str) -> str:
    """The SHA-256 of an entry's text, in hexadecimal."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _moment(time: datetime) -> str:
    text = time.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
