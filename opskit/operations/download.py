"""Bring one backup out of the repository as a single ordinary archive."""

import gzip
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, cast

import zstandard

from opskit.errors import ConflictError, ErrorKind, InputError, IntegrityError, StoreError
from opskit.model.backup import BackupKind, BaseBackup
from opskit.model.operation import Progress
from opskit.operations.download_wal import choose_wal, wal_parts
from opskit.operations.monitor import Monitor
from opskit.repository import Archive, Repository
from opskit.repository.content import reader_of
from opskit.repository.parts import Part

if TYPE_CHECKING:
    from opskit.repository.merged import MergedArchive

_AT_ONCE = 2
_PIECE_BYTES = 1 << 20


class ArchiveFormat(StrEnum):
    """What a download may come as; only ``tar.zst`` is what is stored, the others are made from it."""

    TAR_ZST = "tar.zst"
    TAR_GZ = "tar.gz"
    TAR = "tar"


def archive_name(backup: BaseBackup, archive_format: ArchiveFormat) -> str:
    """The file name that a download is given by default: ``main-20261122T140305Z.tar.zst``."""
    return f"{backup.cluster}-{backup.name}.{archive_format}"


def download(
    repository: Repository,
    backup: BaseBackup,
    path: Path,
    *,
    archive_format: ArchiveFormat,
    monitor: Monitor,
    wal: bool = True,
    until: datetime | None = None,
) -> Path:
    """Write the backup's archive to `path`, or below its default name where `path` is a directory.

    Every volume is held against its SHA-256 on the way, every WAL segment against its frames' checksums. An increment
    is put together on the fly with what it is based on, from frames that are held against their checksums.

    Parameters
    ----------
    wal, until
        Whether the WAL archive comes with it, and up to which time; see `opskit.operations.download_wal.choose_wal`.

    Returns
    -------
    The file that was written; it is durable.

    Raises
    ------
    ConflictError
        The file exists.
    IntegrityError
        A volume or a WAL segment is damaged or missing.
    StoreError
        The file cannot be written.
    Cancelled
        The monitor asked for the end.

    Effects
    -------
    The name appears when the archive is whole; after a failure nothing is left.
    """
    target = path / archive_name(backup, archive_format) if path.is_dir() else path
    if target.exists() or target.is_symlink():
        raise ConflictError(
            f"{str(target)!r} exists already",
            ErrorKind.OBJECT_EXISTS,
            "Give another name, or remove it.",
        )
    if not target.parent.is_dir():
        raise InputError(
            f"{str(target.parent)!r} is not a directory", hint="Make it, or give another path."
        )
    parts = wal_parts(repository, backup, choose_wal(repository, backup, until)) if wal else []
    archive = (
        repository.archive(backup, parts)
        if backup.kind is BackupKind.FULL
        else merged_archive(repository, backup, parts)
    )
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.unfinished")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            if archive_format is not ArchiveFormat.TAR_ZST:
                _convert(archive, file, archive_format, backup, monitor)
            elif isinstance(archive, Archive):
                _copy_volumes(archive, file, monitor)
            else:
                _write(archive, file, monitor)
            monitor.report(
                Progress(phase="syncing", bytes_done=archive.length, bytes_expected=archive.length)
            )
            file.flush()
            os.fsync(file.fileno())
        _publish(unfinished, target)
    except OSError as error:
        full = error.errno in (28, 122, 27)
        raise StoreError(
            f"{str(target)!r} cannot be written: {error.strerror}",
            ErrorKind.STORE_FULL if full else ErrorKind.STORE_NOT_WRITABLE,
            "Free some space or choose another place; what was half written has been removed.",
        ) from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
    return target


