"""A repository whose bytes have changed: told as damage wherever it is met, and nothing is left at the target."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from opskit.cluster import Cluster
from opskit.config import Settings
from opskit.errors import ErrorKind, IntegrityError, NotFoundError, OpskitError
from opskit.model.backup import BaseBackup
from opskit.postgres.server import LocalServer
from opskit.repository import Repository
from opskit.store import open_store
from tests.support.backups import take
from tests.support.command import run_command
from tests.support.failing import assert_command_fails, assert_fails

FORMATS = ("tar.zst", "tar.gz", "tar")


class Kept:
    """A cluster with a backup, and where its objects are."""

    def __init__(self, cluster: Cluster, backup: BaseBackup, scratch: Path) -> None:
        self.cluster, self.backup, self.scratch = cluster, backup, scratch
        self.folder = scratch / "opskit/repository/main/backups" / backup.name

    def change(self, name: str, change: Callable[[bytearray], None]) -> None:
        """Change an object behind opskit's back."""
        content = bytearray((self.folder / name).read_bytes())
        change(content)
        (self.folder / name).write_bytes(content)

    def assert_refused(self, kind: ErrorKind, *said: str, by_command: bool = False) -> None:
        """Restore and every download fail as damage, by API (and command), and leave nothing behind."""
        target, archive = self.scratch / "target", self.scratch / "archive"
        target.mkdir()
        before = set(self.scratch.iterdir())
        name = self.backup.name
        works: list[tuple[Callable[[], object], list[str]]] = [
            (
                partial(self.cluster.restore, place, backup=name),
                ["restore", "main", str(place), "--backup", name],
            )
            for place in (target, self.scratch / "new")
        ]
        works += [
            (
                partial(self.cluster.download, name, archive, format=form),
                ["download", "main", name, "-o", str(archive), "--format", form],
            )
            for form in FORMATS
        ]
        for number, (work, arguments) in enumerate(works):
            failure = assert_fails(work, IntegrityError, kind, *said)
            if by_command and number in (0, 2):
                assert_command_fails(self.cluster.settings, failure, *arguments)
            assert failure.exit_code == 7
            assert set(self.scratch.iterdir()) == before
            assert list(target.iterdir()) == []


@pytest.fixture(scope="module")
def taken(shared_server: LocalServer, base: Path) -> Iterator[tuple[Path, BaseBackup]]:
    """A repository with one backup, to be copied."""
    directory = Path(tempfile.mkdtemp(prefix="taken-", dir=base))
    repository = Repository(open_store((directory / "repository").as_uri()))
    yield directory / "repository", take(shared_server, repository)
    shutil.rmtree(directory)


@pytest.fixture
def kept(
    taken: tuple[Path, BaseBackup],
    shared_server: LocalServer,
    settings: Callable[..., Settings],
    scratch: Path,
) -> Iterator[Kept]:
    """A cluster with one backup in a repository of its own."""
    original, backup = taken
    cluster = Cluster("main", settings(shared_server))
    shutil.copytree(original, scratch / "opskit/repository")
    yield Kept(cluster, backup, scratch)
    cluster.catalog.close()


def cut(content: bytearray) -> None:
    """Take away the second half."""
    del content[len(content) // 2 :]


def flip(content: bytearray) -> None:
    """Flip a bit in the middle."""
    content[len(content) // 2] ^= 0x10


def swap(content: bytearray) -> None:
    """Something else of the same size."""
    content[:] = bytes(len(content))


pytestmark = pytest.mark.parametrize("programs", [18], indirect=True)


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        (flip, {ErrorKind.CHECKSUM_MISMATCH}),
        (swap, {ErrorKind.CHECKSUM_MISMATCH}),
        (cut, {ErrorKind.TRUNCATED}),
        (bytearray.clear, {ErrorKind.TRUNCATED}),
    ],
    ids=["flip", "swap", "cut", "clear"],
)
def test_a_volume(kept: Kept, change: Callable[[bytearray], None], kinds: set[ErrorKind]) -> None:
    """A flipped bit, other bytes and missing bytes in a volume end restore and download."""
    kept.change("snapshot-00001.tar.zst", change)
    [kind] = kinds
    kept.assert_refused(kind, "snapshot-00001.tar.zst", by_command=change in (flip, cut))


def test_a_volume_that_is_missing(kept: Kept) -> None:
    """A backup without one of its volumes is damaged: what was asked for, the backup, is there."""
    (kept.folder / "snapshot-00001.tar.zst").unlink()
    kept.assert_refused(ErrorKind.INCOMPLETE, "snapshot-00001.tar.zst", by_command=True)


@pytest.mark.parametrize("change", [flip, bytearray.clear], ids=["flip", "clear"])
def test_the_index(kept: Kept, change: Callable[[bytearray], None]) -> None:
    """An index that is not the one that the record names is never read."""
    kept.change("index.json.zst", change)
    kept.assert_refused(ErrorKind.CHECKSUM_MISMATCH, "index.json.zst")


def test_an_index_that_is_missing(kept: Kept) -> None:
    """It is told as what the backup lacks."""
    (kept.folder / "index.json.zst").unlink()
    kept.assert_refused(ErrorKind.INCOMPLETE, "index.json.zst", by_command=True)


