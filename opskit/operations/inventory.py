"""What lies in a repository, held against its records: what is missing, what differs, and what nothing owns.

Knows no server. Nothing is written.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from opskit.errors import IntegrityError, NotFoundError, OpskitError
from opskit.model.backup import BaseBackup, is_backup_name, is_consolidated_folder
from opskit.model.increment import broken, chain_of
from opskit.model.wal import SEGMENT_NAME_LENGTH, history_timeline, is_segment_name
from opskit.repository import Repository
from opskit.repository.holds import is_hold_name
from opskit.store import ObjectStat

_READERS = 2  # the index of a cluster of a million files takes hundreds of megabytes to read
# Longer than any backup takes; the next backup removes what is older (`Repository.new_backup`).
_ABANDONED_AFTER = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """Something stored is not what a record promises: which object, and what is wrong with it."""

    object: str
    what: str

    def __str__(self) -> str:
        return f"{self.object} {self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What was found below one cluster.

    Parameters
    ----------
    backups
        Those whose record can be read, newest first.
    flaws
        What makes a listed backup unfit, by the order of `backups`; records that cannot be read last.
    begun, abandoned
        Names of backups without a record: written to within a day, or not.
    unknown
        Objects that belong to no backup, to no WAL archive, and are no part of the format.
    backup_bytes, wal_bytes
        What takes room, whatever it is worth.
    """

    backups: tuple[BaseBackup, ...]
    flaws: tuple[Flaw, ...]
    begun: tuple[str, ...]
    abandoned: tuple[str, ...]
    unknown: tuple[ObjectStat, ...]
    objects: int
    backup_bytes: int
    wal_bytes: int


def take_inventory(repository: Repository, cluster: str) -> Inventory:
    """Look at every object of `cluster`: is all there that the records name, and as long as they say.

    Indexes and manifests are read and held against the SHA-256 in the record; volumes are only measured.

    Raises
    ------
    StoreError
        The storage failed.
    """
    survey = repository.survey(cluster)  # first: a backup that ends meanwhile is begun, not flawed
    folders: dict[str, dict[str, ObjectStat]] = defaultdict(dict)
    wal: list[ObjectStat] = []
    unknown: list[ObjectStat] = []
    for stat in repository.objects(cluster):
        _, *parts = stat.name.split("/")
        if parts[0] == "backups" and is_backup_name(parts[1]) and _in_backup(parts[2:]):
            folders[parts[1]]["/".join(parts[2:])] = stat
        elif _is_wal(parts):
            wal.append(stat)
        elif parts != ["cluster.json"] and not (
            len(parts) == 2 and parts[0] == "holds" and is_hold_name(parts[1])
        ):
            unknown.append(stat)

    with ThreadPoolExecutor(_READERS, thread_name_prefix="inventory") as readers:
        looked = list(
            readers.map(
                lambda b: _against_record(repository, b, folders.get(b.name, {})), survey.backups
            )
        )
    flaws = [flaw for flaws, _ in looked for flaw in flaws]
    flaws += _broken_chains(repository, survey.backups)
    flaws += [
        Flaw(object=f"the record of {name}", what=f"cannot be used: {error.message}")
        for name, error in survey.damaged.items()
    ]
    known = {backup.name for backup in survey.backups} | set(survey.damaged)
    old = datetime.now(UTC) - _ABANDONED_AFTER
    rest = {n: max(s.modified_at for s in f.values()) for n, f in folders.items() if n not in known}
    return Inventory(
        backups=survey.backups,
        flaws=tuple(flaws),
        begun=tuple(sorted(name for name, at in rest.items() if at >= old)),
        abandoned=tuple(sorted(name for name, at in rest.items() if at < old)),
        unknown=(*unknown, *(stat for _, strangers in looked for stat in strangers)),
        objects=sum(map(len, folders.values())) + len(wal),
        backup_bytes=sum(s.object_bytes for folder in folders.values() for s in folder.values()),
        wal_bytes=sum(stat.object_bytes for stat in wal),
    )


