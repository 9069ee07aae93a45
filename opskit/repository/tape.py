"""A volume that is read from its beginning to its end, and gives its frames about in that order.

So every byte is read once and hashed on the way, although somebody else decides which frame is needed when.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator
from itertools import accumulate

import zstandard

from opskit.errors import IntegrityError, OpskitError
from opskit.repository.volumes import Volume

_DAMAGED = "Restore from another backup, and look at the storage under the repository."


class Tape:
    """One volume; any thread may ask for a frame.

    A frame that is passed over is kept if it is expected to be asked for; any other is read once more if it is.

    Parameters
    ----------
    read
        The stored bytes from one offset up to another.
    """

    def __init__(self, volume: Volume, read: Callable[[int, int], Iterator[memoryview]]) -> None:
        self.volume = volume
        self._read = read
        self._sha256 = hashlib.sha256()
        self._coming = frames(volume, read(0, volume.stored_bytes), self._sha256)
        self._next = 0
        self._expected: set[int] = set()
        self._passed: dict[int, bytes] = {}
        self._reading = threading.Lock()
        self._is_finished = False
        self._failure: OpskitError | None = None

    def expect(self, number: int) -> None:
        """A frame is going to be asked for."""
        self._expected.add(number)

    def frame(self, number: int) -> bytes:
        """A frame as it is stored.

        Raises
        ------
        IntegrityError
            The volume ends before it.
        """
        with self._reading:
            while self._next <= number and not self._is_finished:
                passed = self._read_next()
                if self._next == number or self._next in self._expected:
                    self._passed[self._next] = passed
                self._next += 1
            stored = self._passed.pop(number, None)
        if stored is None:
            begin, end = [0, *accumulate(self.volume.frames)][number : number + 2]
            stored = b"".join(self._read(begin, end))
        return stored

    def _read_next(self) -> bytes:
        if self._failure is not None:  # another frame's reader has been told
            raise self._failure
        try:
            return next(self._coming)
        except OpskitError as error:
            self._failure = error
            raise

    def finish(self) -> None:
        """Read on to the end, and compare the volume's SHA-256.

        Raises
        ------
        IntegrityError
            It is another one.
        """
        with self._reading:
            if self._is_finished:
                return
            self._is_finished = True
            self._passed.clear()
            for _ in self._coming:
                pass
        check_sha256(self.volume, self._sha256)


def frames(
    volume: Volume, pieces: Iterator[memoryview], sha256: "hashlib._Hash"
) -> Iterator[bytes]:
    """The volume's frames, cut at the sizes that the index tells, while all of it is hashed."""
    buffer, position = memoryview(b""), 0
    for size in volume.frames:
        parts: list[memoryview] = []
        missing = size
        while missing:
            if position == len(buffer):
                buffer, position = next(pieces, memoryview(b"")), 0
                if not buffer:
                    raise damaged(volume, "it ends early")
                sha256.update(buffer)
            part = buffer[position : position + missing]
            parts.append(part)
            position += len(part)
            missing -= len(part)
        yield _taken(parts)


def _taken(parts: list[memoryview]) -> bytes:
    """They joined; a reader that waits for its next turn does not keep them."""
    joined = b"".join(parts)
    parts.clear()
    return joined


def check_sha256(volume: Volume, sha256: "hashlib._Hash") -> None:
    """Hold a volume that was read against its checksum; `IntegrityError` if it is another one."""
    if sha256.hexdigest() != volume.sha256:
        raise IntegrityError(
            f"volume {volume.name!r} has the SHA-256 {sha256.hexdigest()[:16]}…,"
            f" expected {volume.sha256[:16]}…",
            hint=_DAMAGED,
        )


def content_size(compressed: bytes, volume: Volume) -> int:
    """The size of a frame's content; `IntegrityError` where it does not tell."""
    try:
        size: int = zstandard.frame_content_size(compressed)
    except zstandard.ZstdError as error:
        raise damaged(volume, str(error)) from None
    if size < 0:
        raise damaged(volume, "a frame does not tell its size")
    return size


def damaged(volume: Volume, what: str) -> IntegrityError:
    """The error for a volume that cannot be read."""
    return IntegrityError(f"volume {volume.name!r} is damaged: {what}", hint=_DAMAGED)
