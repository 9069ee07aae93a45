"""A local store whose calls to the system fail, or end with its process: at every single one of them."""

import errno
import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from opskit.errors import ConflictError, ErrorKind, StoreError
from opskit.store import Listing, LocalStore

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
    assert calls >= 10
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
