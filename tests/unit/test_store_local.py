"""What a local directory adds to a store: durable in the right order, whole after a crash at any instruction."""

import errno
import functools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from opskit.errors import ConflictError, ErrorKind, InputError, StoreError
from opskit.store import Listing, LocalStore, open_store
from tests.support.machine import ordinary_user, small_disk

PROJECT = Path(__file__).parents[2]
CALLS = ("open", "write", "fsync", "close", "link", "replace", "rename", "mkdir", "rmdir", "unlink")
HARMLESS = {"unlink"}  # of the temporary name, when the object has its own


class Kernel:
    """Watches, and fails on demand, the calls to the operating system that a store makes in this thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, str]] = []
        self.fail_at: int | None = None
        self._thread, self._watching = threading.get_ident(), False
        self._paths: dict[int, str] = {}
        for name in CALLS:
            real = getattr(os, name)
            monkeypatch.setattr(os, name, functools.partial(self._call, name, real))

    @contextmanager
    def watching(self, fail_at: int | None = None) -> Iterator[None]:
        """Look at the calls of the block; the one of that number fails, counted from 1."""
        self.calls, self.fail_at, self._watching = [], fail_at, True
        try:
            yield
        finally:
            self._watching = False

    def _call(self, name: str, real: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if not self._watching or threading.get_ident() != self._thread:
            return real(*args, **options)
        path = self._paths.get(args[0], "?") if isinstance(args[0], int) else os.fspath(args[-1 if
            name in ("link", "replace", "rename") else 0])  # fmt: skip
        self.calls.append((name, path))
        failing = len(self.calls) == self.fail_at
        if failing and name != "close":
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        result = real(*args, **options)
        if name == "open":
            self._paths[result] = path
        if failing:  # a file is closed even when closing fails
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return result


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """The operating system, watched."""
    return Kernel(monkeypatch)


def files_of(directory: Path) -> list[str]:
    """All files below a directory, the hidden ones too."""
    return sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file())


def test_bytes_are_safe_before_their_name_is_seen(tmp_path: Path, kernel: Kernel) -> None:
    """The file is synced before it gets its name, and its folder and each new one above before put returns."""
    store = LocalStore(tmp_path / "store")
    with kernel.watching():
        store.put("a/b/object", [b"x", b"y"])
    calls, root = kernel.calls, str(tmp_path / "store")
    named = calls.index(("link", f"{root}/a/b/object"))
    [temporary] = {path for name, path in calls if name == "write"}
    assert temporary.startswith(f"{root}/.unfinished/")
    last_write = max(i for i, call in enumerate(calls) if call == ("write", temporary))
    assert last_write < calls.index(("fsync", temporary)) < named
    synced = [(i, path) for i, (name, path) in enumerate(calls) if name == "fsync"]
    for parent, made in ((str(tmp_path), root), (root, f"{root}/a"), (f"{root}/a", f"{root}/a/b")):
        assert any(calls.index(("mkdir", made)) < i < named for i, p in synced if p == parent)
    assert any(i > named for i, path in synced if path == f"{root}/a/b")


def test_a_removed_name_stays_removed(tmp_path: Path, kernel: Kernel) -> None:
    """The folder is synced after the name was taken away."""
    store = LocalStore(tmp_path / "store")
    store.put("a/1", [b"x"])
    store.put("a/2", [b"x"])
    with kernel.watching():
        store.delete("a/1")
    folder = str(tmp_path / "store/a")
    assert kernel.calls.index(("unlink", f"{folder}/1")) < kernel.calls.index(("fsync", folder))


@pytest.mark.parametrize("replace", [False, True])
def test_a_fault_at_every_call(tmp_path: Path, kernel: Kernel, replace: bool) -> None:
    """Whichever call fails: put raises and the name holds what it held before, or put returns and all is there."""

    def prepared(number: int) -> LocalStore:
        store = LocalStore(tmp_path / f"store{number}")
        if replace:
            store.put("a/b/object", [b"old"])
        return store

    whole = prepared(0)
    with kernel.watching():
        whole.put("a/b/object", [b"ne", b"w"], replace=replace)
    calls = len(kernel.calls)
    assert calls > 10
    for number in range(1, calls + 1):
        store = prepared(number)
        failed = False
        with kernel.watching(fail_at=number):
            try:
                store.put("a/b/object", [b"ne", b"w"], replace=replace)
            except StoreError as error:
                failed = True
                assert error.kind is ErrorKind.STORE_FAILED
        what = kernel.calls[number - 1]
        found = [b"".join(store.get(o.name)) for o in store.list("a/b").objects]
        if failed:
            # What has been replaced cannot be brought back, but it is whole.
            assert found == ([b"old"] if replace else []) or (replace and found == [b"new"]), what
            store.put("a/b/object", [b"new"], replace=replace)
        else:
            assert what[0] in HARMLESS
        assert b"".join(store.get("a/b/object")) == b"new"
        visible = [name for name in files_of(store.directory) if not name.startswith(".")]
        assert visible == ["a/b/object"]


def test_a_fault_while_removing(tmp_path: Path, kernel: Kernel) -> None:
    """Whichever call of a removal fails, it can be repeated."""
    for number in range(1, 30):
        store = LocalStore(tmp_path / f"store{number}")
        store.put("a/b/object", [b"x"])
        with kernel.watching(fail_at=number):
            try:
                store.delete("a/b/object")
                failed = False
            except StoreError:
                failed = True
        assert failed == (number <= len(kernel.calls))
        store.delete("a/b/object")
        assert store.list("a/b") == Listing((), ())
        if not failed:
            return
    raise AssertionError("it never came to an end")


# The child dies by its own hand at the n-th call, which is where a crash or `kill -9` would leave it.
DYING = """
import os, signal, sys
from pathlib import Path
from opskit.store import LocalStore

def hooked(name, real, at):
    def call(*args, **options):
        global made
        made += 1
        if made == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **options)
    return call

names = sys.argv[2:]
real = {name: getattr(os, name) for name in names}
for at in range(1, 1000):
    store = LocalStore(Path(sys.argv[1], f"store{at}"))
    pid = os.fork()
    if pid == 0:
        made = 0
        for name in names:
            setattr(os, name, hooked(name, real[name], at))
        store.put("a/b/object", [b"ne", b"w"])
        os._exit(0)
    if os.waitpid(pid, 0)[1] == 0:
        print(at)
        break
"""


def test_a_writer_that_is_killed_at_every_call(tmp_path: Path) -> None:
    """The name is then missing or its object whole, nothing else is listed, and the put can be repeated."""
    done = subprocess.run(
        [sys.executable, "-c", DYING, str(tmp_path), *CALLS],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    last = int(done.stdout)
    assert last > 10
    outcomes = []
    for number in range(1, last + 1):
        store = LocalStore(tmp_path / f"store{number}")
        try:
            assert store.put("a/b/object", [b"new"]) == 3
            outcomes.append("missing")
        except ConflictError:
            outcomes.append("whole")
        assert b"".join(store.get("a/b/object")) == b"new"
        assert [s.name for s in store.list("a/b").objects] == ["a/b/object"]
        assert store.list().folders == ("a",)
        assert store.list().objects == ()
    assert outcomes == sorted(outcomes)  # missing up to one call, whole from then on
    assert set(outcomes) == {"missing", "whole"}


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
                with pytest.raises(StoreError):
                    read()
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
