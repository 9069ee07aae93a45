"""``index.html``: one page on every report of a directory, made anew from the files after each run.

::

    <reports>/index.html        the page
    <reports>/.index.json       what was read of each report, so that the next time only what is new is read
    <reports>/.index.lock       held while they are written
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from opskit.errors import ErrorKind, StoreError
from opskit.reports.filed import Kept, look_through, newest_first
from opskit.reports.index_page import render_index
from opskit.reports.report import Files, Report

PAGE = "index.html"
_KEPT, _LOCK = ".index.json", ".index.lock"
_FORMAT = 1
_PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.02


def read_reports(directory: Path, cluster: str = "*") -> list[Report]:
    """The runs that reports below `directory` tell of, newest first, of one `cluster` if that is named.

    Only what has changed since the page was made is read. Nothing is written.
    """
    return list(newest_first(look_through(directory, _kept(directory), cluster)))


def update_index(directory: Path, *, afresh: bool = False) -> list[Report]:
    """Make the page anew; what it shows, newest first.

    Those who do so at once wait for each other, and whoever comes last has seen what all of them filed.

    Parameters
    ----------
    afresh
        Whether every file is read and compared with its record, be it unchanged or not.

    Raises
    ------
    StoreError
        The directory cannot be written to, or others write the page for a minute.

    Effects
    -------
    Writes ``index.html`` and two hidden files in `directory`, each whole or not at all, mode 0600.
    """
    try:
        with _locked(directory / _LOCK):
            before = {} if afresh else _kept(directory)
            found = look_through(directory, before)
            reports = list(newest_first(found))
            page = render_index(reports, datetime.now(UTC))
            _write(directory / PAGE, page.encode("utf-8", "backslashreplace"))
            _write(directory / _KEPT, _packed(found))
    except OSError as error:
        raise StoreError(
            f"the index of the reports cannot be written to {str(directory)!r}: {error.strerror}",
            ErrorKind.STORE_NOT_WRITABLE,
            "Let the account that runs opskit write there, or set reports.directory to another place.",
        ) from error
    return reports


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = _opened(path, os.O_RDWR)
    try:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not _taken(descriptor):
            if time.monotonic() > deadline:
                raise StoreError(
                    f"the lock {str(path)!r} has been held for a minute by another process",
                    hint="Make the index again by 'opskit runbook index' when that has ended.",
                    permanent=False,
                )
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _kept(directory: Path) -> dict[str, Kept]:
    """What was read before; nothing when that cannot be made out: it is read again."""
    try:
        data = json.loads((directory / _KEPT).read_bytes())
        if data["format"] != _FORMAT:
            return {}
        return {
            name: Kept(signature=signature, report=Report.from_dict(report))
            for name, (signature, report) in data["reports"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _packed(found: Mapping[str, Kept]) -> bytes:
    filed = {
        name: (kept.signature, kept.report.as_dict())
        for name, kept in found.items()
        if kept.signature
        and kept.report.files is not Files.NOT_READABLE  # no trace, nothing unread
    }
    return json.dumps({"format": _FORMAT, "reports": filed}, separators=(",", ":")).encode()


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    descriptor = _opened(part, os.O_WRONLY | os.O_TRUNC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)


def _opened(path: Path, flags: int) -> int:
    """Open or make a file that belongs to whom the directory belongs to, also when root was here first."""
    descriptor = os.open(path, os.O_CREAT | flags, 0o600)
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor
