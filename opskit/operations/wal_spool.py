"""Segments fetched ahead of a recovery: a folder beside the one that PostgreSQL asks for next.

PostgreSQL runs its ``restore_command`` for one segment after the other, and waits. A call whose segment lies here
already only has to rename it. So this module loads next to nothing: what fetches ahead is `wal_ahead`.

What must stay true: a segment's name appears here when all of it has been fetched, checked and synced; a *spool* serves
one run of one server, asking in the same words, and is gone with the first call that it cannot serve.
"""

import fcntl
import os
import stat
import time

TYPE_CHECKING = False  # typing's would have to be loaded
if TYPE_CHECKING:
    from collections.abc import Iterable

_FOLDER = "opskit.spool"
_KEY, _UNFINISHED = "key", ".unfinished"
_NAME_LENGTH = 24
_LOG_BYTES = 1 << 32  # see `opskit.model.wal`
_TARGETS = (
    "RECOVERYXLOG",
    "RECOVERYHISTORY",
)  # PostgreSQL's %p; pg_rewind's differ, and it goes backwards
_RUN_LINES = 3  # of postmaster.pid: the process, its data directory, when it was started
_MOST_BYTES, _MOST_SEGMENTS = 128 << 20, 32
_SPARED = 8  # as many times what may lie here must be free
_LONGEST_WAIT = 10.0
_POLL_SECONDS = 0.004
_ATTEMPTS = 5


def spool_for(path: str, words: list[str]) -> "Spool | None":
    """The spool of the server that runs `path`'s data directory and asks in these words; `None` where none recovers."""
    if os.path.basename(path) not in _TARGETS:
        return None
    wal = os.path.dirname(path)
    run = _run_of(os.path.dirname(wal))
    return Spool(wal, run + "\0".join(words).encode(errors="surrogateescape")) if run else None


