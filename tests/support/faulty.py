"""A store that fails where it is told to."""

import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import BinaryIO

from opskit.errors import ErrorKind, OpskitError, StoreError
from opskit.store import Listing, ObjectStat, Store

VERBS = ("put", "get", "stat", "list", "delete")


class Moment(StrEnum):
    """When in a call the fault strikes.

    In the middle of a put half a chunk has been taken, in the middle of a get half a piece has been given. A fault
    after the call is the storage that did what it was told, and whose answer was lost.
    """

    BEFORE = "before"
    MIDDLE = "middle"
    AFTER = "after"


class FaultyStore:
    """A store that raises `StoreError` in one call, counted from 1, and does everything else as the one under it.

    Parameters
    ----------
    at
        Which call; `None` for none, so that `calls` tells how many there are.
    moment
        When in the call.
    verbs
        Which verbs count.
    lasting
        Whether every later call fails in the same way.
    """

    def __init__(
        self,
        store: Store,
        *,
        at: int | None = None,
        moment: Moment = Moment.BEFORE,
        verbs: Collection[str] = VERBS,
        lasting: bool = False,
    ) -> None:
        self.calls: list[str] = []
        self.struck = 0
        self._store, self._at, self._moment = store, at, moment
        self._verbs, self._lasting = frozenset(verbs), lasting
        self._counting = threading.Lock()

    @property
    def url(self) -> str:
        """See `Store.url`."""
        return self._store.url

    def put(self, name: str, chunks: Iterable[bytes | memoryview], *, replace: bool = False) -> int:
        """See `Store.put`."""
        moment = self._called("put", name)
        if moment is Moment.MIDDLE:
            chunks = self._broken(chunks, name)
        with self._striking(moment, name):
            return self._store.put(name, chunks, replace=replace)

    def get(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[memoryview]:
        """See `Store.get`."""
        moment = self._called("get", name)
        with self._striking(moment, name):
            for piece in self._store.get(name, start, stop):
                if moment is Moment.MIDDLE:
                    yield piece[: len(piece) // 2]
                    return
                yield piece

    def file(self, name: str) -> BinaryIO | None:
        """See `Store.file`; it counts as a get."""
        with self._striking(self._called("get", name), name):
            return self._store.file(name)

    def stat(self, name: str) -> ObjectStat:
        """See `Store.stat`."""
        with self._striking(self._called("stat", name), name):
            return self._store.stat(name)

    def list(self, prefix: str = "") -> Listing:
        """See `Store.list`."""
        with self._striking(self._called("list", prefix), prefix):
            return self._store.list(prefix)

    def delete(self, name: str) -> None:
        """See `Store.delete`."""
        with self._striking(self._called("delete", name), name):
            self._store.delete(name)

    @contextmanager
    def _striking(self, moment: Moment | None, name: str) -> Iterator[None]:
        """Whatever the block's answer was, be it an error: it is lost."""
        try:
            yield
        except OpskitError:
            if moment is None:
                raise
        if moment is not None:
            raise self._fault(name)

    def _called(self, verb: str, name: str) -> Moment | None:
        """Count the call; when in it the fault is still to come, `None` for never."""
        with self._counting:
            if verb not in self._verbs:
                return None
            self.calls.append(f"{verb} {name}")
            number = len(self.calls)
            if self._at is None or number < self._at or (number > self._at and not self._lasting):
                return None
            self.struck += 1
        if self._moment is Moment.BEFORE:
            raise self._fault(name)
        return self._moment

    def _fault(self, name: str) -> StoreError:
        return StoreError(f"injected at {name!r}", ErrorKind.STORE_FAILED, "This is a test.")

    def _broken(
        self, chunks: Iterable[bytes | memoryview], name: str
    ) -> Iterator[bytes | memoryview]:
        for number, chunk in enumerate(chunks):
            if number:
                break
            yield memoryview(chunk)[: len(chunk) // 2]
        raise self._fault(name)
