"""Put a backup's files back: as the archive unpacks, or as a plain data directory."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from opskit.errors import ConflictError, ErrorKind, InputError, IntegrityError, StoreError
from opskit.model.backup import BaseBackup
from opskit.model.operation import Progress
from opskit.model.shown import Shown
from opskit.operations.monitor import Monitor
from opskit.operations.recover import fetch_wal, write_settings, write_target
from opskit.operations.recovery import RecoveryPlan
from opskit.repository import Repository
from opskit.repository.extract import Placement, extract
from opskit.repository.snapshot import AUTO_CONF, AUTO_CONF_ASIDE, backup_folder
from opskit.store.disk import FileSystem

CONTROL_FILE = "global/pg_control"
_UNFINISHED = ".unfinished"


class Layout(StrEnum):
    """How a restore lays the files out: as the downloaded archive does, or as the server had them."""

    ARCHIVE = "archive"
    DATA_DIRECTORY = "data-directory"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePlan(Shown):
    """What a restore is going to do. `folders` are those that it fills; sizes in bytes.

    `recovery` is how the copy's target will be reached; `None` for a copy as it was when the backup ended. `paused`
    tells whether the copy will be held there.
    """

    backup: BaseBackup
    directory: Path
    layout: Layout
    tablespaces: Mapping[int, Path]
    data_directory: Path
    recovery: RecoveryPlan | None = None
    paused: bool = False

    def __repr__(self) -> str:
        to = f", recovered to {self.recovery.target}" if self.recovery else ""
        return (
            f"<opskit plan: restore {self.backup.name} of {self.backup.cluster!r}{to} into {str(self.directory)!r};"
            " nothing is done yet>"
        )

    @property
    def folders(self) -> tuple[Path, ...]:
        """The target, and the places of the tablespaces outside of it."""
        outside = [p for p in self.tablespaces.values() if not p.is_relative_to(self.directory)]
        return (self.directory, *outside)


def plan_restore(
    backup: BaseBackup,
    directory: Path,
    *,
    layout: Layout = Layout.ARCHIVE,
    tablespaces: Mapping[int, Path] | None = None,
    recovery: RecoveryPlan | None = None,
    paused: bool = False,
) -> RestorePlan:
    """What `execute_restore` would do; nothing is touched.

    Parameters
    ----------
    tablespaces
        For the layout ``data-directory``: places by oid; the others go where the server had them.

    Raises
    ------
    InputError
        A tablespace that the backup does not have, a relative place, one that is not apart from the others and from the
        directory, or places with the layout ``archive``.
    ConflictError
        The directory or a tablespace's place holds something.
    """
    given = dict(tablespaces or {})
    directory = directory.absolute()
    if layout is Layout.ARCHIVE:
        if given:
            raise InputError(
                "the layout 'archive' keeps tablespaces inside the snapshot, expected no places for them",
                hint="Use the layout 'data-directory', or leave the places out.",
            )
        plan = RestorePlan(
            backup=backup,
            directory=directory,
            layout=layout,
            tablespaces={
                t.oid: directory / "snapshot/tablespaces" / str(t.oid) for t in backup.tablespaces
            },
            data_directory=directory / "snapshot" / "data",
            recovery=recovery,
            paused=paused,
        )
    else:
        known = {t.oid: Path(t.location) for t in backup.tablespaces}
        for oid, place in given.items():
            if oid not in known or not place.is_absolute():
                raise InputError(
                    f"tablespace {oid} at {str(place)!r}: expected one of"
                    f" {', '.join(map(str, known)) or 'none'} at an absolute path",
                    hint=f"See them with 'opskit show {backup.cluster} {backup.name}'.",
                )
            others = [p for o, p in {**known, **given}.items() if o != oid and p.is_absolute()]
            _check_apart(oid, place, [directory, *others])
        plan = RestorePlan(
            backup=backup,
            directory=directory,
            layout=layout,
            tablespaces={
                # A tablespace in place (manual, allow_in_place_tablespaces) has a relative location.
                oid: given.get(oid, place if place.is_absolute() else directory / place)
                for oid, place in known.items()
            },
            data_directory=directory,
            recovery=recovery,
            paused=paused,
        )
    for folder in plan.folders:
        _check_empty(folder)
    return plan


def execute_restore(
    plan: RestorePlan,
    repository: Repository,
    monitor: Monitor,
    *,
    owner: tuple[int, int] | None,
    restore_command: str = "",
) -> None:
    """Write the files of a plan, durably.

    The server cannot be started from what is half restored: ``pg_control`` gets its name last, when everything else
    is on the disk and agrees with the backup's checksums.

    Parameters
    ----------
    owner
        (uid, gid) that the files are given to; `None` for the running user.
    restore_command
        What fetches WAL for a recovery of a plain data directory; the archive's layout brings its own WAL.

    Raises
    ------
    ConflictError
        A target has come to hold something since the plan, or another restore writes into it.
    IntegrityError
        The backup is damaged.
    StoreError
        The target cannot be written or is full.
    Cancelled
        The monitor asked for the end.

    Effects
    -------
    Writes only into the plan's folders. After a failure they are as they were; what others put there stays.
    """
    content = repository.content(plan.backup)
    expected = content.tar_bytes
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        monitor.report(Progress(phase="restoring", bytes_done=done, bytes_expected=expected))

    made = [folder for folder in plan.folders if not folder.exists()]
    ours: list[Path] = []  # what is anybody else's is not taken away after a failure
    placement = Placement(path=_placed(plan), link=_linked(plan), owner=owner)
    opened = ExitStack()
    try:
        for folder in plan.folders:
            opened.enter_context(_taken(folder, owner))
            ours.append(folder)
        disks = [opened.enter_context(FileSystem(folder)) for folder in plan.folders]
        if content.is_merged:
            from opskit.operations.combined import put_together  # a full backup does without

            put_together(repository, content, placement, advance=advance, check=monitor.check)
        else:
            extract(content.sources, placement, advance=advance, check=monitor.check)
        if plan.recovery is not None:
            _equip(plan, plan.recovery, repository, monitor, owner, restore_command)
        monitor.report(Progress(phase="syncing", bytes_done=done, bytes_expected=expected))
        for disk in disks:
            disk.sync()
        monitor.check()
        _publish_control_file(plan)
    except BaseException:
        for folder in ours:
            _empty(folder, remove=folder in made)
        raise
    finally:
        opened.close()


def _equip(
    plan: RestorePlan,
    recovery: RecoveryPlan,
    repository: Repository,
    monitor: Monitor,
    owner: tuple[int, int] | None,
    restore_command: str,
) -> None:
    """Give the copy its target, and the WAL that leads there or the command that fetches it."""
    if plan.layout is Layout.ARCHIVE:
        archive = repository.known_wal(plan.backup.cluster)
        fetch_wal(recovery, archive, plan.directory, monitor, owner=owner)
        write_target(recovery, plan.directory / "snapshot", paused=plan.paused, owner=owner)
    else:
        write_settings(
            recovery, plan.data_directory, restore_command, paused=plan.paused, owner=owner
        )


def _placed(plan: RestorePlan) -> Callable[[str], str | None]:
    """Where each member goes, by its name in the archive; texts, since `Path` costs a crowded cluster a second."""
    root = backup_folder(plan.backup.name) + "/"
    control = f"{root}snapshot/data/{CONTROL_FILE}"
    data, aside = f"{root}snapshot/data", f"{root}snapshot/conf/{AUTO_CONF_ASIDE}"
    spaces = f"{root}snapshot/tablespaces/"
    in_place = {str(place) for place in plan.tablespaces.values()}
    directory = str(plan.directory)

    def archive(name: str) -> str | None:
        return f"{directory}/{name[len(root) :]}" if len(name) > len(root) else None

    def data_directory(name: str) -> str | None:
        if name == data:
            return directory
        if name.startswith(f"{data}/"):
            target = f"{directory}/{name[len(data) + 1 :]}"
            return None if target in in_place else target  # a tablespace in place: no link
        if name == aside:
            return f"{directory}/{AUTO_CONF}"
        if name.startswith(spaces):
            oid, _, rest = name[len(spaces) :].partition("/")
            return f"{plan.tablespaces[int(oid)]}/{rest}"
        return None

    place = archive if plan.layout is Layout.ARCHIVE else data_directory

    def path(name: str) -> str | None:
        if not (name + "/").startswith(root):
            return None
        if ".." in name and ".." in name.split("/"):
            raise IntegrityError(
                f"the backup's index names {name!r}, which leads out of the backup",
                ErrorKind.UNKNOWN_FORMAT,
            )
        target = place(name)
        return f"{target}{_UNFINISHED}" if name == control and target is not None else target

    return path


def _linked(plan: RestorePlan) -> Callable[[str, str], str]:
    """A link's target: tablespaces of a plain data directory are where the plan puts them."""

    def target(name: str, stored: str) -> str:
        oid = name.rpartition("/pg_tblspc/")[2]
        if plan.layout is Layout.DATA_DIRECTORY and oid.isdigit() and int(oid) in plan.tablespaces:
            return str(plan.tablespaces[int(oid)])
        return stored

    return target


