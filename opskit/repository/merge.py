"""Where every byte of an incremental backup's files is: in itself, or in one of the backups that it is based on.

A pure function of the indexes, which tell the blocks that each ``INCREMENTAL.`` file holds. So a restore knows before
it reads anything what it wants of which volume, and writes each block once, in any order.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from opskit.errors import ErrorKind, IntegrityError
from opskit.repository.blocks import PREFIX, Blocks
from opskit.repository.snapshot import backup_folder
from opskit.repository.volumes import Member, Volume


class Runs(NamedTuple):
    """What of a member goes where in a file: `length` bytes from `content` on, to `at`, by rising `content`."""

    content: Sequence[int]
    length: Sequence[int]
    at: Sequence[int]

    def between(self, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
        """The runs, or parts of them, that lie in the content from `begin` up to `end`: (content, length, at)."""
        number = max(bisect_right(self.content, begin) - 1, 0)
        while number < len(self.content) and self.content[number] < end:
            start = max(self.content[number], begin)
            stop = min(self.content[number] + self.length[number], end)
            if start < stop:
                yield start, stop - start, self.at[number] + start - self.content[number]
            number += 1


class Place(NamedTuple):
    """A member: of which backup (0 is the newest), in which of its volumes, and which one there."""

    backup: int
    volume: int
    member: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """What is taken of a member: the file that it goes to, by its final name, and which runs; `None` for all of it.

    With `file_bytes` it is the member that the file's size, mode and owner come from.
    """

    name: str
    runs: Runs | None
    file_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedFile:
    """A file that is put together: its final name and size, the ``INCREMENTAL.`` member, and what comes from where.

    `copy_of` is the backup that has the very file, whole.
    """

    name: str
    file_bytes: int
    head: Place
    sources: tuple[tuple[Place, Runs | None], ...]
    copy_of: int | None


@dataclass(slots=True, kw_only=True)
class Selection:
    """What is wanted of a volume. Members that `takes` does not name are taken as they are if `others`, else not.

    A member that is named with `None` is not taken.
    """

    volume: Volume
    others: bool
    takes: dict[int, Take | None] = field(default_factory=dict)

    def names(self) -> Iterator[str]:
        """The files and folders that something of the volume goes to."""
        for number, member in enumerate(self.volume.members):
            take = self.takes.get(number)
            if take is not None:
                yield take.name
            elif self.others and number not in self.takes:
                yield member.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """An incremental backup put together: its files that are not whole in itself, and what is wanted of each volume.

    `selections` are those of the newest backup's volumes first; volumes without anything wanted are not among them.
    """

    files: tuple[MergedFile, ...]
    selections: tuple[tuple[int, Selection], ...]


def whole(volumes: Sequence[Volume]) -> list[Selection]:
    """All that a full backup's volumes hold."""
    return [Selection(volume=volume, others=True) for volume in volumes]


def merge(names: Sequence[str], indexes: Sequence[Sequence[Volume]]) -> Merge:
    """Put a chain together.

    Parameters
    ----------
    names, indexes
        The backups, newest first, down to the full one, and their volumes.

    Raises
    ------
    IntegrityError
        What one of them is based on is not in the others.
    """
    folders = [len(backup_folder(name)) for name in names]
    older = [
        {member.name[folders[backup] :]: place for place, member in _members(backup, volumes)}
        for backup, volumes in enumerate(indexes)
        if backup > 0
    ]
    root = backup_folder(names[0])
    selections = {
        (backup, number): Selection(volume=volume, others=backup == 0)
        for backup, volumes in enumerate(indexes)
        for number, volume in enumerate(volumes)
    }
    files = []
    for place, member in _members(0, indexes[0]):
        if member.blocks is None:
            continue
        file = _put_together(root, place, member.name[folders[0] :], member.blocks, older, indexes)
        files.append(file)
        for source, runs in file.sources:
            selections[source[:2]].takes[source.member] = Take(
                name=file.name,
                runs=runs,
                file_bytes=file.file_bytes if source == place else None,
            )
    return Merge(
        files=tuple(files),
        selections=tuple(
            (backup, selection)
            for (backup, _), selection in selections.items()
            if selection.others or selection.takes
        ),
    )


def _members(backup: int, volumes: Sequence[Volume]) -> Iterator[tuple[Place, Member]]:
    for number, volume in enumerate(volumes):
        for index, member in enumerate(volume.members):
            yield Place(backup, number, index), member


def _put_together(
    root: str,
    head: Place,
    path: str,
    blocks: Blocks,
    older: Sequence[dict[str, Place]],
    indexes: Sequence[Sequence[Volume]],
) -> MergedFile:
    """Find each block in the newest backup that has it, as `pg_combinebackup` does."""
    folder, _, name = path.rpartition("/")
    final = f"{folder}/{name.removeprefix(PREFIX)}"
    sources: list[tuple[Place, Runs | None]] = [
        (head, _runs(blocks, range(len(blocks.numbers)), blocks.numbers))
    ]
    found = bytearray(blocks.truncation)
    _mark(found, blocks.numbers)
    untouched = not blocks.numbers
    copy_of = None
    for backup, places in enumerate(older, start=1):
        place = places.get(final) or places.get(path)
        if place is None:
            raise IntegrityError(
                f"backup {root.rpartition('/')[2]!r} has changes of {final[1:]!r}, and none of the backups"
                " that it is based on has the file",
                ErrorKind.INCOMPLETE,
                "Restore from another backup, and look at the storage under the repository.",
            )
        member = indexes[backup][place.volume].members[place.member]
        if member.blocks is None:
            if untouched and member.size == blocks.file_bytes:
                copy_of = backup
                sources.append((place, None))
            elif runs := _rest(found, member.size // blocks.block_bytes, blocks.block_bytes):
                sources.append((place, runs))
            break
        numbers = member.blocks.numbers
        wanted = [
            index
            for index, number in enumerate(numbers)
            if number < blocks.truncation and not found[number]
        ]
        if wanted:
            sources.append((place, _runs(member.blocks, wanted, numbers)))
            _mark(found, [numbers[index] for index in wanted])
            untouched = False
    return MergedFile(
        name=f"{root}{final}",
        file_bytes=blocks.file_bytes,
        head=head,
        sources=tuple(sources),
        copy_of=copy_of,
    )


def _mark(found: bytearray, numbers: Sequence[int]) -> None:
    for number in numbers:
        if number < len(found):
            found[number] = 1


def _runs(blocks: Blocks, indexes: Sequence[int], numbers: Sequence[int]) -> Runs:
    """The blocks of an ``INCREMENTAL.`` file at `indexes`, neighbours in it and in the file as one run."""
    size, offset = blocks.block_bytes, blocks.content_offset
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
