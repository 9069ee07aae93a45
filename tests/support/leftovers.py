"""What a session of tests has left on the machine: looked for at its end, when nothing of it should be there."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from opskit.postgres.account import server_account

MARK = "TESTS_OF_OPSKIT"  # what begins with OPSKIT some tests leave out
"""The variable that every process of a session has, with the session's directory."""
_POLL_SECONDS = 0.1
_POSTGRESQL_S = "PostgreSQL."


def temporary(base: Path) -> Path:
    """Where processes of a session have their temporary files."""
    return base / "tmp"


def marked_environment(base: Path) -> Mapping[str, str]:
    """What tells a session's processes, and where they have their temporary files, from all others."""
    place = temporary(base)
    place.mkdir(exist_ok=True)
    place.chmod(0o1777)
    return {MARK: str(base), "TMPDIR": str(place)}


def leftovers(base: Path, since: float, *, others: bool, patience: float = 10.0) -> list[str]:
    """What a session that began at a time left behind, in words.

    Processes get `patience` seconds to end. Shared memory does not say whose it is: it is left out beside `others`.
    """
    deadline = time.monotonic() + patience
    while (processes := list(_processes(base))) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    found = [*processes, *_temporary_files(base), *_socket_directories(base)]
    return found if others else [*found, *_shared_memory(since), *_segments(since)]


def _processes(base: Path) -> Iterator[str]:
    mark = f"{MARK}={base}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is somebody else's
            if int(process.name) == os.getpid() or mark not in (
                process / "environ"
            ).read_bytes().split(b"\0"):
                continue
            said = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            yield f"process {process.name}: {said.strip()}"


def _temporary_files(base: Path) -> Iterator[str]:
    with suppress(FileNotFoundError):
        for path in temporary(base).iterdir():
            yield f"temporary file {path}"


def _socket_directories(base: Path) -> Iterator[str]:
    """Those of servers of the session: the second line of a socket's lock file is the data directory."""
    for lock in Path("/tmp").glob("opskit-*/.s.PGSQL.*.lock"):
        with suppress(OSError, IndexError):
            if lock.read_text().splitlines()[1].startswith(f"{base}/"):
                yield f"socket directory {lock.parent}"


def _shared_memory(since: float) -> Iterator[str]:
    attached = set(_attached())
    for segment in Path("/dev/shm").glob(f"{_POSTGRESQL_S}*"):
        with suppress(OSError):
            told = segment.stat()
            is_ours = told.st_uid == _servers_uid() and told.st_ctime > since
            if is_ours and segment.name not in attached:
                yield f"shared memory {segment}"


def _attached() -> Iterator[str]:
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):
            for line in maps.read_text(errors="replace").splitlines():
                name = line.rpartition("/")[2]
                if name.startswith(_POSTGRESQL_S):
                    yield name


def _segments(since: float) -> Iterator[str]:
    """Segments of System V: a server has a small one that tells whether any of its processes lives."""
    head, *rows = Path("/proc/sysvipc/shm").read_text(encoding="ascii").splitlines()
    for row in rows:
        told = dict(zip(head.split(), map(int, row.split()), strict=True))
        if told["uid"] == _servers_uid() and told["ctime"] > since and told["nattch"] == 0:
            yield f"segment {told['shmid']} of process {told['cpid']}"


def _servers_uid() -> int:
    account = server_account()
    return os.geteuid() if account is None else account.uid