def _check_apart(oid: int, place: Path, others: Iterable[Path]) -> None:
    """Tablespaces in one folder would write each other's files: the names are unique in each only."""
    here = Path(os.path.realpath(place))
    for other in others:
        there = Path(os.path.realpath(other))
        if here.is_relative_to(there) or there.is_relative_to(here):
            raise InputError(
                f"tablespace {oid} at {str(place)!r} and {str(other)!r} lie in each other, expected places apart",
                hint="Give each tablespace a directory of its own, outside of the data directory.",
            )


def _check_empty(folder: Path) -> None:
    try:
        if not folder.exists() and not folder.is_symlink():
            return
        if folder.is_dir() and not any(folder.iterdir()):
            return
    except OSError as error:
        raise StoreError(
            f"{str(folder)!r} cannot be looked into: {error.strerror}", ErrorKind.STORE_NOT_WRITABLE
        ) from None
    begun = any(folder.glob(f"**/pg_control{_UNFINISHED}")) if folder.is_dir() else False
    snapshot = folder / "snapshot"
    unfinished = begun or (snapshot.is_dir() and not (snapshot / "data" / CONTROL_FILE).exists())
    raise ConflictError(
        f"{str(folder)!r} {'holds a restore that did not end' if unfinished else 'is not an empty directory'}",
        ErrorKind.TARGET_NOT_EMPTY,
        "Remove it and restore again."
        if unfinished
        else "Restore into a directory that is empty or does not exist.",
    )


