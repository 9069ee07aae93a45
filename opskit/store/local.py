"""A store in a local directory, durable against a crash of the machine at any instruction.

obstore lists. `put` is ours, because obstore's own neither syncs the file nor its folder: a name would be visible
before its bytes are safe. `get` is ours, because obstore takes ten times as long for what is small, as records are.
"""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from obstore import store as obstore_stores

from opskit.errors import ErrorKind, NotFoundError, StoreError
from opskit.store._objects import ObstoreReader, check_name, reaching, translated, whole
from opskit.store._port import Listing
from opskit.store.disk import write_behind

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_UNFINISHED = ".unfinished"
_STALE_SECONDS = 3600
_SENT_BYTES = 4 << 20  # written before the disk is told of them
_ATTEMPTS = 100  # against others who remove empty folders at the same time
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class LocalStore(ObstoreReader):
    """Objects as files below `directory`, readable by their owner alone (modes 0600 and 0700).

    The directory is made by the first `put`. Bytes are written below ``.unfinished``, synced, linked to their name,
    and the folder is synced; what a killed process left there is removed by a later one.
    """

    # What is read is often written elsewhere in the same pieces; see `WRITE_BYTES` of opskit.store.disk.
    piece_bytes = 1 << 20

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self._opened: ObjectStore | None = None
        super().__init__(self.directory.as_uri())

    def _objects(self) -> "ObjectStore":
        if self._opened is None:
            if not self.directory.is_dir():
                raise FileNotFoundError
            self._opened = obstore_stores.LocalStore(self.directory)
        return self._opened

    def put(self, name: str, chunks: Iterable[bytes | memoryview], *, replace: bool = False) -> int:
        """See `Store.put`."""
        target = self.directory / check_name(name)
        temporary = self.directory / _UNFINISHED / os.urandom(12).hex()
        with self._failures(name):
            _make_folder(temporary.parent)
            _remove_stale(temporary.parent)
        try:
            written = self._write_synced(temporary, chunks, name)
            with self._failures(name):
                _publish(temporary, target, replace=replace)
        finally:
            with suppress(OSError):  # a later put removes it
                temporary.unlink(missing_ok=True)
        return written

    def file(self, name: str) -> BinaryIO | None:
        """See `Store.file`."""
        with self._failures(name):
            return (self.directory / check_name(name)).open("rb", buffering=0)

    def get(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[memoryview]:
        """See `Store.get`."""
        with self._failures(name):
            descriptor = _open(self.directory / check_name(name))
        try:
            end = reaching(name, os.fstat(descriptor).st_size, start, stop)
            for position in range(start, end, self.piece_bytes):
                upto = min(position + self.piece_bytes, end)
                with self._failures(name):
                    piece = _pread(descriptor, upto - position, position)
                yield whole(name, memoryview(piece), position, upto, end)
        finally:
            os.close(descriptor)

    def list(self, prefix: str = "") -> Listing:
        """See `Store.list`."""
        try:
            return super().list(prefix)
        except NotFoundError:
            return Listing((), ())

    def delete(self, name: str) -> None:
        """See `Store.delete`. A folder that becomes empty goes too."""
        path = self.directory / check_name(name)
        with suppress(NotFoundError), self._failures(name):
            path.unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                _sync_folder(path.parent)
            for folder in path.parents:
                if folder == self.directory or not _removed_if_empty(folder):
                    break
                _sync_folder(folder.parent)

    def _write_synced(self, path: Path, chunks: Iterable[bytes | memoryview], name: str) -> int:
        """Write a new file and force it to the disk; the lock held meanwhile tells others that its writer lives.

        What the chunks raise is not the storage's failure, so that it passes as it is.
        """
        written = sent = 0
        with self._failures(name):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with suppress(OSError):  # a disk without locks: then nobody removes what has none
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for chunk in chunks:
                with self._failures(name):
                    _write(descriptor, chunk)
                    written += len(chunk)
                    if written - sent >= _SENT_BYTES:
                        write_behind(descriptor, sent, written)
                        sent = written
            with self._failures(name):
                os.fsync(descriptor)
        finally:
            with self._failures(name):
                os.close(descriptor)
        return written

    @contextmanager
    def _failures(self, name: str) -> Iterator[None]:
        try:
            with translated(name, self.url):
                yield
        except OSError as error:
            raise self._failed(error, name) from error

    def _failed(self, error: OSError, name: str) -> StoreError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return StoreError(
                f"{self.url} is full: {error.strerror} at {name!r}",
                ErrorKind.STORE_FULL,
                "Free some space there or choose a larger place; what was half written has been removed.",
            )
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
            return StoreError(
                f"{self.url} is not writable: {error.strerror}",
                ErrorKind.STORE_NOT_WRITABLE,
                "Give the account that runs opskit the right to write there.",
            )
        return StoreError(
            f"{self.url} failed at {name!r}: {error.strerror}", ErrorKind.STORE_FAILED
        )


def _pread(descriptor: int, count: int, position: int) -> bytes:
    """So many bytes, fewer only where the file ends: one read may give less anywhere (pread(2))."""
    piece = os.pread(descriptor, count, position)
    while len(piece) < count:
        more = os.pread(descriptor, count - len(piece), position + len(piece))
        if not more:
            break
        piece += more
    return piece


def _open(path: Path) -> int:
    """Open an object to read it; a folder is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except NotADirectoryError:
        raise FileNotFoundError from None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise FileNotFoundError


def _write(descriptor: int, chunk: bytes | memoryview) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _publish(temporary: Path, target: Path, *, replace: bool) -> None:
    """Give the finished file its name, durably; without `replace` only if nobody has it."""
    for left in reversed(range(_ATTEMPTS)):
        _make_folder(target.parent)
        try:
            _name(temporary, target, replace=replace)
            break
        except FileNotFoundError:  # its folder was empty, and was removed in this moment
            if not left:
                raise
    try:
        with suppress(FileNotFoundError):  # removed already
            _sync_folder(target.parent)
    except OSError:
        if not replace:
            target.unlink(missing_ok=True)
        raise


def _name(temporary: Path, target: Path, *, replace: bool) -> None:
    if replace:
        temporary.replace(target)
        return
    try:
        os.link(temporary, target)  # in one step, where the disk can
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS or target.exists():
            raise
        temporary.rename(target)  # vfat, some network disks: checked just above, not in one step


def _removed_if_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, durably."""
    if folder.is_dir():
        return
    for left in reversed(range(_ATTEMPTS)):
        _make_folder(folder.parent)
        try:
            with suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            _sync_folder(folder.parent)
            return
        except FileNotFoundError:
            if not left:
                raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_stale(folder: Path) -> None:
    """Remove what killed writers left: files that nobody has locked, an hour after their last write."""
    for path in folder.iterdir():
        with suppress(OSError):
            if time.time() - path.stat().st_mtime < _STALE_SECONDS:
                continue
            descriptor = os.open(path, os.O_WRONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
            finally:
                os.close(descriptor)