def read_backups(repository: Repository, backups: Iterable[BaseBackup]) -> Iterator[Flaw]:
    """Read every stored byte of `backups`, and compare checksums; one flaw for each backup that has any."""
    for backup in backups:
        try:
            for _ in repository.archive(backup).read():
                pass
        except IntegrityError as error:
            yield Flaw(object=f"backup {backup.name}", what=f"cannot be read: {error.message}")


def read_wal(repository: Repository, cluster: str) -> Iterator[Flaw]:
    """Read every whole segment of the WAL archive, and compare checksums; one flaw for each that is damaged."""
    archive = repository.known_wal(cluster)
    for timeline in archive.timelines():
        for stored in archive.segments(timeline):
            try:
                archive.segment(stored.segment)
            except IntegrityError as error:
                yield Flaw(
                    object=f"WAL segment {stored.segment.name}",
                    what=f"cannot be read: {error.message}",
                )


def _in_backup(parts: list[str]) -> bool:
    """Whether an object's place below a backup's folder can be one of the format's."""
    return len(parts) == 1 or (len(parts) == 2 and is_consolidated_folder(parts[0]))


def _is_wal(parts: list[str]) -> bool:
    """Whether an object's place below the cluster is one of the WAL archive's (docs/format.md)."""
    if parts[0] != "wal" or not parts[-1].endswith(".zst"):
        return False
    name = parts[-1].removesuffix(".zst").removesuffix(".partial")
    if len(parts) == 2:
        return history_timeline(name) is not None
    return (
        len(parts) == 4
        and is_segment_name(name)
        and parts[1:3] == [name[:8], name[8 : SEGMENT_NAME_LENGTH - 8]]
    )


def _against_record(
    repository: Repository, backup: BaseBackup, found: dict[str, ObjectStat]
) -> tuple[list[Flaw], list[ObjectStat]]:
    """What is wrong with a backup, and which objects in its folder are not its own."""
    flaws = []
    sizes: dict[str, int] = {}
    below = f"{backup.consolidated.folder}/" if backup.consolidated else ""
    try:
        sizes = {below + volume.name: volume.stored_bytes for volume in repository.volumes(backup)}
    except IntegrityError as error:
        flaws.append(Flaw(object=f"backup {backup.name}", what=f"cannot be used: {error.message}"))
    try:
        repository.manifest(backup)
    except (IntegrityError, ValueError) as error:
        flaws.append(Flaw(object=f"backup {backup.name}", what=f"has no manifest: {error}"))
    for name, size in sizes.items():
        what = f"{backup.cluster}/backups/{backup.name}/{name}"
        if name not in found:
            flaws.append(Flaw(object=what, what="is missing"))
        elif found[name].object_bytes != size:
            has = f"has {found[name].object_bytes:,} bytes, expected {size:,}"
            flaws.append(Flaw(object=what, what=has))
    if flaws and _is_gone(repository, backup):  # removed while we looked
        return [], []
    own = {"backup.json", f"{below}index.json.zst", f"{below}backup_manifest.zst", *sizes}
    strays = {stat.name for stat in repository.strays(backup, datetime.max.replace(tzinfo=UTC))}
    strangers = [s for name, s in found.items() if name not in own and s.name not in strays]
    return flaws, strangers if sizes else []


def _broken_chains(repository: Repository, backups: Sequence[BaseBackup]) -> Iterator[Flaw]:
    """Increments that cannot be put together, each for itself."""
    known = {backup.name: backup for backup in backups}
    for backup in backups:
        wrong = broken(chain_of(backup, known))
        if wrong is not None and not _is_gone(repository, backup):
            what = f"cannot be put together: {wrong}"
            yield Flaw(object=f"backup {backup.name}", what=what)


def _is_gone(repository: Repository, backup: BaseBackup) -> bool:
    """Whether it was removed, or consolidated, since its record was read."""
    with suppress(OpskitError):
        try:
            return repository.backup(backup.cluster, backup.name) != backup
        except NotFoundError:
            return True
    return False
