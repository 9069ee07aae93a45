"""Volumes back into files, in parallel by frame.

One thread a volume reads and hashes; every frame is then decompressed and written by whichever thread is free, since
the index tells which members each frame holds. So a single file of 1 GB keeps all cores busy, not one.
"""

import hashlib
import mmap
import os
import threading
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import zstandard

from opskit.errors import ErrorKind, ServerError, StoreError
from opskit.repository.compression import decompress_into
from opskit.repository.merge import Selection
from opskit.repository.tape import check_sha256, content_size, damaged, frames
from opskit.repository.tar import BLOCK_BYTES, Header, read_header
from opskit.repository.volumes import Member, Volume
from opskit.store.disk import WRITE_BYTES, write_all, write_large

_READING_AT_ONCE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where members go.

    `path` gives a member's place, `None` to leave it out; `link` a link's target from its member's name and stored
    target; `owner` the (uid, gid) that everything is given to, `None` for the running user.
    """

    path: Callable[[str], str | None]
    link: Callable[[str, str], str]
    owner: tuple[int, int] | None


class Source(NamedTuple):
    """A volume to extract from: what is wanted of it, and its stored bytes, in pieces."""

    selection: Selection
    read: Callable[[], Iterator[memoryview]]


def extract(
    sources: Sequence[Source],
    placement: Placement,
    *,
    advance: Callable[[int], None],
    check: Callable[[], None],
    threads: int | None = None,
) -> None:
    """Write what is wanted of the volumes to its places, and hold every volume against its SHA-256.

    Parameters
    ----------
    advance
        Told how many bytes of tar were written since the last call; called by the calling thread, as `check` is.
    threads
        How many frames are worked on at once.

    Raises
    ------
    IntegrityError
        A volume is damaged. Files have been written by then: the caller removes them.
    StoreError
        A file cannot be written.

    Effects
    -------
    Files are written but not synced. Existing files are never followed through links, and never kept.
    """
    # Twice as many as there are processors: half of them wait for the disk.
    run = _Run(placement, threads or 2 * min(os.cpu_count() or 1, 8))
    make_folders((name for source in sources for name in source.selection.names()), placement)
    with (
        ThreadPoolExecutor(run.threads, thread_name_prefix="extract") as working,
        ThreadPoolExecutor(_READING_AT_ONCE, thread_name_prefix="read") as reading,
    ):
        readers = [reading.submit(run.read_volume, source, working) for source in sources]
        try:
            _watch(readers, run, advance, check)
        except BaseException:
            run.stopped.set()
            for reader in readers:
                reader.cancel()
            raise


def make_folders(names: Iterable[str], placement: Placement) -> None:
    """Make the folders that members lie in, so that they may be written in any order."""
    folders = {name.rpartition("/")[0] for name in names}
    for folder in sorted(folders):
        path = placement.path(folder)
        if path is not None:
            _make_folder(Path(path), placement.owner)


def _watch(
    readers: list[Future[None]],
    run: "_Run",
    advance: Callable[[int], None],
    check: Callable[[], None],
) -> None:
    """Report and check until all volumes are done or one failed."""
    told, pending = 0, set(readers)
    while pending:
        done, pending = wait(pending, timeout=0.1, return_when=FIRST_EXCEPTION)
        for reader in done:
            reader.result()
        written = run.written_bytes
        advance(written - told)
        told = written
        check()


class _Run:
    """The state that the threads of one extraction share."""

    def __init__(self, placement: Placement, threads: int) -> None:
        self.placement = placement
        self.threads = threads
        self.stopped = threading.Event()
        self.written_bytes = 0
        self._counting = threading.Lock()
        self._in_flight = threading.Semaphore(3 * threads)
        self._local = threading.local()
        self._turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def read_volume(self, source: Source, working: ThreadPoolExecutor) -> None:
        """Read, hash and hand out one volume, and wait for its frames."""
        selection = source.selection
        volume = selection.volume
        sha256 = hashlib.sha256()
        offsets = [member.offset for member in volume.members]
        position, waiting = 0, list[Future[None]]()
        try:
            for compressed in frames(volume, source.read(), sha256):
                self._in_flight.acquire()
                if self.stopped.is_set():
                    self._in_flight.release()
                    break
                size = content_size(compressed, volume)
                frame = working.submit(
                    self._extract_frame, selection, offsets, position, size, compressed
                )
                frame.add_done_callback(lambda _: self._in_flight.release())
                waiting.append(frame)
                position += size
        finally:
            wait(waiting)
        for frame in waiting:
            frame.result()
        if self.stopped.is_set():
            return
        check_sha256(volume, sha256)
        if position != volume.tar_bytes:
            raise damaged(volume, f"it holds {position} bytes, expected {volume.tar_bytes}")

    def _extract_frame(
        self, selection: Selection, offsets: list[int], start: int, size: int, compressed: bytes
    ) -> None:
        """Decompress the frame that holds the tar's bytes from `start`, and write what is wanted of each member."""
        if self.stopped.is_set():
            return
        volume = selection.volume
        try:
            stop = start + size
            wanted = []
            for number in range(max(bisect_right(offsets, start) - 1, 0), len(offsets)):
                member = volume.members[number]
                if member.offset >= stop:
                    break
                if number not in selection.left_out:
                    wanted.append(member)
            if wanted:
                tar = self._decompressed(volume, compressed, size)
                for member in wanted:
                    self._write_member(volume, member, tar, start, stop)
        except BaseException:
            self.stopped.set()
            raise
        with self._counting:
            self.written_bytes += size

    def _write_member(
        self,
        volume: Volume,
        member: Member,
        tar: memoryview,
        start: int,
        stop: int,
    ) -> None:
        content = member.offset + BLOCK_BYTES
        begin, end = max(content, start), min(content + member.size, stop)
        header = None
        if member.offset >= start:
            header = expected_header(
                volume, member, bytes(tar[member.offset - start :][:BLOCK_BYTES])
            )
        elif begin >= end:
            return
        path = self.placement.path(member.name)
        if path is None:
            return
        try:
            if header is not None and (header.is_folder or header.is_link):
                make_other(member.name, header, path, self.placement)
            else:
                self._write_part(path, header, tar[begin - start : end - start], begin - content)
        except OSError as error:
            raise cannot_write(path, error) from error

    def _write_part(self, path: str, header: Header | None, part: memoryview, at: int) -> None:
        descriptor = opened(path)
        try:
            if len(part) < WRITE_BYTES:
                write_all(descriptor, part, at)
            else:
                # A file takes one writer at a time, and in the kernel the other would spin.
                with self._turns[path]:
                    write_large(descriptor, part, at)
            if header is not None:
                own(descriptor, header, self.placement)
        finally:
            os.close(descriptor)

    def _decompressed(self, volume: Volume, compressed: bytes, size: int) -> memoryview:
        """The frame's content, in a buffer that this thread uses again for its next frame."""
        local = self._local
        if getattr(local, "buffer", None) is None or len(local.buffer) < size:
            local.buffer = mmap.mmap(-1, size)  # whole pages, which the disk can take from here
            local.zstd = zstandard.ZstdDecompressor()
        content = memoryview(local.buffer)[:size]
        try:
            decompress_into(content, compressed, local.zstd)
        except ValueError as error:
            raise damaged(volume, str(error)) from None
        return content


