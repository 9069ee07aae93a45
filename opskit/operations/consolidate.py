"""Turn the chain that ends in an increment into a full backup where it lies: planned, then carried out.

The server is not asked. What a restore of the increment would give is written as a full backup's volumes; frames whose
whole content stays the same are copied as they are stored.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from opskit.model.backup import BackupKind, BaseBackup, Consolidation
from opskit.model.format import format_bytes
from opskit.model.operation import Progress
from opskit.model.shown import Shown
from opskit.operations.combined import known_checksums
from opskit.operations.monitor import Monitor
from opskit.repository import Repository
from opskit.repository.consolidation import ConsolidationWriter
from opskit.repository.content import Content, reader_of
from opskit.repository.members import WholeMembers
from opskit.repository.tar import BLOCK_BYTES
from opskit.repository.volumes import VolumeWriter
from opskit.version import __version__

# A frame ends what was written before it in a short one: worth it from this size of its content on.
COPIED_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsolidatePlan(Shown):
    """What a consolidation would do. `chain` is the backup and what it is based on, newest first.

    `estimated_bytes` is about what the full backup takes in the repository, by how well the last one compressed.
    """

    backup: BaseBackup
    chain: tuple[BaseBackup, ...]
    estimated_bytes: int

    def __repr__(self) -> str:
        return f"<opskit plan: {self.words}; nothing is done yet>"

    @property
    def is_empty(self) -> bool:
        """Whether the backup is a full one already."""
        return len(self.chain) == 1

    @property
    def words(self) -> str:
        """The plan in a sentence."""
        name = f"{self.backup.name} of {self.backup.cluster!r}"
        if self.is_empty:
            return f"{name} is a full backup already"
        others = ", ".join(backup.name for backup in self.chain[1:])
        return (
            f"{name} is put together with {others} into a full backup of about"
            f" {format_bytes(self.estimated_bytes)}, in the place of {format_bytes(self.backup.stored_bytes)}"
        )


def plan_consolidate(repository: Repository, cluster: str, name: str) -> ConsolidatePlan:
    """What consolidating a backup would do. Nothing is changed.

    Raises
    ------
    NotFoundError
        There is no such backup.
    IntegrityError
        It, or what it is based on, is missing or damaged.
    """
    backup = repository.backup(cluster, name)
    chain = tuple(repository.chain(backup))
    for member in chain:
        repository.check_stored(member)
    last = chain[-1]
    share = last.stored_bytes / max(last.cluster_bytes, 1)
    return ConsolidatePlan(
        backup=backup, chain=chain, estimated_bytes=round(backup.cluster_bytes * share)
    )


def execute_consolidate(
    plan: ConsolidatePlan,
    repository: Repository,
    now: datetime,
    monitor: Monitor,
    *,
    is_read: Callable[[], bool],
    replacing: Callable[[str, str], None] = lambda former, new: None,
) -> BaseBackup:
    """Carry out a plan; when this returns, the backup is a full one.

    Parameters
    ----------
    is_read
        Whether something may still be reading what the backup was before; asked once it is replaced. Then that stays,
        and an expire removes it a day later.
    replacing
        Told the SHA-256 of the record that is replaced and of the one that takes its place, right before that is done.

    Raises
    ------
    ConflictError
        The backup was removed, or consolidated by somebody else, meanwhile.
    IntegrityError
        A backup of the chain is damaged.
    StoreError
        The storage failed or is full.
    Cancelled
        The monitor asked for the end.

    Effects
    -------
    Until its record is replaced, the backup is what it was, and after a failure what had been stored is removed. A
    crash leaves a folder that nothing refers to, for an expire to remove. If only the removal of what the backup was
    before fails, the backup is a full one nevertheless; doing it again removes the rest.
    """
    if plan.is_empty:
        if plan.backup.consolidated is not None and not is_read():
            repository.remove_former(plan.backup)
        return plan.backup
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)  # as the record keeps it
    content = repository.content(plan.backup)
    writer = repository.begin_consolidation(plan.backup, now)
    try:
        members = WholeMembers(
            content,
            repository.manifest(plan.backup),
            reader_of(repository, content.chain),
            known_checksums(repository, content),
        )
        _write(members, writer.volumes, monitor)
        backup = _finished(writer, members, content, now)
        monitor.check()
        writer.commit(backup, replacing)
    except BaseException:
        writer.discard()
        raise
    if not is_read():
        repository.remove_former(backup)
    return backup


def _write(members: WholeMembers, volumes: VolumeWriter, monitor: Monitor) -> None:
    expected, done = members.tar_bytes, 0
    for member in members:
        volumes.begin_member(member.name, member.header, member.size)
        done += BLOCK_BYTES
        for piece in member.pieces:
            if piece.stored is not None and len(piece.content) >= COPIED_BYTES:
                volumes.write_frame(piece.stored, len(piece.content))
            else:
                volumes.write(piece.content)
            done += len(piece.content)
            monitor.check()
            monitor.report(
                Progress(phase="consolidating", bytes_done=done, bytes_expected=expected)
            )


def _finished(
    writer: ConsolidationWriter, members: WholeMembers, content: Content, now: datetime
) -> BaseBackup:
    """Wait until all is stored, and describe it."""
    backup, *others = content.chain
    volumes = writer.volumes.finish()
    manifest_sha256 = writer.put_manifest(members.manifest)
    index_sha256 = writer.put_index(volumes)
    return replace(
        backup,
        kind=BackupKind.FULL,
        parent=None,
        parent_start_lsn=None,
        stored_bytes=sum(volume.stored_bytes for volume in volumes),
        volumes=len(volumes),
        index_sha256=index_sha256,
        manifest_sha256=manifest_sha256,
        opskit_version=__version__,
        reason=f"consolidated, was: {backup.reason}" if backup.reason else "consolidated",
        consolidated=Consolidation(
            at=now,
            chain=tuple(other.name for other in others),
            folder=writer.folder,
            record_sha256=writer.former_sha256,
        ),
    )
