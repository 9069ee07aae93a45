"""Places that are full or closed: of the repository, of a restore, of a download."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from opskit.cluster import Cluster
from opskit.config import Settings, load_settings
from opskit.errors import ConflictError, ErrorKind, InputError, OpskitError, StoreError
from opskit.operations.download import ArchiveFormat, download
from opskit.operations.monitor import SilentMonitor
from opskit.operations.restore import execute_restore
from opskit.postgres.account import server_account
from opskit.store import LocalStore
from tests.servers import ServerFactory
from tests.support.backups import assert_free, assert_restores, mark, take
from tests.support.failing import assert_backup_fails, assert_command_fails, assert_fails
from tests.support.machine import ordinary_user, small_disk

pytestmark = pytest.mark.parametrize("programs", [18], indirect=True)
RANDOM = (
    "CREATE TABLE random AS SELECT (SELECT string_agg(uuid_send(gen_random_uuid()), '')"
    " FROM generate_series(1, 100) WHERE i > 0) FROM generate_series(1, 2500) i"
)


@pytest.fixture
def cluster(
    server: ServerFactory, settings: Callable[..., Settings]
) -> Iterator[Callable[..., Cluster]]:
    """Makes the cluster of one server, with its repository where it is told to be."""
    source = server(wal_segment_megabytes=1)
    mark(source)
    source.query(RANDOM)
    made: list[Cluster] = []

    def make(directory: Path | None = None, repository: Path | None = None) -> Cluster:
        configured = settings(source, **({"directory": directory} if directory else {}))
        if repository is not None:
            assert configured.file is not None
            old = LocalStore(configured.file.parent / "repository").url
            text = configured.file.read_text(encoding="utf-8")
            configured.file.write_text(text.replace(old, repository.as_uri()), encoding="utf-8")
        made.append(Cluster("main", load_settings(configured.file)))
        return made[-1]

    yield make
    for one in made:
        one.catalog.close()


def test_a_repository_that_is_full(
    cluster: Callable[..., Cluster], server: ServerFactory, scratch: Path
) -> None:
    """It is told as full, everything half-stored is removed, and where room was made the next backup succeeds."""
    [source] = server.servers
    with small_disk(scratch / "disk", 4 << 10) as disk:
        main = cluster(repository=disk / "repository")
        assert_backup_fails(main, StoreError, ErrorKind.STORE_FULL, "is full")
        left = {p.name for p in disk.rglob("*") if p.is_file()}
        assert left <= {"repository.json", "cluster.json"}
        assert_free(source)
    roomy = cluster(scratch / "roomy")
    assert_restores(source, roomy.repository, roomy.create_backup(), scratch / "copy")


def test_a_repository_that_is_closed(
    cluster: Callable[..., Cluster], server: ServerFactory, scratch: Path
) -> None:
    """A place where this account may not write is told as such, and by the check before."""
    [source] = server.servers
    closed = scratch / "closed"
    closed.mkdir()
    cluster(scratch / "other").check()  # what is imported lazily
    main = cluster(repository=closed / "repository")
    with ordinary_user(closed):
        closed.chmod(0o500)
        failure = assert_fails(
            partial(take, source, main.repository),  # its catalog is not this account's
            StoreError,
            ErrorKind.STORE_NOT_WRITABLE,
            closed.as_uri(),
        )
        found = [finding for finding in main.check() if not finding.passed]
        closed.chmod(0o700)
        assert [(f.name, f.hint) for f in found] == [("repository", failure.hint)]
    assert_free(source)


def test_a_repository_in_a_place_that_is_none(
    cluster: Callable[..., Cluster], scratch: Path
) -> None:
    """A path through a file can hold nothing."""
    (scratch / "file").write_text("x")
    main = cluster(repository=scratch / "file/repository")
    assert_backup_fails(main, StoreError, ErrorKind.STORE_NOT_WRITABLE, "not writable")


def test_a_target_that_is_full(cluster: Callable[..., Cluster], scratch: Path) -> None:
    """Restore and download say so and leave nothing there, so that there is as much room as before."""
    main = cluster()
    main.create_backup()
    with small_disk(scratch / "disk", 4 << 10) as disk:
        for place in (disk, disk / "new"):
            failure = assert_fails(
                partial(main.restore, place), StoreError, ErrorKind.STORE_FULL, str(disk)
            )
            assert list(disk.iterdir()) == []
        assert_command_fails(main.settings, failure, "restore", "main", str(disk / "new"))
        for form in ("tar.zst", "tar.gz", "tar"):
            failure = assert_fails(
                partial(main.download, "latest", disk, format=form),
                StoreError,
                ErrorKind.STORE_FULL,
                str(disk),
            )
            assert list(disk.iterdir()) == []
        assert_command_fails(main.settings, failure, "download", "main", "latest", "-o", str(disk))
        assert list(disk.iterdir()) == []


def test_a_target_that_is_closed(cluster: Callable[..., Cluster], scratch: Path) -> None:
    """A folder where this account may not write is told, and nothing is made."""
    main = cluster()
    backup = main.create_backup()
    main.restore(scratch / "first")  # what is imported lazily
    closed = scratch / "closed"
    closed.mkdir()
    for path in (scratch / "opskit").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    with ordinary_user(closed):
        closed.chmod(0o500)
        assert_fails(
            partial(
                execute_restore,
                main.plan_restore(closed / "new"),
                main.repository,
                SilentMonitor(),
                owner=None,
            ),
            StoreError,
            ErrorKind.STORE_NOT_WRITABLE,
            str(closed / "new"),
        )
        assert_fails(
            partial(
                download,
                main.repository,
                backup,
                closed / "a.tar.zst",
                archive_format=ArchiveFormat.TAR_ZST,
                monitor=SilentMonitor(),
            ),
            StoreError,
            ErrorKind.STORE_NOT_WRITABLE,
            "a.tar.zst",
        )
        closed.chmod(0o700)
    assert list(closed.iterdir()) == []


def test_a_target_that_holds_something(cluster: Callable[..., Cluster], scratch: Path) -> None:
    """Nothing that is there is ever overwritten: a file, a hidden file, a folder, a link, a restore before."""
    main = cluster()
    main.create_backup()
    file, link = scratch / "file", scratch / "link"
    file.write_text("mine")
    link.symlink_to(scratch / "nowhere")
    hidden, nested = scratch / "hidden", scratch / "nested"
    (nested / "folder").mkdir(parents=True)
    hidden.mkdir()
    (hidden / ".keep").write_text("mine")
    main.restore(scratch / "copy")
    for layout in ("archive", "data-directory"):
        for place in (file, link, hidden, nested, scratch / "copy"):
            before = sorted(scratch.rglob("*"))
            failure: OpskitError = assert_fails(
                partial(main.restore, place, layout=layout),
                ConflictError,
                ErrorKind.TARGET_NOT_EMPTY,
                str(place),
            )
            assert sorted(scratch.rglob("*")) == before
    assert_command_fails(main.settings, failure, "restore", "main", str(hidden))
    _assert_kept_what_came_late(main, scratch)
    archive = main.download("latest", scratch / "a.tar.zst")
    content = archive.read_bytes()
    for place in (archive, file, link):
        failure = assert_fails(
            partial(main.download, "latest", place),
            ConflictError,
            ErrorKind.OBJECT_EXISTS,
            str(place),
        )
    assert_command_fails(main.settings, failure, "download", "main", "latest", "-o", str(archive))
    assert (archive.read_bytes(), file.read_text()) == (content, "mine")
    assert_fails(
        partial(main.download, "latest", scratch / "no/where"),
        InputError,
        ErrorKind.WRONG_INPUT,
        "is not a directory",
    )


def _assert_kept_what_came_late(main: Cluster, scratch: Path) -> None:
    """What is put where a restore goes after its plan was made stays, and so does another restore's."""
    plan = main.plan_restore(scratch / "late")
    account = server_account()
    owner = (account.uid, account.gid) if account else None
    ours = partial(execute_restore, plan, main.repository, owner=owner)
    plan.directory.mkdir()
    (plan.directory / "mine").write_text("mine")
    assert_fails(partial(ours, SilentMonitor()), ConflictError, ErrorKind.TARGET_NOT_EMPTY, "late")
    assert (plan.directory / "mine").read_text() == "mine"
    (plan.directory / "mine").unlink()
    met: list[OpskitError] = []

    class Rival(SilentMonitor):
        """Begins another restore into the place as soon as the first one is about to write."""

        def check(self) -> None:
            """See `Monitor`."""
            if not met:
                rival = partial(ours, SilentMonitor())
                met.append(assert_fails(rival, ConflictError, ErrorKind.TARGET_NOT_EMPTY, "late"))

    ours(Rival())
    assert met
    assert main.copy(plan.directory).verify().exit_code == 0
