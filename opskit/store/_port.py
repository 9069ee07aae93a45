"""The port that every store serves, and the values that it speaks in."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """An object's name, its size, and when it was put (aware, UTC)."""

    name: str
    object_bytes: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Listing:
    """One level below a prefix: the objects there, and the names of the folders, both sorted, both full names."""

    objects: tuple[ObjectStat, ...]
    folders: tuple[str, ...]


class Store(Protocol):
    """Named bytes. Safe to use from several threads at once.

    Names are relative paths of ``[A-Za-z0-9._-]`` joined by ``/``. Every verb raises `StoreError` when the storage
    fails; `InputError` when a name is malformed.
    """

    @property
    def url(self) -> str:
        """Where the store is, for people; without secrets."""

    def put(self, name: str, chunks: Iterable[bytes | memoryview], *, replace: bool = False) -> int:
        """Keep the concatenation of `chunks` as `name`, durably and all or nothing; the number of bytes kept.

        A chunk may be reused by the caller as soon as the next one is taken. An exception out of `chunks` leaves
        nothing behind and passes through.

        Raises
        ------
        ConflictError
            An object of that name exists and `replace` is false.
        """

    def get(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[memoryview]:
        """The bytes of an object from `start` up to but not including `stop`.

        They come in pieces of up to 4 MiB, each a buffer of its own.

        Raises
        ------
        NotFoundError
            There is no object of that name.
        IntegrityError
            The object ends before `stop`.
        """

    def file(self, name: str) -> BinaryIO | None:
        """The object as a file that the kernel can send by itself; `None` where objects are no files.

        Raises
        ------
        NotFoundError
            There is no object of that name.
        """

    def stat(self, name: str) -> ObjectStat:
        """Size and time of an object.

        Raises
        ------
        NotFoundError
            There is no object of that name.
        """

    def list(self, prefix: str = "") -> Listing:
        """The objects and folders one level below `prefix`, a folder's name without a slash at its end.

        A prefix that nothing is below gives an empty listing.
        """

    def delete(self, name: str) -> None:
        """Remove an object; no error when it is not there, so that an interrupted removal can be repeated."""
