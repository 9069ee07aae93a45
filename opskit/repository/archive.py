"""The archive that is downloaded: stored bytes, one after the other, and two zero blocks at the end.

Its length is exact before the first byte is read, and any range of it can be read by itself.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import BinaryIO

from opskit.errors import ErrorKind, IntegrityError, NotFoundError
from opskit.repository.parts import Part, made
from opskit.repository.volumes import Volume
from opskit.store import Store

_RUN_BYTES = 16 << 20

# zstd's frame for the 1,024 zero bytes that end a tar archive, fixed so that an archive never changes between versions.
END_FRAME = bytes.fromhex("28b52ffd6400034d00001000000100fb2b8005cdac85f0")


class Archive:
    """One backup as a single ``.tar.zst``.

    Parameters
    ----------
    store
        Where the volumes are.
    folder
        The prefix of their names, without a slash at its end.
    volumes
        In order.
    wal
        What comes behind them, in order.
    """

    def __init__(
        self, store: Store, folder: str, volumes: Sequence[Volume], wal: Sequence[Part] = ()
    ) -> None:
        self._store = store
        self._folder = folder
        self._volumes = volumes
        self._parts = [*map(self._volume, volumes), *wal, made(END_FRAME)]
        self.length = sum(part.stored_bytes for part in self._parts)

    @property
    def digest(self) -> str:
        """What tells its bytes from those of any other archive, in hexadecimal: a SHA-256 over its parts' digests."""
        return hashlib.sha256(b"".join(part.digest for part in self._parts)).hexdigest()

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[memoryview]:
        """The archive's bytes from `start` up to but not including `stop`, in pieces that stay valid until the next.

        A volume that is read whole is held against its SHA-256, a WAL segment against its frames' checksums.

        Raises
        ------
        IntegrityError
            A volume is missing, or differs from its checksum or length; its last piece is then held back. Or a WAL
            segment is damaged.
        """
        for part, begin, end in self.spans(start, self.length if stop is None else stop):
            yield from part.read(begin, end)

    def spans(self, start: int, stop: int) -> Iterator[tuple[Part, int, int]]:
        """The parts that a range touches, each with the offsets in it from which and up to which it does."""
        position = 0
        for part in self._parts:
            begin, end = max(start - position, 0), min(stop - position, part.stored_bytes)
            if begin < end:
                yield part, begin, end
            position += part.stored_bytes

    def check_sizes(self) -> None:
        """Hold the sizes of the volumes, which are listed and not read, against the index.

        Raises
        ------
        IntegrityError
            A volume is missing, or has another size.
        """
        listed = self._store.list(self._folder).objects
        sizes = {stat.name.rpartition("/")[2]: stat.object_bytes for stat in listed}
        for volume in self._volumes:
            _check_size(f"{self._folder}/{volume.name}", sizes.get(volume.name), volume)

    def parts(self) -> Iterator[tuple[int, Iterator[memoryview]]]:
        """Runs of the archive as their offsets in it and their pieces, each some ten megabytes and more.

        For a writer that fills several places of a file at once; errors as `read`.
        """
        position, length, run = 0, 0, list[Part]()
        for part in self._parts:
            run.append(part)
            length += part.stored_bytes
            if length >= _RUN_BYTES or part is self._parts[-1]:
                yield position, _in_turn(run)
                position, length, run = position + length, 0, []

    def _volume(self, volume: Volume) -> Part:
        name = f"{self._folder}/{volume.name}"

        def read(begin: int, end: int) -> Iterator[memoryview]:
            pieces = stored(self._store, name, begin, end)
            if begin > 0 or end < volume.stored_bytes:
                return pieces
            return checked(pieces, volume, name)

        file = partial(_file, self._store, name, volume)
        return Part(volume.stored_bytes, read, bytes.fromhex(volume.sha256), file)


def _in_turn(parts: Sequence[Part]) -> Iterator[memoryview]:
    for part in parts:
        yield from part.read(0, part.stored_bytes)


def stored(store: Store, name: str, begin: int, end: int) -> Iterator[memoryview]:
    """The bytes of a volume that an index promises; errors as `Archive.read`."""
    try:
        yield from store.get(name, begin, end)
    except NotFoundError:
        raise _missing(name) from None


def _file(store: Store, name: str, volume: Volume) -> BinaryIO | None:
    try:
        file = store.file(name)
    except NotFoundError:
        raise _missing(name) from None
    if file is not None:
        try:
            _check_size(name, os.fstat(file.fileno()).st_size, volume)
        except IntegrityError:
            file.close()
            raise
    return file


def _check_size(name: str, size: int | None, volume: Volume) -> None:
    if size is None:
        raise _missing(name)
    if size != volume.stored_bytes:
        raise IntegrityError(
            f"{name!r} has {size} bytes, expected {volume.stored_bytes}",
            ErrorKind.TRUNCATED,
            "The volume is damaged: restore from another backup, and look at the storage under the repository.",
        )


def _missing(name: str) -> IntegrityError:
    return IntegrityError(
        f"the backup's volume {name!r} is missing",
        ErrorKind.INCOMPLETE,
        "Restore from another backup, and look at the storage under the repository.",
    )


def checked(pieces: Iterator[memoryview], volume: Volume, name: str) -> Iterator[memoryview]:
    """The pieces of a whole volume, the last one only after all agree with the volume's SHA-256.

    Raises
    ------
    IntegrityError
        They do not.
    """
    sha256 = hashlib.sha256()
    last: memoryview | None = None
    for piece in pieces:
        if last is not None:
            yield last
        sha256.update(piece)
        last = piece
    if sha256.hexdigest() != volume.sha256:
        raise IntegrityError(
            f"{name!r} has the SHA-256 {sha256.hexdigest()[:16]}…, expected {volume.sha256[:16]}…",
            hint="The volume is damaged: restore from another backup, and look at the storage under the repository.",
        )
    if last is not None:
        yield last
