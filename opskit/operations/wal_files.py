"""WAL files one by one, for servers that archive by ``archive_command`` and recover by ``restore_command``.

PostgreSQL takes a ``restore_command`` that fails for the end of the archive, and would end recovery at a gap as it does
at the end; so here a file that is not there yet is told apart from one that is missing (manual, "Continuous
Archiving").
"""

import os
import re
import struct
from contextlib import suppress
from pathlib import Path

from opskit.errors import (
    ConflictError,
    ErrorKind,
    InputError,
    IntegrityError,
    NotFoundError,
    RecoveryError,
)
from opskit.model.wal import (
    WalSegment,
    check_segment,
    history_timeline,
    is_segment_name,
    read_segment_header,
    written_bytes,
)
from opskit.repository.claims import Claims
from opskit.repository.wal import WalArchive

_BACKUP_LABEL = re.compile(r"[0-9A-F]{24}\.[0-9A-F]{8}\.backup")
_PARTIAL = ".partial"
_HEADER_BYTES = 64
_SYSTEM_IDENTIFIER = struct.Struct("<Q")  # the first field of pg_control


def push_file(repository: Claims, cluster: str, path: Path) -> None:
    """Store a segment, the partial one that a promotion leaves, or a history file. Backup labels are not needed.

    What is there already with the same content is no error, so that a server may try again.

    Raises
    ------
    InputError
        `path` is no WAL file, or cannot be read.
    ConflictError
        The archive has other content under that name, or the file is another cluster's.
    IntegrityError
        A segment is not what its name says.
    """
    name = path.name
    if _BACKUP_LABEL.fullmatch(name):
        return
    content = _read(path)
    timeline = history_timeline(name)
    if timeline is not None:
        _push_history(repository, cluster, timeline, content, path)
    elif is_segment_name(name.removesuffix(_PARTIAL)):
        _push_segment(repository, cluster, name, content)
    else:
        raise InputError(
            f"{name!r} is not the name of a WAL file",
            hint="Set archive_command = 'opskit wal push %p'.",
        )


def get_file(repository: Claims, cluster: str, name: str, path: Path) -> bool:
    """Put a segment or history file from the archive where PostgreSQL wants it, all or nothing.

    The last segment of a timeline is given as far as it has been stored, filled up with zeros, unless PostgreSQL has
    more of it: it does not come back to its own once it has been given one.

    Returns
    -------
    Whether it is there. A file that PostgreSQL has itself, beside `path`, need not be.

    Raises
    ------
    RecoveryError
        It is not there, but later ones are: a gap.
    NotFoundError
        The repository does not know the cluster.
    IntegrityError
        It is damaged.
    """
    archive = repository.known_wal(cluster)
    timeline = history_timeline(name)
    if timeline is not None:
        content = _history(archive, timeline)
        if content is None and not (path.parent / name).exists():
            _refuse_lost_history(archive, timeline, name)
    else:
        segment = WalSegment.parse(name, archive.segment_bytes)
        content = _segment(archive, segment, path)
        if content is not None:
            check_segment(segment, content, repository.system_identifier(cluster))
        elif not _is_beside(path, segment):
            _refuse_gap(archive, cluster, segment)
    if content is None:
        return False
    _write(path, content)
    return True


def _push_segment(repository: Claims, cluster: str, name: str, content: bytes) -> None:
    header = read_segment_header(content)
    if header.postgresql_major is None:
        raise IntegrityError(
            f"{name!r} is of a PostgreSQL that opskit does not know",
            ErrorKind.UNSUPPORTED_VERSION,
            "Use an opskit that supports it.",
        )
    repository.claim_cluster(
        cluster, header.system_identifier, header.postgresql_major, header.segment_bytes
    )
    archive = repository.known_wal(cluster)
    segment = WalSegment.parse(name.removesuffix(_PARTIAL), archive.segment_bytes)
    check_segment(segment, content, header.system_identifier)
    if not name.endswith(_PARTIAL):
        archive.put_segment(segment, content)
    elif not archive.holds(segment):
        written = content[: written_bytes(content)]
        if len(written) > len(_stored_partial(archive, segment)):
            archive.put_partial(segment, written)


