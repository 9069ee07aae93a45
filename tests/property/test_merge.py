"""A chain is put together as the obvious model does it: block by block, from the newest backup that has it."""

import random
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.errors import IntegrityError
from opskit.repository.blocks import Blocks, HeaderReader
from opskit.repository.merge import MergedFile, merge
from opskit.repository.snapshot import backup_folder
from opskit.repository.tar import BLOCK_BYTES
from opskit.repository.volumes import Member, Volume
from tests.property import repeatable

BLOCK = 4
NAMES = [f"2026010{n}T000000Z" for n in range(1, 8)]
BlockNumbers = st.sets(st.integers(0, 12), max_size=8)


@st.composite
def versions(draw: st.DrawFn) -> list[tuple[int, set[int]] | int]:
    """What each backup of a chain has of a file, newest first: an increment's truncation and blocks, or its length."""
    chain: list[tuple[int, set[int]] | int] = [
        (draw(st.integers(0, 14)), draw(BlockNumbers)) for _ in range(draw(st.integers(1, 5)))
    ]
    return [*chain, draw(st.integers(0, 14))]


def member(version: tuple[int, set[int]] | int, backup: str, name: str, offset: int) -> Member:
    """The member of a file."""
    root = f"{backup_folder(backup)}/snapshot/data/base/5"
    if isinstance(version, int):
        return Member(f"{root}/{name}", offset, version * BLOCK)
    blocks = Blocks(array("I", sorted(version[1])), version[0], BLOCK)
    return Member(f"{root}/INCREMENTAL.{name}", offset, blocks.stored_bytes, blocks)


def volume(name: str, members: list[Member]) -> Volume:
    """A volume of which nothing but the index is needed."""
    return Volume(
        name=name, stored_bytes=1, tar_bytes=1, sha256="", frames=(1,), members=tuple(members)
    )


@repeatable
@given(st.lists(versions(), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_each_block_is_taken_once_from_where_the_model_finds_it(
    files: list[list[tuple[int, set[int]] | int]], order: random.Random
) -> None:
    """And what the newest backup has of them is not extracted as it is."""
    count = max(len(file) for file in files)
    names = list(reversed(NAMES[:count]))
    indexes: list[list[Volume]] = []
    for backup, name in enumerate(names):
        members = [
            member(file[min(backup, len(file) - 1)], name, str(number), 4096 * number)
            for number, file in enumerate(files)
        ]
        order.shuffle(members)
        cut = order.randrange(len(members) + 1)
        indexes.append([volume("1", members[:cut]), volume("2", members[cut:])])
    merged = merge(names, indexes)
    for number, file in enumerate(files):
        [found] = [f for f in merged.files if f.name.endswith(f"/{number}")]
        chain = [*file, *[file[-1]] * (count - len(file))]
        assert written(found, indexes) == model(chain)
        assert found.file_bytes == BLOCK * len(model(chain))
    assert not [name for selection in merged.selections for name in selection.names()]


def written(found: MergedFile, indexes: list[list[Volume]]) -> list[tuple[int, int] | None]:
    """From which backup, and which of its blocks, each block of a file comes; an error if one comes twice."""
    blocks: list[tuple[int, int] | None] = [None] * (found.file_bytes // BLOCK)
    for at, length, backup, number, begin in found.runs():
        [source] = [
            member
            for member in indexes[backup][number].members
            if member.offset + BLOCK_BYTES <= begin < member.offset + BLOCK_BYTES + member.size
        ]
        first = begin - source.offset - BLOCK_BYTES
        for step in range(0, length, BLOCK):
            stored = first + step - (source.blocks.content_offset if source.blocks else 0)
            block = source.blocks.numbers[stored // BLOCK] if source.blocks else stored // BLOCK
            assert block == (at + step) // BLOCK
            assert blocks[block] is None
            blocks[block] = (backup, block)
    return blocks


def model(chain: list[tuple[int, set[int]] | int]) -> list[tuple[int, int] | None]:
    """As `pg_combinebackup` documents it, one block after the other."""
    newest = chain[0]
    assert not isinstance(newest, int)
    length = max([newest[0], *(number + 1 for number in newest[1])])
    blocks: list[tuple[int, int] | None] = []
    for number in range(length):
        source: tuple[int, int] | None = None
        for backup, version in enumerate(chain):
            if isinstance(version, int):
                if number < min(version, newest[0]):
                    source = (backup, number)
                break
            if number in version[1] and (backup == 0 or number < newest[0]):
                source = (backup, number)
                break
        blocks.append(source)
    return blocks


def test_a_file_without_its_rest_is_an_error() -> None:
    """An increment of a file that no older backup knows cannot be put together."""
    newest = [volume("1", [member((3, {1}), NAMES[1], "7", 0)])]
    oldest = [volume("1", [member(3, NAMES[0], "8", 0)])]
    with pytest.raises(IntegrityError, match="base/5/7"):
        merge([NAMES[1], NAMES[0]], [newest, oldest])


@repeatable
@given(st.sets(st.integers(0, 2**17), max_size=3000), st.integers(0, 2**17), st.data())
def test_a_header_is_read_from_pieces_of_any_size(
    numbers: set[int], truncation: int, data: st.DataObject
) -> None:
    """However the stream is cut, the blocks are known as soon as the header has passed."""
    stored = array("I", [0xD3AE1F0D, len(numbers), truncation, *sorted(numbers)]).tobytes()
    content = memoryview(stored + bytes(100))
    reader, found, position = HeaderReader(8192), None, 0
    while found is None:
        size = data.draw(st.integers(1, 5000))
        found = reader.feed(content[position : position + size])
        position += size
        assert (found is None) == (position < len(stored))
    assert (list(found.numbers), found.truncation) == (sorted(numbers), truncation)
    assert found.stored_bytes % 8192 == (0 if numbers else 12)
