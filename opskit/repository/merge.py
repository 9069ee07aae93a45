"""Where every byte of an incremental backup's files is: in itself, or in one of the backups that it is based on.

A pure function of the indexes, which tell the blocks that each ``INCREMENTAL.`` file holds. So a restore knows before
it reads anything what it wants of which volume. The indexes are looked at one after the other, newest first, and only
what is taken of each is kept.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from opskit.errors import ErrorKind, IntegrityError
from opskit.repository.blocks import PREFIX, Blocks
from opskit.repository.snapshot import backup_folder
from opskit.repository.tar import BLOCK_BYTES
from opskit.repository.volumes import Member, Volume


class Runs(NamedTuple):
    """What of a member goes where in a file: `length` bytes from `content` on, to `at`; both rise."""

    content: Sequence[int]
    length: Sequence[int]
    at: Sequence[int]


class Place(NamedTuple):
    """A member: of which backup (0 is the newest), in which of its volumes, and which one there."""

    backup: int
    volume: int
    member: int


class Source(NamedTuple):
    """What a file takes of a member: of which backup and volume, where in its tar the content begins, and which runs.

    Without `runs` it is all of the content, `size` bytes.
    """

    backup: int
    volume: int
    begin: int
    size: int
    runs: Runs | None


# Bytes of a file: from where on, how many, and of which backup, which of its volumes and from where on in its tar they
# are. A plain tuple: there may be a million of them.
Run = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedFile:
    """A file that is put together: its final name and size, the ``INCREMENTAL.`` member, and what comes from where.

    `copy_of` is the backup that has the very file, whole.
    """

    name: str
    file_bytes: int
    head: Place
    sources: tuple[Source, ...]
    copy_of: int | None

    def runs(self) -> list[Run]:
        """All runs of the file, in its order; what lies between them is zeros."""
        runs: list[Run] = []
        for backup, volume, begin, size, wanted in self.sources:
            if wanted is None:
                if size:
                    runs.append((0, size, backup, volume, begin))
                continue
            runs += [
                (at, length, backup, volume, begin + content)
                for content, length, at in zip(*wanted, strict=True)
            ]
        runs.sort()
        return runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A volume of which all members are wanted as they are, but for those that are `left_out`, by their numbers."""

    volume: Volume
    left_out: set[int] = field(default_factory=set)

    def names(self) -> Iterator[str]:
        """The members that are wanted."""
        for number, member in enumerate(self.volume.members):
            if number not in self.left_out:
                yield member.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """An incremental backup put together: its files that are not whole in itself, and its volumes with what is."""

    files: tuple[MergedFile, ...]
    selections: tuple[Selection, ...]


def whole(volumes: Sequence[Volume]) -> list[Selection]:
    """All that volumes hold."""
    return [Selection(volume=volume) for volume in volumes]


def merge(names: Sequence[str], indexes: Iterable[Sequence[Volume]]) -> Merge:
    """Put a chain together.

    Parameters
    ----------
    names, indexes
        The backups, newest first, down to the full one, and their volumes; these are asked for one after the other.

    Raises
    ------
    IntegrityError
        What one of them is based on is not in the others.
    """
    coming = iter(indexes)
    selections = whole(next(coming))
    files: list[_Growing] = []
    root = backup_folder(names[0])
    for number, selection in enumerate(selections):
        for index, member in enumerate(selection.volume.members):
            if member.blocks is not None:
                selection.left_out.add(index)
                files.append(_Growing(root, Place(0, number, index), member, member.blocks))
    unfinished = files
    for backup, volumes in enumerate(coming, start=1):
        found = _find(unfinished, volumes, len(backup_folder(names[backup])))
        for file in unfinished:
            file.add(backup, *found[file.path])
        unfinished = [file for file in unfinished if not file.is_whole]
    for file in unfinished:
        raise file.is_missing()
    return Merge(
        files=tuple(file.merged() for file in files),
        selections=tuple(selections),
    )


