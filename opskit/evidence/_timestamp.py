"""Time stamps by an authority (RFC 3161): asked for over HTTP, and checked without any network.

A stamp says that the record existed at a time, by the word of somebody who has no part in it. What is kept is the
authority's whole answer, as ``openssl ts`` reads it.
"""

import hashlib
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from opskit.errors import ErrorKind, InputError, OpskitError, StoreError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from rfc3161_client import TimeStampResponse

TIMEOUT = 10.0
_LIMIT = 1 << 20
_GRANTED = (0, 1)  # RFC 3161, 2.4.2: granted, granted with modifications


def request_timestamp(authority: str, content: bytes, timeout: float = TIMEOUT) -> bytes:
    """The authority's answer: a stamp on `content`, of which it learns the digest only.

    Raises
    ------
    StoreError
        It did not answer in `timeout` seconds, refused, or stamped something else.
    """
    from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

    builder = TimestampRequestBuilder().data(content).hash_algorithm(HashAlgorithm.SHA256)
    request = builder.nonce(nonce=True).cert_request(cert_request=True).build()
    answer = _in_time(authority, request.as_bytes(), timeout)
    try:
        stamp = _decoded(answer)
        if stamp.tst_info.nonce != request.nonce or _imprint(stamp) != _sha256(content):
            raise ValueError("it stamped something else")
    except ValueError as error:
        raise _no_stamp(authority, str(error)) from None
    return answer


def check_timestamp(stamp: bytes, content: bytes, roots: Sequence[Path] = ()) -> datetime:
    """When `content` was stamped, aware, in UTC.

    Parameters
    ----------
    roots
        Certificates, in PEM, that the authority's own leads to; without any, its signature is not checked.

    Raises
    ------
    InputError
        A certificate cannot be read.
    ValueError
        It is no stamp, or one on something else, or its signature does not hold; the text says so.
    """
    decoded = _decoded(stamp)
    if _imprint(decoded) != _sha256(content):
        raise ValueError("it is on something else")
    if roots:
        from rfc3161_client import VerificationError, VerifierBuilder

        builder = VerifierBuilder()
        for root in _certificates(roots):
            builder = builder.add_root_certificate(root)
        try:
            builder.build().verify(decoded, _sha256(content))
        except VerificationError as error:
            why = str(error).partition(": ErrorStack")[0].rstrip(".")
            raise ValueError(f"its signature does not hold: {why}") from None
    at: datetime = decoded.tst_info.gen_time
    return at.astimezone(UTC)


def _in_time(authority: str, request: bytes, timeout: float) -> bytes:
    """The answer, within `timeout` seconds as a whole: an authority that dribbles must not hold up the filing."""
    answers: list[bytes] = []
    errors: list[str] = []

    def ask() -> None:
        try:
            answers.append(_ask(authority, request, timeout))
        except urllib.error.HTTPError as error:
            with error:
                errors.append(f"it answered {error.code}")
        except (OSError, ValueError) as error:
            errors.append(str(getattr(error, "reason", error)).lower() or type(error).__name__)
        except Exception as error:
            errors.append(f"unexpected {type(error).__name__}")

    thread = threading.Thread(target=ask, name="opskit time stamp", daemon=True)
    thread.start()
    thread.join(timeout)
    if answers:
        return answers[0]
    raise _no_stamp(authority, errors[0] if errors else f"no answer within {timeout:g} s")


def _ask(authority: str, request: bytes, timeout: float) -> bytes:
    question = urllib.request.Request(
        authority,
        data=request,
        headers={"Content-Type": "application/timestamp-query", "User-Agent": "opskit"},
    )
    with urllib.request.urlopen(question, timeout=timeout) as answer:
        content: bytes = answer.read(_LIMIT)
    return content


def _decoded(answer: bytes) -> "TimeStampResponse":
    from rfc3161_client import decode_timestamp_response

    stamp = decode_timestamp_response(answer)
    if stamp.status not in _GRANTED:
        raise ValueError(f"the authority refused, with status {stamp.status}")
    return stamp


def _imprint(stamp: "TimeStampResponse") -> bytes:
    return stamp.tst_info.message_imprint.message


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _certificates(paths: Sequence[Path]) -> "Iterator[Certificate]":
    from cryptography.x509 import load_pem_x509_certificates

    for path in paths:
        try:
            yield from load_pem_x509_certificates(path.read_bytes())
        except OSError as error:
            raise _wrong_root(path, (error.strerror or "").lower()) from None
        except ValueError:
            raise _wrong_root(path, "it is no certificate in PEM") from None


def _wrong_root(path: Path, why: str) -> InputError:
    return InputError(
        f"the certificate {str(path)!r} cannot be used: {why}",
        ErrorKind.KEY_NOT_USABLE,
        "Name the authority's root certificate, as a PEM file, in audit.timestamp_certificates.",
    )


def _no_stamp(authority: str, why: str) -> OpskitError:
    return StoreError(
        f"the time-stamp authority {authority!r} gave no stamp: {why}",
        ErrorKind.NO_TIMESTAMP,
        "See that it can be reached from here, or set another audit.timestamp_authority.",
        permanent=False,
    )
