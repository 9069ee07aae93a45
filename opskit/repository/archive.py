"""The archive that is downloaded: stored bytes, one after the other, and two zero blocks at the end.

Its length is exact before the first byte is read, and any range of it can be read by itself.
"""

import hashlib
from collections.abc import Iterator, Sequence

from opskit.errors import ErrorKind, IntegrityError, NotFoundError
from opskit.repository.volumes import Volume
from opskit.store import Store

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
    """

    def __init__(self, store: Store, folder: str, volumes: Sequence[Volume]) -> None:
        self._store = store
        self._folder = folder
        self._volumes = tuple(volumes)
        self.length = sum(volume.stored_bytes for volume in volumes) + len(END_FRAME)

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[memoryview]:
        """The archive's bytes from `start` up to but not including `stop`, in pieces that stay valid until the next.

        A volume that is read whole is held against its SHA-256.

        Raises
        ------
        IntegrityError
            A volume is missing, or differs from its checksum or length; its last piece is then held back.
        """
        stop = self.length if stop is None else min(stop, self.length)
        position = 0
        for volume in self._volumes:
            begin, end = max(start - position, 0), min(stop - position, volume.stored_bytes)
            if begin < end:
                yield from self._volume(volume, begin, end)
            position += volume.stored_bytes
        tail = END_FRAME[max(start - position, 0) : max(stop - position, 0)]
        if tail:
            yield memoryview(tail)

    def parts(self) -> Iterator[tuple[int, Iterator[memoryview]]]:
        """Each volume, and the archive's end, as its offset in the archive and its pieces; errors as `read`.

        For a writer that fills several places of a file at once.
        """
        position = 0
        for volume in self._volumes:
            yield position, self._volume(volume, 0, volume.stored_bytes)
            position += volume.stored_bytes
        yield position, iter([memoryview(END_FRAME)])

    def _volume(self, volume: Volume, begin: int, end: int) -> Iterator[memoryview]:
        pieces = stored(self._store, f"{self._folder}/{volume.name}", begin, end)
        if begin > 0 or end < volume.stored_bytes:
            yield from pieces
            return
        yield from checked(pieces, volume, f"{self._folder}/{volume.name}")


def stored(store: Store, name: str, begin: int, end: int) -> Iterator[memoryview]:
    """The bytes of a volume that an index promises; errors as `Archive.read`."""
    try:
        yield from store.get(name, begin, end)
    except NotFoundError:
        raise IntegrityError(
            f"the backup's volume {name!r} is missing",
            ErrorKind.INCOMPLETE,
            "Restore from another backup, and look at the storage under the repository.",
        ) from None


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
