"""Where reports lie and how they get there: whole, once, readable by their owner only.

::

    <reports>/<cluster>/<YYYY>/<MM>/
        <time>-<runbook>.ipynb      the executed notebook: the evidence
        <time>-<runbook>.html       the same for people
        <time>-<runbook>.json       the record: digests of both, and how the run ended
        <time>-<runbook>.tsr        a time stamp on the record, where an authority is configured
        .<time>-<runbook>.run/      a run that goes on, or was lost: order.json, work.ipynb, lock

The hidden directory reserves the name, and is removed when the report is filed. Whoever runs holds its lock: one that
nobody holds is the trace of a run whose every process was lost, and is filed as such by the next run.
"""

import contextlib
import errno
import fcntl
import hashlib
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opskit.errors import ErrorKind, StoreError

WORK = "work.ipynb"
ORDER = "order.json"
LOG = "worker.log"
LOCK = "lock"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The reserved place of one report, and the directory in which its run works."""

    directory: Path
    stem: str
    lock: int

    @property
    def notebook(self) -> Path:
        """Where the executed notebook will be filed."""
        return self.directory / f"{self.stem}.ipynb"

    @property
    def html(self) -> Path:
        """Where its HTML will be filed."""
        return self.directory / f"{self.stem}.html"

    @property
    def record(self) -> Path:
        """Where its record will be filed; once it is there, nothing of the report changes any more."""
        return self.directory / f"{self.stem}.json"

    @property
    def timestamp(self) -> Path:
        """Where the time stamp on its record will be filed, if an authority gives one."""
        return self.directory / f"{self.stem}.tsr"

    @property
    def name(self) -> str:
        """The report's name below the directory of the reports: ``main/2026/11/<stem>``."""
        return f"{self.directory.relative_to(self.directory.parents[2]).as_posix()}/{self.stem}"

    @property
    def work(self) -> Path:
        """The hidden directory of the run that goes on."""
        return self.directory / f".{self.stem}.run"

    def order(self) -> dict[str, Any]:
        """What was ordered, as `reserve` kept it."""
        order: dict[str, Any] = json.loads((self.work / ORDER).read_text(encoding="utf-8"))
        return order

    def clear(self) -> None:
        """Remove the hidden directory, and let its lock go."""
        shutil.rmtree(self.work, ignore_errors=True)
        os.close(self.lock)


def reserve(reports: Path, order: dict[str, Any]) -> Desk:
    """Take a name for the report of the run that `order` describes, and keep the order there.

    Raises
    ------
    StoreError
        The directory of the reports cannot be written to.
    """
    started = datetime.fromisoformat(order["started_at"]).astimezone(UTC)
    directory = reports / order["cluster"] / f"{started:%Y}" / f"{started:%m}"
    # now, because an upgrade may replace the master while the run goes on
    order = {**order, "master_sha256": sha256_of(Path(order["master"]))}
    stem = f"{started:%Y%m%dT%H%M%SZ}-{order['runbook']}"
    try:
        _make(directory)
        fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=directory))
        write_durably(fresh / ORDER, json.dumps(order, ensure_ascii=False, indent=2).encode())
        lock = os.open(fresh / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        for number in itertools.count(1):
            name = stem if number == 1 else f"{stem}-{number}"
            desk = Desk(directory=directory, stem=name, lock=lock)
            if desk.notebook.exists() or not _renamed(fresh, desk.work):
                continue
            if not desk.notebook.exists():  # nobody filed under this name before it was ours
                return desk
            fresh = desk.work
    except OSError as error:
        raise not_writable(reports, error) from error
    raise AssertionError("unreachable")


def _renamed(fresh: Path, work: Path) -> bool:
    try:
        fresh.rename(work)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            return False
        raise
    return True


def not_writable(reports: Path, error: OSError) -> StoreError:
    """The error for a directory of reports that refuses to be written to."""
    if error.errno in NO_ROOM:
        return StoreError(
            f"there is no room for the report in {str(reports)!r}: {error.strerror}",
            ErrorKind.STORE_FULL,
            "Make room there; the next run of a runbook, or 'opskit runbook index', files the report.",
        )
    return StoreError(
        f"the reports cannot be written to {str(reports)!r}: {error.strerror}",
        ErrorKind.STORE_NOT_WRITABLE,
        "Let the account that runs opskit write there, or set reports.directory to another place.",
    )


def lost_runs(reports: Path, host: str) -> Iterator[Desk]:
    """The traces of runs of this host whose every process was lost; the lock of each is held for the caller."""
    for work in reports.glob("*/*/*/.*.run"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            lock = os.open(work / LOCK, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock)
                continue
            stem = work.name.removeprefix(".").removesuffix(".run")
            desk = Desk(directory=work.parent, stem=stem, lock=lock)
            if work.is_dir() and desk.order()["host"] == host:
                yield desk
            else:
                os.close(lock)


def sha256_of(path: Path) -> str | None:
    """The SHA-256 of a file; `None` when it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def write_durably(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 that is there whole or not at all, also after a power cut."""
    part = path.with_name(f".{path.name}.part")
    try:
        descriptor = os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _make(directory: Path) -> None:
    for place in [*reversed(directory.parents), directory]:
        if not place.exists():
            place.mkdir(mode=0o700, exist_ok=True)
