"""What every store keeps. Another store joins by a line in `STORES`."""

import hashlib
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from opskit.errors import (
    ConflictError,
    ErrorKind,
    InputError,
    IntegrityError,
    NotFoundError,
    OpskitError,
    StoreError,
)
from opskit.store import Listing, LocalStore, MemoryStore, Store
from tests.support.faulty import FaultyStore

MEBIBYTE = 1 << 20
PIECE = 4 * MEBIBYTE

STORES: dict[str, Callable[[Path], Store]] = {
    "local": lambda directory: LocalStore(directory / "store"),
    "memory": lambda directory: MemoryStore(),
    "faulty": lambda directory: FaultyStore(MemoryStore()),  # without a fault, it must be a store
}

BAD_NAMES = (
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "../a",
    "a/../b",
    "a/./b",
    ".a",
    "a/.b",
    "-a",
    "a b",
    "a\nb",
    "a\n",
    "a\\b",
    "a\0b",
    "a?b",
    "a#b",
    "a%2Fb",
    "a:b",
    "~",
    "ä",
    "\N{FULLWIDTH DIGIT ONE}",
    "\udcff",
)


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of every kind."""
    return STORES[request.param](tmp_path)


def content_of(store: Store, name: str, start: int = 0, stop: int | None = None) -> bytes:
    """What the store gives, kept piece by piece first, since each piece is a buffer of its own."""
    pieces = list(store.get(name, start, stop))
    assert all(0 < len(piece) <= PIECE for piece in pieces)
    return b"".join(pieces)


def names(listing: Listing) -> tuple[list[str], list[str]]:
    """A listing's objects and folders."""
    return [stat.name for stat in listing.objects], list(listing.folders)


def cut(content: bytes, randomness: random.Random) -> Iterator[bytes | memoryview]:
    """The content in chunks of every kind, each of them spoilt when the next is taken."""
    position = 0
    while position < len(content):
        size = randomness.choice((0, 1, 511, 65_536, MEBIBYTE, 3 * PIECE))
        chunk = bytearray(content[position : position + size])
        position += size
        yield memoryview(chunk) if size % 2 else bytes(chunk)
        chunk[:] = bytes(len(chunk))


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 12_345])
def test_what_was_put_is_got(store: Store, size: int) -> None:
    """An object of any size comes back as it was given, and its size is told by put and stat."""
    content = random.Random(size).randbytes(size)
    assert store.put("folder/object", cut(content, random.Random(7))) == size
    assert store.stat("folder/object").object_bytes == size
    assert content_of(store, "folder/object") == content


def test_an_object_that_does_not_fit_into_a_buffer(store: Store) -> None:
    """A big object comes back whole, although no chunk or piece of it is big."""
    put, got = hashlib.sha256(), hashlib.sha256()

    def chunks() -> Iterator[bytes]:
        randomness = random.Random(1)
        for _ in range(50):
            chunk = randomness.randbytes(MEBIBYTE + 1)
            put.update(chunk)
            yield chunk

    assert store.put("big", chunks()) == 50 * (MEBIBYTE + 1)
    for piece in store.get("big"):
        got.update(piece)
    assert got.digest() == put.digest()


def test_ranges(store: Store, seed: random.Random) -> None:
    """Any range of an object is the slice of its content."""
    content = seed.randbytes(2 * PIECE + 100)
    store.put("object", [content])
    edges = [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, len(content)]
    pairs = [sorted(seed.choices(edges, k=2)) for _ in range(20)]
    pairs += [sorted(seed.randint(0, len(content)) for _ in "ab") for _ in range(20)]
    for start, stop in pairs:
        assert content_of(store, "object", start, stop) == content[start:stop]
        assert content_of(store, "object", start) == content[start:]


@pytest.mark.parametrize(("start", "stop"), [(0, 11), (10, 11), (11, None), (11, 12), (5, 3)])
def test_a_range_that_the_object_has_not(store: Store, start: int, stop: int | None) -> None:
    """An object that ends before the range does is a damaged object, never a short answer."""
    store.put("object", [b"0123456789"])
    with pytest.raises(IntegrityError) as raised:
        list(store.get("object", start, stop))
    assert raised.value.kind is ErrorKind.TRUNCATED


