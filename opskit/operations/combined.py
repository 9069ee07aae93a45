"""What makes a directory that was put together from a chain a base backup: its label and its manifest."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from crc32c import crc32c

from opskit.errors import StoreError
from opskit.model.manifest import ManifestFile, checksum_text, file_checksums, with_files
from opskit.repository import Repository
from opskit.repository.content import LABEL, MANIFEST, Content, increment_path, manifest_path
from opskit.repository.extract import Placement
from opskit.repository.merge import MergedFile
from opskit.repository.snapshot import backup_folder

_READ_BYTES = 1 << 20


def describe(
    repository: Repository, content: Content, placement: Placement, check: Callable[[], None]
) -> None:
    """Write the label and the manifest of an increment whose files have been put together at their places.

    Checksums are the server's, where a file is as some backup has it; of the other files they are computed.

    Raises
    ------
    StoreError
        A file cannot be read or written.
    IntegrityError
        A manifest is damaged.
    """
    root = f"{backup_folder(content.chain[0].name)}/snapshot/data"
    changed = {
        LABEL: ManifestFile(
            path=LABEL, file_bytes=len(content.label), checksum=checksum_text(crc32c(content.label))
        )
    }
    known = known_checksums(repository, content)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8), thread_name_prefix="checksum") as reading:
        for file, checksum in zip(
            content.files,
            reading.map(lambda file: known(file) or _checksum(file, placement), content.files),
            strict=True,
        ):
            check()
            changed[increment_path(file)] = ManifestFile(
                path=manifest_path(file.name), file_bytes=file.file_bytes, checksum=checksum
            )
    manifest = with_files(repository.manifest(content.chain[0]), changed)
    for name, text in ((LABEL, content.label), (MANIFEST, manifest)):
        _write(placement, f"{root}/{name}", text)


def known_checksums(repository: Repository, content: Content) -> Callable[[MergedFile], str | None]:
    """Tells the checksum of a file that some backup of the chain has whole, from that one's manifest."""
    needed = {file.copy_of for file in content.files if file.copy_of is not None}
    tables = {
        number: file_checksums(repository.manifest(content.chain[number])) for number in needed
    }

    def known(file: MergedFile) -> str | None:
        if file.copy_of is None:
            return None
        return tables[file.copy_of].get(manifest_path(file.name))

    return known


def _checksum(file: MergedFile, placement: Placement) -> str:
    path = placement.path(file.name)
    assert path is not None
    checksum = 0
    try:
        for piece in _pieces(path):
            checksum = crc32c(piece, checksum)
    except OSError as error:
        raise StoreError(f"{path!r} cannot be read: {error.strerror}") from error
    return checksum_text(checksum)


def _pieces(path: str) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(_READ_BYTES))
    with Path(path).open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            yield buffer[:count]


def _write(placement: Placement, name: str, content: bytes) -> None:
    path = placement.path(name)
    assert path is not None
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if placement.owner:
                os.fchown(descriptor, *placement.owner)
    except OSError as error:
        raise StoreError(f"{path!r} cannot be written: {error.strerror}") from error