def _find(
    files: Sequence["_Growing"], volumes: Sequence[Volume], folder: int
) -> dict[str, tuple[int, Member]]:
    """The members that the files are based on, and their volumes' numbers; `IntegrityError` if one is not there."""
    wanted = {file.path for file in files}
    found = {}
    for number, volume in enumerate(volumes):
        for member in volume.members:
            path = member.name[folder:]
            if member.blocks is not None:
                path = _final(path)
            if path in wanted:
                found[path] = number, member
    for file in files:
        if file.path not in found:
            raise file.is_missing()
    return found


def _final(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/{name.removeprefix(PREFIX)}"


class _Growing:
    """A file while its blocks are looked for: each in the newest backup that has it, as `pg_combinebackup` does."""

    __slots__ = ("_blocks", "_copy_of", "_found", "_head", "_root", "_sources", "is_whole", "path")

    def __init__(self, root: str, head: Place, member: Member, blocks: Blocks) -> None:
        self.path = _final(member.name[len(root) :])
        self.is_whole = False
        self._root, self._head, self._blocks = root, head, blocks
        self._sources: list[Source] = []
        self._copy_of: int | None = None
        self._found: bytearray | None = None  # a byte a block, as soon as there is one
        if blocks.numbers:
            self._take(head.backup, head.volume, member, blocks, range(len(blocks.numbers)))

    def add(self, backup: int, volume: int, member: Member) -> None:
        """Take from the next older backup's member what no newer one has."""
        size, truncation, found = self._blocks.block_bytes, self._blocks.truncation, self._found
        if member.blocks is not None:
            numbers = member.blocks.numbers
            wanted = [
                index
                for index, number in enumerate(numbers)
                if number < truncation and not (found is not None and found[number])
            ]
            if wanted:
                self._take(backup, volume, member, member.blocks, wanted)
            return
        self.is_whole = True
        if found is None and member.size == self._blocks.file_bytes:
            self._copy_of = backup
            runs = None
        else:
            runs = _rest(found or bytearray(truncation), member.size // size, size)
            if runs is None:
                return
        begin = member.offset + BLOCK_BYTES
        self._sources.append(Source(backup, volume, begin, member.size, runs))

    def merged(self) -> MergedFile:
        """The file, whole."""
        return MergedFile(
            name=f"{self._root}{self.path}",
            file_bytes=self._blocks.file_bytes,
            head=self._head,
            sources=tuple(self._sources),
            copy_of=self._copy_of,
        )

    def is_missing(self) -> IntegrityError:
        """The error for a file that no older backup has."""
        return IntegrityError(
            f"backup {self._root.rpartition('/')[2]!r} has changes of {self.path[1:]!r}, and none of the backups"
            " that it is based on has the file",
            ErrorKind.INCOMPLETE,
            "Restore from another backup, and look at the storage under the repository.",
        )

    def _take(
        self, backup: int, volume: int, member: Member, blocks: Blocks, indexes: Sequence[int]
    ) -> None:
        begin = member.offset + BLOCK_BYTES
        runs = _runs(blocks, indexes)
        self._sources.append(Source(backup, volume, begin, member.size, runs))
        if self._found is None:
            self._found = bytearray(self._blocks.truncation)
        found, numbers = self._found, blocks.numbers
        for index in indexes:
            if numbers[index] < len(found):
                found[numbers[index]] = 1


def _runs(blocks: Blocks, indexes: Sequence[int]) -> Runs:
    """The blocks of an ``INCREMENTAL.`` file at `indexes`, neighbours in it and in the file as one run."""
    size, offset, numbers = blocks.block_bytes, blocks.content_offset, blocks.numbers
    content, length, at = array("q"), array("q"), array("q")
    previous = -2
    for index in indexes:
        if index == previous + 1 and numbers[index] == numbers[previous] + 1:
            length[-1] += size
        else:
            content.append(offset + index * size)
            length.append(size)
            at.append(numbers[index] * size)
        previous = index
    return Runs(content, length, at)


def _rest(found: bytearray, blocks: int, size: int) -> Runs | None:
    """The blocks of a whole file that were not found in anything newer; `None` when there are none."""
    content, length = array("q"), array("q")
    end = min(len(found), blocks)
    start = found.find(0, 0, end)
    while start >= 0:
        stop = found.find(1, start, end)
        if stop < 0:
            stop = end
        content.append(start * size)
        length.append((stop - start) * size)
        start = found.find(0, stop, end)
    return Runs(content, length, content) if content else None