def test_an_object_that_is_not_there(store: Store) -> None:
    """Reading it says so, in an empty store and in one with a longer name; removing it is no error."""
    for _ in range(2):
        for read in (lambda: list(store.get("a/b")), lambda: store.stat("a/b")):
            with pytest.raises(NotFoundError, match="a/b") as raised:
                read()
            assert raised.value.kind is ErrorKind.OBJECT_NOT_FOUND
        store.delete("a/b")
        store.put("a/bc", [b"x"])
        store.delete("a/bc")
        store.put("a/b/c", [b"x"])
        store.delete("a/b/c")


def test_stat_tells_when_it_was_put(store: Store) -> None:
    """The time is aware, in UTC, and about now; a storage's clock may differ from ours."""
    store.put("object", [b"x"])
    stat = store.stat("object")
    assert stat.name == "object"
    assert stat.modified_at.tzinfo is UTC
    assert abs(stat.modified_at - datetime.now(UTC)) < timedelta(minutes=10)
    assert store.list().objects == (stat,)


@pytest.mark.parametrize("content", [b"", b"first"])
def test_nothing_is_replaced_unasked(store: Store, content: bytes) -> None:
    """A name that is taken keeps what it has, be it empty, unless replacing is asked for."""
    store.put("object", [content])
    with pytest.raises(ConflictError, match="object") as raised:
        store.put("object", [b"second"])
    assert raised.value.kind is ErrorKind.OBJECT_EXISTS
    assert content_of(store, "object") == content
    assert store.put("object", [b"third"], replace=True) == 5
    assert content_of(store, "object") == b"third"
    assert store.put("new", [b"x"], replace=True) == 1
    store.delete("object")
    store.put("object", [b"fourth"])
    assert content_of(store, "object") == b"fourth"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError, PermissionError,
    FileNotFoundError, FileExistsError, NotFoundError, ConflictError, StoreError])  # fmt: skip
def test_an_exception_out_of_the_chunks(store: Store, error: type[BaseException]) -> None:
    """It passes through as it is, and neither the new object nor a part of it is there."""
    failure = error("mine")

    def chunks() -> Iterator[bytes]:
        yield bytes(MEBIBYTE)
        raise failure

    store.put("kept", [b"kept"])
    for name in ("folder/new", "kept"):
        with pytest.raises(error) as raised:
            store.put(name, chunks(), replace=name == "kept")
        assert raised.value is failure
    assert names(store.list()) == (["kept"], [])
    assert names(store.list("folder")) == ([], [])
    assert content_of(store, "kept") == b"kept"
    store.put("folder/new", [b"x"])


def test_an_exception_before_the_first_chunk(store: Store) -> None:
    """A put that never got a byte leaves nothing either, not even an empty object."""

    def chunks() -> Iterator[bytes]:
        raise ValueError("mine")
        yield b""

    with pytest.raises(ValueError, match="mine"):
        store.put("new", chunks())
    assert names(store.list()) == ([], [])


def test_of_puts_at_once_one_wins(store: Store) -> None:
    """Of many that put one name at the same moment exactly one succeeds, and its content is what stays."""
    for attempt in range(10):
        name, together = f"folder{attempt}/object", threading.Barrier(8)

        def chunks(number: int, together: threading.Barrier) -> Iterable[bytes]:
            yield bytes([number]) * 1000
            together.wait(30)
            yield bytes([number]) * 1000

        def put(number: int, name: str = name, together: threading.Barrier = together) -> bool:
            try:
                store.put(name, chunks(number, together))
            except ConflictError:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(put, range(8)))
        assert won.count(True) == 1
        assert content_of(store, name) == bytes([won.index(True)]) * 2000