def merged_archive(
    repository: Repository, backup: BaseBackup, wal: Sequence[Part]
) -> "MergedArchive":
    """The archive of an increment, to be put together while it is read.

    Raises
    ------
    IntegrityError
        Something that it is based on is damaged or missing.
    """
    from opskit.operations.combined import known_checksums  # a full backup does without
    from opskit.repository.merged import MergedArchive

    content = repository.content(backup)
    return MergedArchive(
        content,
        repository.manifest(backup),
        reader_of(repository, content.chain),
        known_checksums(repository, content),
        wal,
    )


def _write(archive: "MergedArchive", file: BinaryIO, monitor: Monitor) -> None:
    for piece in archive.read():
        file.write(piece)
        monitor.report(
            Progress(phase="copying", bytes_done=archive.done_bytes, bytes_expected=archive.length)
        )
        monitor.check()


def _copy_volumes(archive: Archive, file: BinaryIO, monitor: Monitor) -> None:
    """Each part to its place in the file, two at once, as reading, hashing and writing take a core each."""
    copied, lock, stopped = 0, threading.Lock(), threading.Event()

    def copy(offset: int, pieces: Iterator[memoryview]) -> None:
        nonlocal copied
        for piece in pieces:
            while piece and not stopped.is_set():
                # A file takes one writer at a time, and in the kernel the other would spin.
                with lock:
                    count = os.pwrite(file.fileno(), piece, offset)
                    copied += count
                piece, offset = piece[count:], offset + count
            if stopped.is_set():
                return

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="download") as copying:
        pending = {copying.submit(copy, offset, pieces) for offset, pieces in archive.parts()}
        try:
            while pending:
                done, pending = wait(pending, timeout=0.1)
                for part in done:
                    part.result()
                monitor.report(
                    Progress(phase="copying", bytes_done=copied, bytes_expected=archive.length)
                )
                monitor.check()
        except BaseException:
            stopped.set()
            for part in pending:
                part.cancel()
            raise


def _convert(
    archive: "Archive | MergedArchive",
    file: BinaryIO,
    archive_format: ArchiveFormat,
    backup: BaseBackup,
    monitor: Monitor,
) -> None:
    reader = zstandard.ZstdDecompressor().stream_reader(
        cast(IO[bytes], _Pieces(archive.read(), archive.length, monitor)), read_across_frames=True
    )
    sink = (
        gzip.GzipFile(
            filename="",
            mode="wb",
            fileobj=file,
            compresslevel=1,
            mtime=backup.started_at.timestamp(),
        )
        if archive_format is ArchiveFormat.TAR_GZ
        else None
    )
    try:
        while content := reader.read(_PIECE_BYTES):
            (sink or file).write(content)
    except zstandard.ZstdError as error:
        for _ in archive.read():  # names the volume that differs from its checksum
            monitor.check()
        raise IntegrityError(
            f"backup {backup.name!r} is damaged: {error}", hint="Restore from another backup."
        ) from None
    finally:
        if sink is not None:
            sink.close()


class _Pieces:
    """Pieces as a file to read from, that tells how far it is."""

    def __init__(self, pieces: Iterator[memoryview], length: int, monitor: Monitor) -> None:
        self._pieces, self._length, self._monitor = pieces, length, monitor
        self._piece, self._done = memoryview(b""), 0

    def read(self, size: int = -1) -> memoryview:
        if not self._piece:
            self._piece = next(self._pieces, memoryview(b""))
            self._monitor.check()
            self._monitor.report(
                Progress(phase="copying", bytes_done=self._done, bytes_expected=self._length)
            )
        part = self._piece[:size] if size >= 0 else self._piece
        self._piece = self._piece[len(part) :]
        self._done += len(part)
        return part


def _publish(unfinished: Path, target: Path) -> None:
    """Give the finished file its name unless somebody took it meanwhile."""
    try:
        os.link(unfinished, target)
    except FileExistsError:
        raise ConflictError(
            f"{str(target)!r} exists already",
            ErrorKind.OBJECT_EXISTS,
            "Give another name, or remove it.",
        ) from None
    except OSError:  # no hard links on this disk
        unfinished.rename(target)
    descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