@contextmanager
def _taken(folder: Path, owner: tuple[int, int] | None) -> Iterator[None]:
    """An empty folder that no other restore writes into meanwhile; the lock goes with this process."""
    _check_empty(folder)
    _prepare(folder, owner)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(
                f"another restore writes into {str(folder)!r}",
                ErrorKind.TARGET_NOT_EMPTY,
                "Restore into a directory of its own.",
            ) from None
        except OSError:  # a file system without locks
            pass
        _check_empty(folder)  # whoever had the lock before may have left something
        yield
    finally:
        os.close(descriptor)


def _prepare(folder: Path, owner: tuple[int, int] | None) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        if owner:
            os.chown(folder, *owner)
    except OSError as error:
        raise StoreError(
            f"{str(folder)!r} cannot be made: {error.strerror}",
            ErrorKind.STORE_NOT_WRITABLE,
            "Choose a directory that this account may write to.",
        ) from None


def _publish_control_file(plan: RestorePlan) -> None:
    control = plan.data_directory / CONTROL_FILE
    unfinished = control.with_name(control.name + _UNFINISHED)
    if not unfinished.is_file():
        raise IntegrityError(
            f"backup {plan.backup.name!r} holds no {CONTROL_FILE}",
            ErrorKind.INCOMPLETE,
            "Restore from another backup.",
        )
    unfinished.rename(control)
    descriptor = os.open(control.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _empty(folder: Path, *, remove: bool) -> None:
    """Take away what a failed restore has written; the folder itself stays if it was there before."""
    with suppress(OSError):
        for entry in list(folder.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink()
        if remove:
            folder.rmdir()
