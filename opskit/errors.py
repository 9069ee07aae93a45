"""Everything that opskit raises on purpose, by what a handler would do about it.

::

    OpskitError(message, kind, hint)
    ├── InputError      (ValueError)    the call is wrong                               exit 2
    ├── NotFoundError   (LookupError)   what was named does not exist                   exit 3
    ├── ConflictError                   somebody else holds it, or it is there already  exit 4
    ├── ServerError                     PostgreSQL refused, vanished, or is unsupported exit 5
    ├── StoreError                      the repository's storage failed                 exit 6
    ├── IntegrityError                  bytes differ from their checksum                exit 7
    ├── RecoveryError                   no path to the recovery target                  exit 8
    └── Cancelled                       somebody asked for the end                      exit 130

A message is lower case, without a full stop, and quotes the wrong value with what was expected; a hint is one
sentence with the next step. Errors can be pickled and turned into plain data, because an operation runs in another
process than the one that shows its error.
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar


class ErrorKind(StrEnum):
    """What went wrong, for programs. Append only: a kind never changes its meaning."""

    WRONG_INPUT = "wrong input"
    UNKNOWN_SETTING = "unknown setting"
    WRONG_SETTING = "wrong setting"
    SECRET_IN_SETTINGS = "secret in settings"
    SECRET_IN_PARAMETERS = "secret in parameters"
    CONFIGURATION_NOT_FOUND = "configuration not found"
    CLUSTER_NOT_FOUND = "cluster not found"
    BACKUP_NOT_FOUND = "backup not found"
    OPERATION_NOT_FOUND = "operation not found"
    RUNBOOK_NOT_FOUND = "runbook not found"
    PROGRAMS_NOT_FOUND = "programs not found"
    OBJECT_NOT_FOUND = "object not found"
    BACKUP_RUNNING = "backup running"
    NAME_TAKEN = "name taken"
    OBJECT_EXISTS = "object exists"
    TARGET_NOT_EMPTY = "target not empty"
    SERVER_RUNNING = "server running"
    SERVER_UNREACHABLE = "server unreachable"
    AUTHENTICATION_FAILED = "authentication failed"
    REPLICATION_NOT_ALLOWED = "replication not allowed"
    NO_HBA_ENTRY = "no pg_hba.conf entry"
    NO_WALSENDER = "no walsender"
    NO_SLOT = "no replication slot"
    UNSUPPORTED_VERSION = "unsupported version"
    SERVER_GONE = "server gone"
    SERVER_REFUSED = "server refused"
    SERVER_NOT_STARTED = "server not started"
    WAL_REMOVED = "wal removed"
    WAL_GAP = "wal gap"
    SLOT_IN_USE = "slot in use"
    STANDBY_PROMOTED = "standby promoted"
    STORE_NOT_WRITABLE = "store not writable"
    STORE_FULL = "store full"
    STORE_UNREACHABLE = "store unreachable"
    STORE_FAILED = "store failed"
    CATALOG_FAILED = "catalog failed"
    CHECKSUM_MISMATCH = "checksum mismatch"
    TRUNCATED = "truncated"
    INCOMPLETE = "incomplete"
    UNKNOWN_FORMAT = "unknown format"
    NO_PATH = "no path"
    CANCELLED = "cancelled"
    OPERATION_DIED = "operation died"
    CHECK_FAILED = "check failed"
    KEY_NOT_USABLE = "key not usable"
    BACKED_UP_ALREADY = "backed up already"
    NO_TIMESTAMP = "no time stamp"
    NOT_INCREMENTAL = "not incremental"
    BACKUP_KEPT = "backup kept"
    EXTRA_MISSING = "extra missing"
    QUEUE_FAILED = "queue failed"
    ALARM_NOT_SENT = "alarm not sent"
    UNEXPECTED = "unexpected"


class OpskitError(Exception):
    """The root of every error that opskit raises on purpose.

    Parameters
    ----------
    message
        One lower-case clause, without a full stop, that quotes the wrong value with what was expected.
    kind
        What went wrong, for programs.
    hint
        One sentence with the next step; empty when there is none to give.
    """

    exit_code: ClassVar[int] = 1
    default_kind: ClassVar[ErrorKind] = ErrorKind.UNEXPECTED

    def __init__(self, message: str, kind: ErrorKind | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind or self.default_kind
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.kind, self.hint)

    def as_dict(self) -> dict[str, str]:
        """The error as plain data: ``error`` (the class), ``kind``, ``message``, ``hint``."""
        return {
            "error": type(self).__name__,
            "kind": str(self.kind),
            "message": self.message,
            "hint": self.hint,
        }


class InputError(OpskitError, ValueError):
    """The call is wrong; calling again in the same way will fail again."""

    exit_code = 2
    default_kind = ErrorKind.WRONG_INPUT


class NotFoundError(OpskitError, LookupError):
    """What was named does not exist."""

    exit_code = 3
    default_kind = ErrorKind.OBJECT_NOT_FOUND


class ConflictError(OpskitError):
    """Somebody else holds it, or something else is there already."""

    exit_code = 4
    default_kind = ErrorKind.OBJECT_EXISTS


class ServerError(OpskitError):
    """PostgreSQL refused, vanished, or is of an unsupported version."""

    exit_code = 5
    default_kind = ErrorKind.SERVER_REFUSED


class StoreError(OpskitError):
    """The storage under the repository (or the catalog) failed.

    `permanent` tells whether trying the same again without a change is in vain.
    """

    exit_code = 6
    default_kind = ErrorKind.STORE_FAILED

    def __init__(
        self, message: str, kind: ErrorKind | None = None, hint: str = "", *, permanent: bool = True
    ) -> None:
        super().__init__(message, kind, hint)
        self.permanent = permanent

    def __reduce__(self) -> tuple[Any, ...]:
        return _store_error, (type(self), self.message, self.kind, self.hint, self.permanent)


def _store_error(
    cls: type[StoreError], message: str, kind: ErrorKind, hint: str, permanent: bool
) -> StoreError:
    return cls(message, kind, hint, permanent=permanent)


class IntegrityError(OpskitError):
    """Stored bytes differ from what their checksum, length or record promises."""

    exit_code = 7
    default_kind = ErrorKind.CHECKSUM_MISMATCH


class RecoveryError(OpskitError):
    """There is no path to the recovery target, or recovery ended short of it."""

    exit_code = 8
    default_kind = ErrorKind.NO_PATH


class Cancelled(OpskitError):
    """Somebody asked for the end of the operation."""

    exit_code = 130
    default_kind = ErrorKind.CANCELLED


_CLASSES: dict[str, type[OpskitError]] = {
    cls.__name__: cls
    for cls in (
        OpskitError,
        InputError,
        NotFoundError,
        ConflictError,
        ServerError,
        StoreError,
        IntegrityError,
        RecoveryError,
        Cancelled,
    )
}


def error_from_dict(data: Mapping[str, str]) -> OpskitError:
    """The error that `OpskitError.as_dict` turned into `data`.

    A class or kind that this version does not know becomes `OpskitError` and ``unexpected``.
    """
    cls = _CLASSES.get(data.get("error", ""), OpskitError)
    try:
        kind = ErrorKind(data.get("kind", ""))
    except ValueError:
        kind = ErrorKind.UNEXPECTED
    return cls(data.get("message", ""), kind, data.get("hint", ""))


def error_of_exit(exit_code: int, message: str, hint: str) -> OpskitError:
    """The error that a command printed and ended with, of the class that its exit code stands for."""
    for cls in _CLASSES.values():
        if cls.exit_code == exit_code:
            return cls(message, None, hint)
    return OpskitError(message, None, hint)


def unexpected(error: BaseException) -> OpskitError:
    """Any other exception as an error that may be shown and kept.

    Its text may hold anything, a password too, so what is told is its class and its place in opskit; only what the
    system says (`OSError`) is passed on.
    """
    told = f"unexpected {type(error).__name__}"
    place = _place_in_opskit(error)
    if place:
        told += f" at {place}"
    if isinstance(error, OSError) and error.strerror:
        named = f" {str(error.filename)!r}" if error.filename is not None else ""
        told += f": {error.strerror.lower()}{named}"
    return OpskitError(
        told,
        ErrorKind.UNEXPECTED,
        "This is a fault of opskit: run the command again with --debug, and report what it prints to the project.",
    )


def _place_in_opskit(error: BaseException) -> str:
    """The innermost line of opskit that the exception passed: ``opskit/catalog/_open.py:77``."""
    root = Path(__file__).parent
    place = ""
    traceback = error.__traceback__
    while traceback is not None:
        file = Path(traceback.tb_frame.f_code.co_filename)
        if file.is_relative_to(root):
            place = f"{file.relative_to(root.parent)}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return place
