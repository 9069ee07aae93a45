"""What a backup restores to: its own volumes, and for an increment those of the backups that it is based on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from opskit.errors import ErrorKind, IntegrityError
from opskit.model.backup import BackupKind, BaseBackup
from opskit.model.lsn import Lsn
from opskit.repository.blocks import PREFIX
from opskit.repository.extract import Source
from opskit.repository.frames import FrameReader, ReadStored
from opskit.repository.merge import MergedFile, Selection, merge, whole
from opskit.repository.snapshot import backup_folder
from opskit.repository.uncollected import uncollected
from opskit.repository.volumes import Member, Volume

LABEL = "backup_label"
MANIFEST = "backup_manifest"
_FROM = (b"INCREMENTAL FROM LSN: ", b"INCREMENTAL FROM TLI: ")


class Volumes(Protocol):
    """Where volumes are read from; the methods are those of `Repository`."""

    def chain(self, backup: BaseBackup) -> list[BaseBackup]:
        """The backup and those that it is based on."""

    def volumes(self, backup: BaseBackup) -> list[Volume]:
        """The volumes of a backup."""

    def volume_pieces(
        self, backup: BaseBackup, volume: Volume, begin: int = 0, end: int | None = None
    ) -> Iterator[memoryview]:
        """The stored bytes of a volume."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The volumes to extract from, and how an increment is put together.

    `chain` is the backup and what it is based on, newest first, `indexes` their volumes, the older ones' without their
    members; `files` are those that are put together. An increment's own ``backup_label`` and ``backup_manifest`` are
    not extracted: `label` is what the former has to say, and whoever writes the files knows the latter.
    """

    chain: tuple[BaseBackup, ...]
    indexes: tuple[tuple[Volume, ...], ...]
    sources: tuple[Source, ...]
    files: tuple[MergedFile, ...] = ()
    label: bytes = b""

    @property
    def is_merged(self) -> bool:
        """Whether it is an increment's."""
        return len(self.chain) > 1

    @property
    def tar_bytes(self) -> int:
        """The size of what is extracted and put together, to measure progress by."""
        if not self.is_merged:
            return sum(source.selection.volume.tar_bytes for source in self.sources)
        own = sum(
            member.size
            for source in self.sources
            for number, member in enumerate(source.selection.volume.members)
            if number not in source.selection.left_out
        )
        return own + sum(file.file_bytes for file in self.files)


def read_content(repository: Volumes, backup: BaseBackup) -> Content:
    """See `Repository.content`."""
    if backup.kind is BackupKind.FULL:
        volumes = tuple(repository.volumes(backup))
        return Content(
            chain=(backup,),
            indexes=(volumes,),
            sources=tuple(
                Source(selection, partial(repository.volume_pieces, backup, selection.volume))
                for selection in whole(volumes)
            ),
        )
    chain = tuple(repository.chain(backup))
    indexes: list[tuple[Volume, ...]] = []

    def read() -> Iterator[Sequence[Volume]]:
        for member in chain:
            volumes = repository.volumes(member)
            yield volumes
            # What is needed of the older ones' members is in what was put together.
            older = (replace(volume, members=()) for volume in volumes)
            indexes.append(tuple(older if indexes else volumes))

    with uncollected():
        merged = merge([member.name for member in chain], read())
    label = _leave_out(merged.selections, backup, LABEL)
    _leave_out(merged.selections, backup, MANIFEST)
    content = b"".join(reader_of(repository, chain).content(0, *label))
    return Content(
        chain=chain,
        indexes=tuple(indexes),
        sources=tuple(
            Source(selection, partial(repository.volume_pieces, backup, selection.volume))
            for selection in merged.selections
        ),
        files=merged.files,
        label=_whole_label(chain, content),
    )


def stored_reader(repository: Volumes, chain: Sequence[BaseBackup]) -> ReadStored:
    """Reads stored bytes of the volumes of a chain."""

    def read(backup: int, volume: Volume, begin: int, end: int) -> Iterator[memoryview]:
        return repository.volume_pieces(chain[backup], volume, begin, end)

    return read


def reader_of(repository: Volumes, chain: Sequence[BaseBackup]) -> FrameReader:
    """Reads parts of the volumes of a chain."""
    return FrameReader(stored_reader(repository, chain), len(chain))


def broken_chain(backup: BaseBackup, what: str) -> IntegrityError:
    """The error for an increment that cannot be put together."""
    return IntegrityError(
        f"backup {backup.name!r} cannot be put together: {what}",
        ErrorKind.INCOMPLETE,
        "Restore from another backup, and take a full one with --full.",
    )


def manifest_path(name: str) -> str:
    """The path in the manifest of a file of the data directory or of a tablespace, by its final name."""
    _, _, path = name.partition("/snapshot/")
    if path.startswith("tablespaces/"):
        return f"pg_tblspc/{path.removeprefix('tablespaces/')}"
    return path.removeprefix("data/")


def _leave_out(
    selections: Sequence[Selection], backup: BaseBackup, path: str
) -> tuple[Volume, Member]:
    """Select everything but a file of the increment's data directory, and tell where that is."""
    name = f"{backup_folder(backup.name)}/snapshot/data/{path}"
    for selection in selections:
        for index, member in enumerate(selection.volume.members):
            if member.name == name:
                selection.left_out.add(index)
                return selection.volume, member
    raise broken_chain(backup, f"it has no {path}")


def _whole_label(chain: Sequence[BaseBackup], content: bytes) -> bytes:
    """The label of the whole backup; an increment's tells from where on it has changes."""
    starts = [
        Lsn.parse(line.removeprefix(_FROM[0]).decode())
        for line in content.splitlines()
        if line.startswith(_FROM[0])
    ]
    if starts != [chain[1].start_lsn]:
        raise broken_chain(
            chain[0], f"its label does not say that it has the changes since {chain[1].start_lsn}"
        )
    return b"".join(
        line for line in content.splitlines(keepends=True) if not line.startswith(_FROM)
    )


def increment_path(file: MergedFile) -> str:
    """The path in the increment's manifest of a file that is put together."""
    folder, _, name = manifest_path(file.name).rpartition("/")
    return f"{folder}/{PREFIX}{name}"