def expected_header(volume: Volume, member: Member, block: bytes) -> Header:
    """The header of a member, if it is the one that the index tells; `IntegrityError` if not."""
    try:
        header = read_header(block)
    except ServerError:
        header = None
    if header is None or (header.name.rstrip("/"), header.size) != (member.name, member.size):
        raise damaged(volume, f"its index promises {member.name!r} at byte {member.offset}")
    return header


def make_other(name: str, header: Header, path: str, placement: Placement) -> None:
    """Make a folder or a link, whichever the member of that name is."""
    if header.is_folder:
        _make_folder(Path(path), placement.owner)
        if header.mode != 0o700:
            Path(path).chmod(header.mode)
        return
    Path(path).symlink_to(placement.link(name, header.link))
    if placement.owner:
        os.chown(path, *placement.owner, follow_symlinks=False)


def own(descriptor: int, header: Header, placement: Placement) -> None:
    """Give a file the mode and owner that it is to have."""
    if header.mode != 0o600:
        os.fchmod(descriptor, header.mode)
    if placement.owner:
        os.fchown(descriptor, *placement.owner)


def cannot_write(path: str, error: OSError) -> StoreError:
    """The error for a file that cannot be written."""
    return StoreError(
        f"{path!r} cannot be written: {error.strerror}",
        ErrorKind.STORE_FULL if error.errno == 28 else ErrorKind.STORE_NOT_WRITABLE,
        "Make room or choose another directory; what had been restored has been removed again.",
    )


def opened(path: str) -> int:
    """A file to write to, which may be there already; a link is not followed."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _make_folder(path: Path, owner: tuple[int, int] | None) -> None:
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            continue
        if owner:
            os.chown(folder, *owner)
