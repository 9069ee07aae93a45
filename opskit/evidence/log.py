"""The audit log where it is kept: the catalog, a copy of an SQLite catalog, or an exported file of JSON Lines."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from opskit.config import Settings
from opskit.errors import ErrorKind, NotFoundError, StoreError
from opskit.model.audit import Signature, StoredEntry

if TYPE_CHECKING:
    from opskit.catalog import Catalog

_SQLITE = b"SQLite format 3\0"


def open_catalog(settings: Settings) -> "Catalog":
    """The configured catalog, which signs what it enters if a key is configured; errors as `Catalog.open`."""
    from opskit.catalog import Catalog

    key = settings.audit.key
    return Catalog.open(settings.catalog_url, signer=None if key is None else _LateKey(key))


def read_log(path: Path) -> list[StoredEntry]:
    """The entries in a file: an SQLite catalog, or what `export_log` wrote.

    A line that is no entry is kept as it is, for verification to name.

    Raises
    ------
    NotFoundError
        There is no such file.
    StoreError
        It cannot be read, or is an SQLite database without an audit log.
    """
    try:
        with path.open("rb") as file:
            begins = file.read(len(_SQLITE))
            if begins == _SQLITE:
                from opskit.catalog import read_audit_file

                return read_audit_file(path)
            text = (begins + file.read()).decode("utf-8", "replace")
    except FileNotFoundError:
        raise NotFoundError(f"there is no audit log {str(path)!r}") from None
    except OSError as error:
        raise StoreError(
            f"the audit log {str(path)!r} cannot be read: {(error.strerror or '').lower()}",
            ErrorKind.STORE_FAILED,
            "Name a file that 'opskit audit export' wrote, or an SQLite catalog.",
        ) from None
    lines = [line for line in text.split("\n") if line]
    return [StoredEntry.from_line(line, number) for number, line in enumerate(lines, 1)]


def export_lines(entries: Sequence[StoredEntry]) -> bytes:
    """The log as JSON Lines: what `read_log` reads, and ``jq`` and ``sha256sum`` can check."""
    return "".join(f"{entry.line()}\n" for entry in entries).encode("utf-8", "surrogatepass")


class _LateKey:
    """A key file; the library that signs loads with the first entry."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def sign(self, payload: bytes, payload_type: str) -> Signature:
        from opskit.evidence.keys import KeyFile

        return KeyFile(self._path).sign(payload, payload_type)
