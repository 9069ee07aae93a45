"""What a local directory adds to a store: files for their owner alone, full disks, writers that were killed."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from opskit.errors import ConflictError, ErrorKind, InputError, StoreError
from opskit.store import Listing, LocalStore, open_store
from tests.support.machine import ordinary_user, small_disk

PROJECT = Path(__file__).parents[2]

WRITING = """
import sys
from pathlib import Path
from opskit.store import LocalStore

def chunks():
    yield b"begun"
    print("begun", flush=True)
    sys.stdin.read()

LocalStore(Path(sys.argv[1])).put("object", chunks())
"""


def files_of(directory: Path) -> list[str]:
    """All files below a directory, the hidden ones too."""
    return sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file())


@contextmanager
def writer(store: LocalStore) -> Iterator["subprocess.Popen[str]"]:
    """A process that is in the middle of a put, until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITING, str(store.directory)],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            yield process
        finally:
            process.kill()


def make_old(path: Path, hours: float) -> None:
    """Set a file's time back."""
    then = time.time() - hours * 3600
    os.utime(path, (then, then))


def test_what_a_killed_writer_left_is_removed_in_time(tmp_path: Path) -> None:
    """It has no name, is let be for an hour, and is removed by the next put then."""
    store = LocalStore(tmp_path / "store")
    with writer(store) as process:
        process.kill()
    [left] = (store.directory / ".unfinished").iterdir()
    assert left.read_bytes() == b"begun"
    assert store.list() == Listing((), ())
    store.put("object", [b"x"])
    assert left.exists()
    make_old(left, hours=2)
    store.put("other", [b"x"])
    assert files_of(store.directory) == ["object", "other"]


def test_a_writer_that_is_slow_is_not_taken_for_a_killed_one(tmp_path: Path) -> None:
    """However old its last write is, a file whose writer lives is let be."""
    store = LocalStore(tmp_path / "store")
    with writer(store) as process:
        [unfinished] = (store.directory / ".unfinished").iterdir()
        make_old(unfinished, hours=48)
        store.put("other", [b"x"])
        assert unfinished.exists()
        process.communicate("")
        assert process.returncode == 0
    assert b"".join(store.get("object")) == b"begun"
    assert files_of(store.directory) == ["object", "other"]


def test_a_full_disk(tmp_path: Path) -> None:
    """What does not fit is told as a full store, and leaves neither a name nor its bytes behind."""
    with small_disk(tmp_path / "disk", 2048) as disk:
        store = LocalStore(disk / "store")
        store.put("small", [b"x"])
        with pytest.raises(StoreError, match=r"is full: .* at 'a/big'") as raised:
            store.put("a/big", (bytes(100_000) for _ in range(40)))
        assert raised.value.kind is ErrorKind.STORE_FULL
        assert raised.value.hint
        assert files_of(store.directory) == ["small"]
        store.put("a/big", [bytes(1_000_000)])
        assert store.stat("a/big").object_bytes == 1_000_000


def test_a_directory_that_may_not_be_written(scratch: Path) -> None:
    """Without the right to write there, every verb that writes says so; reading goes on."""
    store = LocalStore(scratch / "store")
    with ordinary_user(scratch):
        store.put("a/object", [b"x"])
        folders = (store.directory, store.directory / "a", store.directory / ".unfinished")
        for folder in folders:
            folder.chmod(0o500)
        try:
            for write in (
                lambda: store.put("new", [b"x"]),
                lambda: store.put("a/object", [b"y"], replace=True),
                lambda: store.delete("a/object"),
            ):
                with pytest.raises(StoreError) as raised:
                    write()
                assert raised.value.kind is ErrorKind.STORE_NOT_WRITABLE
                assert raised.value.hint
            assert b"".join(store.get("a/object")) == b"x"
        finally:
            for folder in folders:
                folder.chmod(0o700)


