"""Volumes: whole tar members in independent zstd frames, compressed and put while the stream is read.

The writer is given bytes and member boundaries; threads compress frames and put volumes. Memory is bounded by the
number of frame buffers, which are reused: whoever produces faster than the storage takes waits for a free one.
"""

import hashlib
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import zstandard

from opskit.errors import ConflictError
from opskit.repository.blocks import Blocks

FRAME_BYTES = 4 << 20
VOLUME_BYTES = 128 << 20
LEVEL = 1
_PUTTING_AT_ONCE = 2

Put = Callable[[str, Iterable[bytes]], int]


class Member(NamedTuple):
    """A tar member: its final name, where its header begins in the volume's tar, and its content's size in bytes.

    `blocks` tells what an ``INCREMENTAL.`` file of an incremental backup holds.
    """

    name: str
    offset: int
    size: int
    blocks: Blocks | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A stored volume: its size and its tar's in bytes, its SHA-256, the sizes of its frames, its members in order.

    `frame_bytes` are the sizes of its frames' contents, where they are not 4 MiB each and the last one's shorter.
    """

    name: str
    stored_bytes: int
    tar_bytes: int
    sha256: str
    frames: tuple[int, ...]
    members: tuple[Member, ...]
    frame_bytes: tuple[int, ...] = ()

    def frame_starts(self) -> Sequence[int]:
        """Where in the volume's tar each frame begins."""
        if not self.frame_bytes:
            return range(0, self.tar_bytes, FRAME_BYTES)
        return [0, *accumulate(self.frame_bytes[:-1])]


def volume_name(number: int) -> str:
    """The name of a backup's volume, counted from 1."""
    return f"snapshot-{number:05}.tar.zst"


