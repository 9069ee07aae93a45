"""Parts of volumes, read by their frames: any frame can be decompressed by itself, and the index tells where it is."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from opskit.errors import IntegrityError
from opskit.repository.compression import decompress
from opskit.repository.tar import BLOCK_BYTES
from opskit.repository.volumes import Member, Volume

_KEPT_FRAMES = 16
_KEPT_BESIDE = 8  # those in use: a chain's backups each have one at a time, or come to the next


class FramePart(NamedTuple):
    """A piece of a volume's tar, and the frame as it is stored if the piece is all that it holds."""

    content: memoryview
    stored: bytes | None


ReadStored = Callable[[int, Volume, int, int], Iterator[memoryview]]


class FrameReader:
    """Reads pieces of the tar of several backups' volumes; the frames that were used last are kept.

    They take 64 MiB, and more for long chains: 4 MiB for each backup and 32.

    Parameters
    ----------
    read
        The stored bytes of a backup's volume, by the backup's number, from one offset up to another.
    backups
        How many backups they are.
    """

    def __init__(self, read: ReadStored, backups: int) -> None:
        self._read = read
        self._most = max(_KEPT_FRAMES, backups + _KEPT_BESIDE)
        self._frames: OrderedDict[tuple[int, str, int], FramePart] = OrderedDict()
        self._offsets: dict[tuple[int, str], list[int]] = {}
        self._starts: dict[tuple[int, str], Sequence[int]] = {}

    def content(
        self, backup: int, volume: Volume, member: Member, begin: int = 0, end: int | None = None
    ) -> Iterator[memoryview]:
        """The content of a member, or from `begin` up to `end` of it.

        Raises
        ------
        IntegrityError
            A frame is missing or differs from its checksum.
        """
        start = member.offset + BLOCK_BYTES
        yield from self.tar(
            backup, volume, start + begin, start + (member.size if end is None else end)
        )

    def tar(self, backup: int, volume: Volume, begin: int, end: int) -> Iterator[memoryview]:
        """The bytes of a volume's tar from `begin` up to `end`; errors as `content`."""
        for part in self.parts(backup, volume, begin, end):
            yield part.content

    def parts(self, backup: int, volume: Volume, begin: int, end: int) -> Iterator[FramePart]:
        """As `tar`, with the frames as they are stored where all of one is asked for."""
        starts = self._starts.get((backup, volume.name))
        if starts is None:
            starts = self._starts[backup, volume.name] = volume.frame_starts()
        number = bisect_right(starts, begin) - 1
        while begin < end:
            if number >= len(starts):
                raise _damaged(volume, f"it ends at byte {begin}")
            frame = self._frame(backup, volume, number)
            piece = frame.content[begin - starts[number] :][: end - begin]
            if not piece:
                raise _damaged(volume, f"its frame {number + 1} ends before byte {begin}")
            yield frame if len(piece) == len(frame.content) else FramePart(piece, None)
            begin += len(piece)
            number += 1

    def _frame(self, backup: int, volume: Volume, number: int) -> FramePart:
        key = (backup, volume.name, number)
        if (frame := self._frames.get(key)) is not None:
            self._frames.move_to_end(key)
            return frame
        offsets = self._offsets.setdefault(key[:2], [0, *accumulate(volume.frames)])
        if number + 1 >= len(offsets):
            raise _damaged(volume, f"it has {len(volume.frames)} frames")
        stored = b"".join(self._read(backup, volume, offsets[number], offsets[number + 1]))
        try:
            frame = FramePart(memoryview(decompress(stored)), stored)
        except ValueError as error:
            raise _damaged(volume, str(error)) from None
        self._frames[key] = frame
        if len(self._frames) > self._most:
            self._frames.popitem(last=False)
        return frame


def _damaged(volume: Volume, what: str) -> IntegrityError:
    return IntegrityError(
        f"volume {volume.name!r} is damaged: {what}",
        hint="Restore from another backup, and look at the storage under the repository.",
    )