def most_segments(segment_bytes: int) -> int:
    """How many segments may lie in a spool."""
    return max(1, min(_MOST_SEGMENTS, _MOST_BYTES // segment_bytes))


class Spool:
    """A folder of segments for one asker, `key`; most of its methods raise `OSError` as the file system does."""

    def __init__(self, wal: str, key: bytes) -> None:
        self._wal, self._key = wal, key
        self._data = os.path.dirname(wal)
        self._folder = os.path.join(wal, _FOLDER)

    def take(self, name: str, path: str) -> int:
        """Move a segment to `path`, once it has been fetched; its bytes, 0 if it is not here, or not good."""
        folder = self._opened()
        if folder is None:
            return 0
        try:
            latest = time.monotonic() + _LONGEST_WAIT
            while True:
                # Asked first: what gets its name between the two questions is found by the second.
                is_coming = _exists(name + _UNFINISHED, folder)
                if _exists(name, folder):
                    size = _fitting(name, folder, self._data)
                    if size:
                        os.rename(name, path, src_dir_fd=folder)
                    return size
                if not is_coming or time.monotonic() > latest or not _is_locked(folder):
                    return 0
                time.sleep(_POLL_SECONDS)
        finally:
            os.close(folder)

    def is_low(self, segment_bytes: int) -> bool:
        """Whether more should be fetched by now."""
        folder = self._opened()
        if folder is None:
            return False
        try:
            return 2 * len(_names(folder)) <= most_segments(segment_bytes)
        finally:
            os.close(folder)

    def lead(self, given: str, segment_bytes: int = 0) -> "SpoolLead | None":
        """Become the one who fetches what will be asked for after `given`; `None` if there is one.

        What is not here of that is announced before this returns: the next call finds it as coming, whenever it comes.
        Where `segment_bytes` is not known, the wrong name is announced for a segment that begins another 4 GiB.
        """
        folder = self._opened()
        if folder is None:
            self.remove()
            self._make()
            folder = self._opened()
        if folder is None:
            return None
        lock = os.open(_KEY, os.O_RDONLY, dir_fd=folder)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            os.close(folder)
            return None
        lead = SpoolLead(self, lock, folder)
        lead.begin(given, segment_bytes)
        return lead

    def remove(self) -> None:
        """Remove it, and what others left beside it."""
        for entry in os.listdir(self._wal or "."):
            if entry == _FOLDER:
                gone = f"{self._folder}.{os.getpid()}.gone"
                try:
                    os.rename(self._folder, gone)  # who fetches sees that it is not wanted
                except FileNotFoundError:
                    continue
                _remove_folder(gone)
            elif entry.startswith(_FOLDER + "."):
                _remove_folder(os.path.join(self._wal, entry))

    def is_for_this_run(self) -> bool:
        """Whether the server that it was made for runs still."""
        run = _run_of(self._data)
        return run is not None and self._key.startswith(run)

    def free_bytes(self) -> int:
        """How much the disk has free."""
        free = os.statvfs(self._wal or ".")
        return free.f_bavail * free.f_frsize

    def leads_to(self, folder: int) -> bool:
        """Whether the spool is that folder still."""
        try:
            return os.path.samestat(os.stat(self._folder), os.fstat(folder))
        except FileNotFoundError:
            return False

    def _opened(self) -> int | None:
        """A descriptor of the folder, if it serves who asks: names below it stay those of the same spool."""
        try:
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return None
        try:
            key = os.open(_KEY, os.O_RDONLY, dir_fd=folder)
            try:
                if os.read(key, len(self._key) + 1) == self._key:
                    return folder
            finally:
                os.close(key)
        except OSError:
            pass
        os.close(folder)
        return None

    def _make(self) -> None:
        made = f"{self._folder}.{os.getpid()}"
        os.mkdir(made, 0o700)
        with open(os.path.join(made, _KEY), "xb") as file:
            file.write(self._key)
        try:
            os.rename(made, self._folder)
        except OSError:  # somebody else has made one
            _remove_folder(made)


class SpoolLead:
    """The right to fetch ahead into a spool, held by every process that has its `descriptors` open.

    `last` is the segment behind which to begin.
    """

    def __init__(self, spool: Spool, lock: int, folder: int) -> None:
        self.descriptors = lock, folder
        self.last = ""
        self._spool, self._folder = spool, folder

    def begin(self, given: str, segment_bytes: int) -> None:
        """Announce what follows the last segment that is here, or `given`; see `Spool.lead`."""
        whole = self.whole()
        for name in set(self.names()) - set(whole):
            self.give_up(name)  # who began it was killed
        self.last = max([given, *(name for name in whole if name[:8] == given[:8])])
        self.announce(_following(self.last, segment_bytes))

    def close(self) -> None:
        """Give it up in this process."""
        for descriptor in self.descriptors:
            os.close(descriptor)

    def is_wanted(self) -> bool:
        """Whether the server runs still, and nobody has removed the spool."""
        return self._spool.leads_to(self._folder) and self._spool.is_for_this_run()

    def has_room(self, segment_bytes: int) -> bool:
        """Whether the disk has so much free that a full spool does not matter."""
        return self._spool.free_bytes() >= _SPARED * most_segments(segment_bytes) * segment_bytes

    def names(self) -> list[str]:
        """The segments that are here or are being fetched."""
        return _names(self._folder)

    def whole(self) -> list[str]:
        """The segments that are here."""
        return [name for name in os.listdir(self._folder) if len(name) == _NAME_LENGTH]

    def announce(self, name: str) -> None:
        """Tell who asks for this segment that it is being fetched."""
        os.close(self._open(name + _UNFINISHED, os.O_CREAT))

    def put(self, name: str, pieces: "Iterable[bytes]") -> None:
        """Give a segment that was announced its content; what `pieces` raise passes, and nothing is given."""
        descriptor = self._open(name + _UNFINISHED, os.O_TRUNC)
        try:
            for piece in pieces:
                rest = memoryview(piece)
                while rest:
                    rest = rest[os.write(descriptor, rest[: 1 << 20]) :]  # see ADR 0030
            os.fsync(descriptor)  # PostgreSQL does, too, and finds it done
        finally:
            os.close(descriptor)
        os.rename(name + _UNFINISHED, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def give_up(self, name: str) -> None:
        """Take an announcement back."""
        try:
            os.unlink(name + _UNFINISHED, dir_fd=self._folder)
        except FileNotFoundError:
            return

    def remove(self) -> None:
        """Remove the spool, if it is this one."""
        if self._spool.leads_to(self._folder):
            self._spool.remove()

    def _open(self, name: str, flags: int = 0) -> int:
        return os.open(name, os.O_WRONLY | flags, 0o600, dir_fd=self._folder)


def _names(folder: int) -> list[str]:
    return [name.removesuffix(_UNFINISHED) for name in os.listdir(folder) if name != _KEY]


def _following(name: str, segment_bytes: int) -> str:
    log, number = int(name[8:16], 16), int(name[16:], 16) + 1
    if number * segment_bytes == _LOG_BYTES:
        log, number = log + 1, 0
    return f"{name[:8]}{log:08X}{number:08X}"


def _run_of(data: str) -> bytes | None:
    """Which run of the server of a data directory this is."""
    try:
        with open(os.path.join(data, "postmaster.pid"), "rb") as file:
            lines = file.read(4096).splitlines(keepends=True)[:_RUN_LINES]
    except OSError:
        return None
    return b"".join(lines) if len(lines) == _RUN_LINES else None


def _fitting(name: str, folder: int, data: str) -> int:
    """A file's bytes, if it says of itself that it is that segment of the cluster that asks, and is whole; else 0.

    Its content was checked as it came. Its header (PostgreSQL, ``XLogLongPageHeaderData``) has the address at 8, the
    system identifier, as ``pg_control`` has it first, at 24, and the segment's size at 32.
    """
    try:
        with open(os.path.join(data, "global/pg_control"), "rb") as file:
            system = file.read(8)
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
        try:
            status, header = os.fstat(descriptor), os.read(descriptor, 40)
        finally:
            os.close(descriptor)
    except OSError:
        return 0
    size = status.st_size
    if not stat.S_ISREG(status.st_mode) or len(system) != 8 or not 0 < size <= 1 << 30:
        return 0
    start = (int(name[8:16], 16) << 32) + int(name[16:24], 16) * size
    expected = start.to_bytes(8, "little"), system, size.to_bytes(4, "little")
    return size if (header[8:16], header[24:32], header[32:36]) == expected else 0


def _exists(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _is_locked(folder: int) -> bool:
    """Whether somebody fetches ahead."""
    lock = os.open(_KEY, os.O_RDONLY, dir_fd=folder)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _remove_folder(folder: str) -> None:
    """Who fetches may put one more into it, and removes it in the end."""
    for _ in range(_ATTEMPTS):
        try:
            for name in os.listdir(folder):
                os.unlink(os.path.join(folder, name))
            os.rmdir(folder)
        except FileNotFoundError:
            return
        except OSError:
            continue
        return