def test_replacing_at_once(store: Store) -> None:
    """Whoever reads while others replace gets one whole content or another."""
    contents = [bytes([number]) * 300_000 for number in range(4)]
    store.put("object", [contents[0]])

    def replace(content: bytes) -> None:
        for _ in range(10):
            store.put("object", [content[:1], content[1:]], replace=True)

    with ThreadPoolExecutor(4) as pool:
        pending = [pool.submit(replace, content) for content in contents]
        while not all(future.done() for future in pending):
            assert content_of(store, "object") in contents
        for future in pending:
            future.result()


def test_many_threads(store: Store) -> None:
    """Different names do not disturb each other, whatever is done to them at once."""

    def work(number: int) -> None:
        name, content = f"a/{number % 5}/b/{number}", bytes([number]) * (number * 1000)
        store.put(name, [content])
        assert content_of(store, name) == content
        assert name in names(store.list(f"a/{number % 5}/b"))[0]
        if number % 2:
            store.delete(name)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(60)))
    left = {name for folder in range(5) for name in names(store.list(f"a/{folder}/b"))[0]}
    assert left == {f"a/{number % 5}/b/{number}" for number in range(0, 60, 2)}


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_names_that_no_object_may_have(store: Store, name: str) -> None:
    """Every verb refuses them before anything happens, so that no name leads out of the store."""
    verbs: list[Callable[[], object]] = [
        lambda: store.put(name, [b"x"]),
        lambda: store.put(name, [b"x"], replace=True),
        lambda: list(store.get(name)),
        lambda: store.stat(name),
        lambda: store.delete(name),
    ]
    if name:
        verbs.append(lambda: store.list(name))
    for verb in verbs:
        with pytest.raises(InputError):
            verb()
    assert store.list() == Listing((), ())


@pytest.mark.parametrize(
    "name", ["a", "_", "0.9", "A-b_c.d", "a/b/c/d/e/f", "a..b", "x" * 200, "a" + "/b" * 100]
)
def test_names_that_an_object_may_have(store: Store, name: str) -> None:
    """Letters, digits, '.', '_' and '-' in any depth are kept as they are."""
    store.put(name, [b"x"])
    assert store.stat(name).name == name
    assert content_of(store, name) == b"x"
    store.delete(name)
    assert store.list() == Listing((), ())


def test_listing_one_level(store: Store) -> None:
    """A listing holds what is directly below the prefix, sorted, under full names; a name's beginning is no prefix."""
    for name in ("b", "a/2", "a/10", "a/x/deep/deeper", "ab/1", "a-b/1", "a.b"):
        store.put(name, [b"x"])
    assert names(store.list()) == (["a.b", "b"], ["a", "a-b", "ab"])
    assert names(store.list("a")) == (["a/10", "a/2"], ["a/x"])
    assert names(store.list("a/x")) == ([], ["a/x/deep"])
    assert names(store.list("a/x/deep")) == (["a/x/deep/deeper"], [])
    for nothing in ("b", "c", "a/1", "a/x/dee", "a/x/deep/deeper", "c/d/e"):
        assert store.list(nothing) == Listing((), ())


def test_a_folder_is_there_as_long_as_something_is_below_it(store: Store) -> None:
    """With its last object a folder goes, and those above it that hold nothing else."""
    for name in ("a/b/c/1", "a/b/c/2", "a/3"):
        store.put(name, [b"x"])
    store.delete("a/b/c/1")
    assert names(store.list("a/b")) == ([], ["a/b/c"])
    store.delete("a/b/c/2")
    assert names(store.list("a")) == (["a/3"], [])
    store.delete("a/3")
    assert names(store.list()) == ([], [])
    store.put("a/b/c/1", [b"x"])
    assert names(store.list("a/b")) == ([], ["a/b/c"])


def test_folders_come_and_go_at_once(store: Store) -> None:
    """A put into a folder that another thread is emptying succeeds."""

    def work(number: int) -> None:
        for _ in range(30):
            store.put(f"a/b/{number}", [b"x"])
            assert content_of(store, f"a/b/{number}") == b"x"
            store.delete(f"a/b/{number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert store.list() == Listing((), ())


def test_a_store_says_where_it_is(store: Store) -> None:
    """Its URL is in its errors."""
    assert "://" in store.url
    with pytest.raises(OpskitError, match=store.url):
        store.stat("nothing")
