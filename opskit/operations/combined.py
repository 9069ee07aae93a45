"""What makes a directory that was put together from a chain a base backup: its label and its manifest."""

import os
from collections.abc import Callable

from crc32c import crc32c

from opskit.model.manifest import ManifestFile, checksum_text, file_checksums, with_files
from opskit.repository import Repository
from opskit.repository.assemble import assemble
from opskit.repository.content import (
    LABEL,
    MANIFEST,
    Content,
    increment_path,
    manifest_path,
    stored_reader,
)
from opskit.repository.extract import Placement, cannot_write
from opskit.repository.merge import MergedFile
from opskit.repository.snapshot import backup_folder


def put_together(
    repository: Repository,
    content: Content,
    placement: Placement,
    *,
    advance: Callable[[int], None],
    check: Callable[[], None],
) -> None:
    """Write the files of an increment that are put together, its label and its manifest, to their places.

    Checksums are the server's, where a file is as some backup has it; of the other files they are computed.

    Raises
    ------
    StoreError
        A file cannot be written.
    IntegrityError
        A volume or a manifest is damaged.
    """
    root = f"{backup_folder(content.chain[0].name)}/snapshot/data"
    read = stored_reader(repository, content.chain)
    known = known_checksums(repository, content)
    checksums = assemble(content, placement, read, known, advance=advance, check=check)
    label = checksum_text(crc32c(content.label))
    changed = {LABEL: ManifestFile(path=LABEL, file_bytes=len(content.label), checksum=label)}
    for file, checksum in zip(content.files, checksums, strict=True):
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
        raise cannot_write(path, error) from error
