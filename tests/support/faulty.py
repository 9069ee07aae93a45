"""A store that fails where it is told to."""

import threading
from collections.abc import Collection, Iterable, Iterator
from enum import StrEnum

from opskit.errors import ErrorKind, StoreError
from opskit.store import Listing, ObjectStat, Store

VERBS = ("put", "get", "stat", "list", "delete")


class Moment(StrEnum):
    """When in a call the fault strikes.

    In the middle of a put some of its chunks have been taken, in the middle of a get a piece has been given. A fault
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
        written = self._store.put(name, chunks, replace=replace)
        if moment is Moment.AFTER:
            raise self._fault(name)
        return written

    def get(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[memoryview]:
        """See `Store.get`."""
        moment = self._called("get", name)
        for piece in self._store.get(name, start, stop):
            yield piece
            if moment is Moment.MIDDLE:
                raise self._fault(name)
        if moment is not None:
            raise self._fault(name)

    def stat(self, name: str) -> ObjectStat:
        """See `Store.stat`."""
        moment = self._called("stat", name)
        stat = self._store.stat(name)
        if moment is not None:
            raise self._fault(name)
        return stat

    def list(self, prefix: str = "") -> Listing:
        """See `Store.list`."""
        moment = self._called("list", prefix)
        listing = self._store.list(prefix)
        if moment is not None:
            raise self._fault(prefix)
        return listing

    def delete(self, name: str) -> None:
        """See `Store.delete`."""
        moment = self._called("delete", name)
        self._store.delete(name)
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
