"""Large files on their way to the disk."""

import mmap
import os
import random
from pathlib import Path

import pytest

from opskit.errors import ErrorKind, StoreError
from opskit.store.disk import FileSystem, write_behind, write_large

_BYTES = 3 << 20


def _written(file: Path, content: bytes, seed: int, shift: int) -> None:
    """Write a file in parts, in any order, from a buffer that begins `shift` bytes behind a page and some blocks."""
    chance = random.Random(seed)
    ends = sorted({_BYTES + 17, *(512 * chance.randrange(1, _BYTES // 512) for _ in range(3))})
    parts = list(zip([0, *ends], ends, strict=False))
    chance.shuffle(parts)
    file.touch()
    for begin, end in parts:
        buffer = memoryview(mmap.mmap(-1, _BYTES + 65536))
        part = buffer[512 * chance.randrange(64) + shift :][: end - begin]
        part[:] = content[begin:end]
        descriptor = os.open(file, os.O_WRONLY)
        try:
            write_large(descriptor, part, begin)
        finally:
            os.close(descriptor)


@pytest.mark.parametrize("seed", range(8))
def test_a_large_file_is_what_was_written(tmp_path: Path, seed: int) -> None:
    """Parts that begin and end anywhere make the file that they are parts of."""
    content = random.Random(seed).randbytes(_BYTES + 17)
    _written(tmp_path / "around", content, seed, shift=0)
    assert (tmp_path / "around").read_bytes() == content


def test_what_the_disk_cannot_take_directly_goes_the_usual_way(tmp_path: Path) -> None:
    """A buffer at an odd address, which no disk can read from, is written all the same."""
    content = random.Random(0).randbytes(_BYTES + 17)
    _written(tmp_path / "usual", content, 0, shift=1)
    assert (tmp_path / "usual").read_bytes() == content


def test_writing_behind_changes_nothing(tmp_path: Path) -> None:
    """What has been sent to the disk is read as it was written."""
    content = random.Random(0).randbytes(_BYTES)
    with (tmp_path / "file").open("wb", buffering=0) as file:
        file.write(content)
        write_behind(file.fileno(), 0, _BYTES)
        write_behind(file.fileno(), _BYTES, _BYTES)
    assert (tmp_path / "file").read_bytes() == content


def test_a_sync_that_fails_is_told(tmp_path: Path) -> None:
    """A file system that cannot be synced is an error that names the folder."""
    with FileSystem(tmp_path) as disk:
        disk.sync()
    with pytest.raises(StoreError, match="could not be written to the disk") as caught:
        disk.sync()
    assert caught.value.kind is ErrorKind.STORE_FAILED