class VolumeWriter:
    """Writes tar members into volumes. Driven by one thread; not reusable after `finish` or `abort`.

    Parameters
    ----------
    put
        Keeps the concatenation of chunks under a volume's name, durably, and returns the number of bytes.
    threads
        How many frames are compressed at once.
    frame_bytes, volume_bytes
        Tar bytes to a frame, whole blocks of 512 so that no header is cut, and after how many a volume is cut at the
        next member.
    """

    def __init__(
        self,
        put: Put,
        *,
        threads: int | None = None,
        frame_bytes: int = FRAME_BYTES,
        volume_bytes: int = VOLUME_BYTES,
    ) -> None:
        self._put = put
        self._volume_bytes = volume_bytes
        count = threads or min(os.cpu_count() or 1, 8)
        self._compressing = ThreadPoolExecutor(count, thread_name_prefix="compress")
        self._putting = ThreadPoolExecutor(_PUTTING_AT_ONCE, thread_name_prefix="put")
        self._compressors = threading.local()
        self._free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        for _ in range(2 * count + 2 * _PUTTING_AT_ONCE):
            self._free.put(bytearray(frame_bytes))
        self._failure: BaseException | None = None
        self._volumes: list[_Open] = []
        self._frame = self._free.get()
        self._view = memoryview(self._frame)
        self._filled = 0
        self._begin_volume()

    def begin_member(self, name: str, header: bytes, size: int) -> None:
        """Start a member: its header, then `size` bytes of content and the padding are to be written."""
        volume = self._volumes[-1]
        if volume.tar_bytes >= self._volume_bytes:
            self._end_volume()
            volume = self._begin_volume()
        volume.members.append(Member(name, volume.tar_bytes, size))
        self.write(header)

    def note_blocks(self, blocks: Blocks) -> None:
        """Tell which blocks the last member holds."""
        members = self._volumes[-1].members
        members[-1] = members[-1]._replace(blocks=blocks)

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes of tar; blocks while every frame buffer is in use."""
        view = memoryview(data)
        size = len(view)
        self._volumes[-1].tar_bytes += size
        filled, frame_bytes = self._filled, len(self._view)
        while filled + size >= frame_bytes:
            part = frame_bytes - filled
            self._view[filled:] = view[:part]
            self._filled = frame_bytes
            self._submit_frame()
            view, size, filled = view[part:], size - part, 0
        self._view[filled : filled + size] = view
        self._filled = filled + size

    def write_frame(self, stored: bytes, size: int) -> None:
        """Append a zstd frame as it is; `size` is its content's, whole blocks of 512.

        What was written before it ends in a frame of its own.
        """
        if self._filled:
            self._submit_frame()
        self._raise_failure()
        volume = self._volumes[-1]
        volume.tar_bytes += size
        done: Future[bytes] = Future()
        done.set_result(stored)
        # The buffer stands for the room that the frame takes while it waits.
        volume.queue.put((done, self._frame, size))
        self._take_frame()

    def finish(self) -> list[Volume]:
        """Wait until everything is stored; the volumes in order.

        Raises
        ------
        StoreError
            Or whatever else a put raised; the writer is then aborted.
        """
        self._end_volume()
        try:
            done = [volume.done for volume in self._volumes if volume.done is not None]
            wait(done)
            self._raise_failure()  # the first one: the volumes after it were given up for it
            return [volume.stored() for volume in self._volumes]
        finally:
            self._shut_down()

    def abort(self) -> list[str]:
        """Stop all work; the names of the volumes that may be stored nevertheless, none that is somebody else's."""
        self._failure = self._failure or _Aborted()
        for volume in self._volumes:
            volume.queue.put(None)
        self._shut_down()
        return [
            volume.name
            for volume in self._volumes
            if volume.done and not isinstance(volume.done.exception(), ConflictError)
        ]

    def _begin_volume(self) -> "_Open":
        volume = _Open(volume_name(len(self._volumes) + 1))
        self._volumes.append(volume)
        volume.done = self._putting.submit(self._put_volume, volume)
        return volume

    def _end_volume(self) -> None:
        if self._filled:
            self._submit_frame()
        self._volumes[-1].queue.put(None)

    def _submit_frame(self) -> None:
        self._raise_failure()
        frame, filled = self._frame, self._filled
        self._volumes[-1].queue.put(
            (self._compressing.submit(self._compress, frame, filled), frame, filled)
        )
        self._take_frame()

    def _take_frame(self) -> None:
        self._frame = self._free.get()
        self._view = memoryview(self._frame)
        self._filled = 0

    def _compress(self, frame: bytearray, filled: int) -> bytes:
        compressor = getattr(self._compressors, "zstd", None)
        if compressor is None:
            # The checksum lets `zstd -d` notice damage without opskit.
            compressor = zstandard.ZstdCompressor(
                level=LEVEL, write_checksum=True, write_content_size=True
            )
            self._compressors.zstd = compressor
        compressed: bytes = compressor.compress(memoryview(frame)[:filled])
        return compressed

    def _put_volume(self, volume: "_Open") -> None:
        try:
            volume.stored_bytes = self._put(volume.name, self._chunks(volume))
        except BaseException as error:
            self._failure = self._failure or error
            raise
        finally:
            self._release_rest(volume)

    def _chunks(self, volume: "_Open") -> Iterator[bytes]:
        while (item := volume.queue.get()) is not None:
            future, frame, size = item
            try:
                compressed = future.result()
                volume.frames.append(len(compressed))
                volume.frame_bytes.append(size)
                volume.sha256.update(compressed)
                yield compressed
            finally:
                self._free.put(frame)
        volume.ended = True
        if self._failure is not None:
            raise _Aborted

    def _release_rest(self, volume: "_Open") -> None:
        """After a failed put: take what still comes and give the buffers back, so that the producer never hangs."""
        while not volume.ended:
            item = volume.queue.get()
            if item is None:
                volume.ended = True
            else:
                item[0].cancel() or item[0].exception()
                self._free.put(item[1])

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _shut_down(self) -> None:
        self._compressing.shutdown(cancel_futures=False)
        self._putting.shutdown()


class _Aborted(Exception):
    """The producer gave up: the volume must not be stored."""


class _Open:
    """A volume that is being written."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tar_bytes = 0
        self.stored_bytes = 0
        self.members: list[Member] = []
        self.frames: list[int] = []
        self.frame_bytes: list[int] = []
        self.sha256 = hashlib.sha256()
        self.queue: queue.SimpleQueue[tuple[Future[bytes], bytearray, int] | None] = (
            queue.SimpleQueue()
        )
        self.ended = False
        self.done: Future[None] | None = None

    def stored(self) -> Volume:
        assert self.done is not None
        self.done.result()
        is_regular = all(size == FRAME_BYTES for size in self.frame_bytes[:-1])
        return Volume(
            name=self.name,
            stored_bytes=self.stored_bytes,
            tar_bytes=self.tar_bytes,
            sha256=self.sha256.hexdigest(),
            frames=tuple(self.frames),
            members=tuple(self.members),
            frame_bytes=() if is_regular else tuple(self.frame_bytes),
        )
