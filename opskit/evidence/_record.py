"""The record of a report: an in-toto Statement v1, bare or as the payload of a DSSE envelope.

Knows the two forms and what a subject is; asks no key and compares no file. See https://in-toto.io/Statement/v1 and
https://github.com/secure-systems-lab/dsse.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opskit.errors import ErrorKind, IntegrityError, NotFoundError

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:opskit:runbook-report:1"
PAYLOAD = "application/vnd.in-toto+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record as it lies beside its report.

    Parameters
    ----------
    content
        The bytes of the file.
    statement
        The whole in-toto Statement; `predicate` is the record of the run, as it stands in the notebook's metadata.
    envelope
        The DSSE envelope as plain data, `None` for a bare Statement. That its signatures hold is not checked here.
    """

    path: Path
    content: bytes
    statement: Mapping[str, Any]
    envelope: Mapping[str, Any] | None

    @property
    def predicate(self) -> Mapping[str, Any]:
        """The record of the run: ``runbook``, ``cluster``, ``parameters``, ``outcome``, ``started_at`` …"""
        predicate: Mapping[str, Any] = self.statement["predicate"]
        return predicate

    @property
    def subjects(self) -> Mapping[str, str]:
        """What the record vouches for: the SHA-256 by name."""
        return {s["name"]: s["digest"]["sha256"] for s in self.statement["subject"]}

    @property
    def sha256(self) -> str:
        """The digest of the file, as the audit log keeps it."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def is_signed(self) -> bool:
        """Whether it carries a signature, of whatever worth."""
        return self.envelope is not None


def make_statement(subjects: Mapping[str, str], predicate: Mapping[str, Any]) -> bytes:
    """The bytes of a Statement: they are what is signed.

    Parameters
    ----------
    subjects
        The SHA-256 in hexadecimal by name.
    """
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": n, "digest": {"sha256": d}} for n, d in subjects.items()],
        "predicateType": PREDICATE,
        # JSON has no infinity and no NaN: they become texts
        "predicate": json.loads(json.dumps(predicate), parse_constant=str),
    }
    # A surrogate of an undecodable byte becomes the JSON escape that means the same.
    text = json.dumps(statement, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    return text.encode(errors="backslashreplace")


def read_record(path: Path) -> Record:
    """The record in the file `path`.

    Raises
    ------
    NotFoundError
        There is no such file.
    IntegrityError
        It is no record, or of a form that this opskit does not know.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"there is no record {str(path)!r}") from None
    except OSError as error:
        raise _no_record(path, error.strerror or "it cannot be read") from None
    return parse_record(path, content)


def parse_record(path: Path, content: bytes) -> Record:
    """The record that `content` is, which lay at `path`; errors as `read_record`."""
    try:
        data = json.loads(content)
        envelope = data if isinstance(data, dict) and "payload" in data else None
        if envelope is not None:
            if envelope["payloadType"] != PAYLOAD:
                raise ValueError(f"its payload is of type {envelope['payloadType']!r}")
            data = json.loads(base64.b64decode(envelope["payload"], validate=True))
        if data["_type"] != STATEMENT or data["predicateType"] != PREDICATE:
            raise ValueError(f"it is of type {data['predicateType']!r}, expected {PREDICATE!r}")
        record = Record(path=path, content=content, statement=data, envelope=envelope)
        _check_form(record)
    except KeyError as error:
        raise _no_record(path, f"{error.args[0]!r} is missing") from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise _no_record(path, str(error)) from None
    return record


def _check_form(record: Record) -> None:
    names = [subject["name"] for subject in record.statement["subject"]]
    texts = [*names, *record.subjects.values()]
    if not all(isinstance(text, str) for text in texts) or len(set(names)) < len(names):
        raise ValueError("its subjects are not names with digests, each once")
    if not isinstance(record.predicate, dict):
        raise ValueError("its predicate is no object")


def _no_record(path: Path, why: str) -> IntegrityError:
    return IntegrityError(
        f"{str(path)!r} is no record of a report: {why}",
        ErrorKind.UNKNOWN_FORMAT,
        "Compare it with the audit log by 'opskit audit verify'.",
    )