@pytest.mark.parametrize("change", [flip, cut, None], ids=["flip", "cut", "missing"])
def test_the_manifest(kept: Kept, change: Callable[[bytearray], None] | None) -> None:
    """The manifest beside the volumes is held against the record where it is read; a restore has its own copy."""
    if change is None:
        (kept.folder / "backup_manifest.zst").unlink()
    else:
        kept.change("backup_manifest.zst", change)
    kind = ErrorKind.INCOMPLETE if change is None else ErrorKind.CHECKSUM_MISMATCH
    assert_fails(
        lambda: kept.cluster.repository.manifest(kept.backup),
        IntegrityError,
        kind,
        "backup_manifest.zst",
    )
    assert kept.cluster.restore(kept.scratch / "copy").verify().exit_code == 0


def nonsense(content: bytearray) -> None:
    """JSON, but no record."""
    content[:] = b'["format", 1]'


def of_another(content: bytearray) -> None:
    """The record of another backup."""
    record = json.loads(content)
    content[:] = json.dumps({**record, "name": "20200101T000000Z"}).encode()


def of_the_future(content: bytearray) -> None:
    """A record of a format that nobody knows yet."""
    content[:] = json.dumps({**json.loads(content), "format": 99}).encode()


def without_a_key(content: bytearray) -> None:
    """A record that lacks something."""
    record = json.loads(content)
    del record["stop_lsn"]
    content[:] = json.dumps(record).encode()


def of_wrong_types(content: bytearray) -> None:
    """A record whose values are not what they are to be."""
    content[:] = json.dumps({**json.loads(content), "start_lsn": 5, "tablespaces": [1]}).encode()


@pytest.mark.parametrize(
    "change",
    [
        cut,
        swap,
        bytearray.clear,
        nonsense,
        of_another,
        of_the_future,
        without_a_key,
        of_wrong_types,
    ],
    ids=lambda change: change.__name__,
)
def test_a_record(kept: Kept, change: Callable[[bytearray], None]) -> None:
    """A damaged record hides no other backup, is told by check, and is an integrity error by its name."""
    name = kept.backup.name
    other = kept.folder.with_name("20200101T000001Z")
    other.mkdir()
    record = json.loads((kept.folder / "backup.json").read_bytes())
    (other / "backup.json").write_text(json.dumps({**record, "name": other.name}))
    kept.change("backup.json", change)
    repository = kept.cluster.repository
    assert [b.name for b in repository.backups("main")] == [other.name]
    assert set(repository.survey("main").damaged) == {name}
    kind = ErrorKind.UNKNOWN_FORMAT if change is of_the_future else ErrorKind.CHECKSUM_MISMATCH
    failure = assert_fails(lambda: kept.cluster.backup(name), IntegrityError, kind)
    assert list(kept.cluster.backups()["name"]) == [other.name]
    if change in (cut, of_the_future):
        assert_command_fails(kept.cluster.settings, failure, "show", "main", name)
        listed = run_command(kept.cluster.settings, "backups", "main", "--json")
        assert listed.returncode == 0
        assert [row["name"] for row in json.loads(listed.stdout)] == [other.name]
    found = [finding for finding in kept.cluster.check() if not finding.passed]
    assert f"record {name}" in {finding.name for finding in found}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"format": 99}', b"\xff"])
@pytest.mark.parametrize("name", ["repository.json", "main/cluster.json"])
def test_the_marks_of_the_repository(
    shared_server: LocalServer,
    settings: Callable[..., Settings],
    scratch: Path,
    name: str,
    content: bytes,
) -> None:
    """A mark that is damaged or from a later format ends a backup before anything is written."""
    cluster = Cluster("main", settings(shared_server))
    file = scratch / "opskit/repository" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    kind = (
        ErrorKind.UNKNOWN_FORMAT if content[-3:] in (b"99}", b"[]") else ErrorKind.CHECKSUM_MISMATCH
    )
    assert_fails(cluster.create_backup, IntegrityError, kind, name)
    assert file.read_bytes() == content
    assert cluster.repository.backups("main") == []
    cluster.catalog.close()


def test_a_backup_that_is_not_there(kept: Kept) -> None:
    """A name that no backup has, a malformed one and one that leads elsewhere are not found."""
    for name in ("20200101T000000Z", "nonsense", "../../main", "", "LATEST"):
        failure: OpskitError = assert_fails(
            partial(kept.cluster.backup, name),
            NotFoundError,
            ErrorKind.BACKUP_NOT_FOUND,
            repr(name),
        )
    assert_command_fails(kept.cluster.settings, failure, "show", "main", "LATEST")


def test_without_any_backup(
    shared_server: LocalServer, settings: Callable[..., Settings], scratch: Path
) -> None:
    """The newest of none is not found, and the hint says how to make one."""
    cluster = Cluster("main", settings(shared_server))
    failure = assert_fails(cluster.backup, NotFoundError, ErrorKind.BACKUP_NOT_FOUND)
    assert "opskit backup main" in failure.hint
    assert_command_fails(cluster.settings, failure, "restore", "main", str(scratch / "x"))
    cluster.catalog.close()