def _push_history(
    repository: Claims, cluster: str, timeline: int, content: bytes, path: Path
) -> None:
    """History files do not say whose they are: the data directory around it does."""
    archive = repository.known_wal(cluster)
    kept = repository.system_identifier(cluster)
    with suppress(FileNotFoundError), (path.parent.parent / "global/pg_control").open("rb") as file:
        [found] = _SYSTEM_IDENTIFIER.unpack(file.read(_SYSTEM_IDENTIFIER.size))
        if str(found) != kept:
            raise ConflictError(
                f"the name {cluster!r} belongs to system identifier {kept} in this repository,"
                f" {path.name!r} is of {found}",
                ErrorKind.NAME_TAKEN,
                "Configure the server under another name, or another repository.",
            )
    archive.put_history(timeline, content)


def _history(archive: WalArchive, timeline: int) -> bytes | None:
    try:
        return archive.history_file(timeline)
    except NotFoundError:
        return None


def _segment(archive: WalArchive, segment: WalSegment, path: Path) -> bytes | None:
    """The whole segment, or the beginning of a timeline's last one, padded.

    `None` when the archive has neither, or less of it than lies beside `path`.
    """
    with suppress(NotFoundError):
        return archive.segment(segment)
    newest = archive.newest(segment.timeline)
    if newest == segment:
        with suppress(NotFoundError):
            partial = archive.partial(segment)
            if len(partial) < _written_beside(path, segment):
                return None
            return partial.ljust(segment.size, b"\0")
        with suppress(NotFoundError):  # it has become whole in this moment
            return archive.segment(segment)
    return None


def _stored_partial(archive: WalArchive, segment: WalSegment) -> bytes:
    try:
        return archive.partial(segment)
    except NotFoundError:
        return b""


def _is_beside(path: Path, segment: WalSegment) -> bool:
    """Whether the server has the segment itself in ``pg_wal``: not a file of that name that waits to be reused."""
    file = path.parent / segment.name
    if file == path:
        return False
    try:
        with file.open("rb") as stream:
            return read_segment_header(stream.read(_HEADER_BYTES)).start == segment.start
    except (OSError, IntegrityError):
        return False


def _written_beside(path: Path, segment: WalSegment) -> int:
    """How much of the segment the server has itself."""
    return written_bytes(_read(path.parent / segment.name)) if _is_beside(path, segment) else 0


def _refuse_gap(archive: WalArchive, cluster: str, segment: WalSegment) -> None:
    newest = archive.newest(segment.timeline)
    if newest is not None and newest.number > segment.number:
        raise RecoveryError(
            f"WAL segment {segment.name} is missing from the archive, which goes on to {newest.name}",
            ErrorKind.WAL_GAP,
            f"Recover to a time before it, or from a later backup; 'opskit wal status {cluster}' shows every gap.",
        )


def _refuse_lost_history(archive: WalArchive, timeline: int, name: str) -> None:
    if timeline != 1 and archive.newest(timeline) is not None:  # the first has no history
        raise RecoveryError(
            f"{name} is missing from the archive, which has WAL of that timeline",
            ErrorKind.WAL_GAP,
            f"Push it from a server that has it: 'opskit wal push pg_wal/{name}'.",
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{str(path)!r} cannot be read: {error.strerror}",
            hint="Give the path of a WAL file, as PostgreSQL does with %p.",
        ) from None


def _write(path: Path, content: bytes) -> None:
    """Give the file its name when it is whole. PostgreSQL syncs what it takes over."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    try:
        try:
            with unfinished.open("xb") as file:
                file.write(content)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"{str(path)!r} cannot be written: {error.strerror}",
            hint="Set restore_command = 'opskit wal get %f \"%p\"'.",
        ) from None