def test_a_directory_that_may_not_be_made(scratch: Path) -> None:
    """A place below a folder of somebody else's is told as not writable, not as empty."""
    closed = scratch / "closed"
    closed.mkdir(0o500)
    store = LocalStore(closed / "store")
    with ordinary_user(closed), pytest.raises(StoreError) as raised:
        store.put("object", [b"x"])
    assert raised.value.kind is ErrorKind.STORE_NOT_WRITABLE


def test_a_place_that_may_not_be_read(scratch: Path) -> None:
    """A store that cannot be looked into is an error, never an empty store."""
    store = LocalStore(scratch / "store")
    with ordinary_user(scratch):
        store.put("a/object", [b"x"])
        (store.directory / "a").chmod(0)
        try:
            fresh = LocalStore(store.directory)
            for read in (
                lambda: fresh.list("a"),
                lambda: list(fresh.get("a/object")),
                lambda: fresh.stat("a/object"),
            ):
                with pytest.raises(StoreError, match="denied") as raised:
                    read()
                assert raised.value.kind is ErrorKind.STORE_NOT_WRITABLE
        finally:
            (store.directory / "a").chmod(0o700)


@pytest.mark.parametrize("object_name", ["file/below", "folder"])
def test_a_name_that_collides_with_a_folder(tmp_path: Path, object_name: str) -> None:
    """A directory cannot hold a file and a folder of one name: the second is refused, the first stays."""
    store = LocalStore(tmp_path / "store")
    store.put("file", [b"x"])
    store.put("folder/object", [b"x"])
    with pytest.raises((StoreError, ConflictError)):
        store.put(object_name, [b"y"])
    assert files_of(store.directory) == ["file", "folder/object"]


def test_only_the_owner_may_look(tmp_path: Path) -> None:
    """Backups hold everything that a cluster holds, so files and folders are closed to others."""
    store = LocalStore(tmp_path / "store")
    store.put("a/b/object", [b"x"])
    modes = {p.relative_to(tmp_path): p.stat().st_mode & 0o777 for p in tmp_path.rglob("*")}
    assert modes == {
        Path("store"): 0o700,
        Path("store/.unfinished"): 0o700,
        Path("store/a"): 0o700,
        Path("store/a/b"): 0o700,
        Path("store/a/b/object"): 0o600,
    }


def test_reading_makes_nothing(tmp_path: Path) -> None:
    """A store that nothing has been put into does not come to exist by being looked at."""
    store = LocalStore(tmp_path / "store")
    assert store.list() == store.list("a") == Listing((), ())
    store.delete("a/b")
    assert not store.directory.exists()


@pytest.mark.parametrize("name", ["with blank", "umläut", "100%", "a?b#c;d", 'it\'s "quoted"'])
def test_odd_directories(tmp_path: Path, name: str) -> None:
    """The URL of any directory leads back to it."""
    store = LocalStore(tmp_path / name)
    store.put("object", [b"x"])
    again = open_store(store.url)
    assert isinstance(again, LocalStore)
    assert again.directory == store.directory
    assert b"".join(again.get("object")) == b"x"


@pytest.mark.parametrize(
    "url", ["", "/srv", "file:srv", "file://host/srv", "s3://bucket", "x:/srv"]
)
def test_urls_that_name_no_store(url: str) -> None:
    """What cannot be opened is refused, with the form that is expected."""
    with pytest.raises(InputError, match="file:///absolute/path") as raised:
        open_store(url)
    assert raised.value.hint


def test_disks_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where names cannot be linked they are given by renaming, and nothing is replaced unasked there either."""

    def refuse(source: Path, target: Path) -> None:
        if target.exists():
            raise FileExistsError(
                errno.EEXIST, os.strerror(errno.EEXIST)
            )  # Linux looks for it first
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    store = LocalStore(tmp_path / "store")
    store.put("object", [b"x"])
    with pytest.raises(ConflictError):
        store.put("object", [b"y"])
    assert b"".join(store.get("object")) == b"x"
    assert files_of(store.directory) == ["object"]
