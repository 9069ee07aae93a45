"""What every store over obstore shares: names, reading, listing, and errors in opskit's words."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from typing import TYPE_CHECKING

import obstore
from obstore import exceptions

from opskit.errors import (
    ConflictError,
    ErrorKind,
    InputError,
    IntegrityError,
    NotFoundError,
    StoreError,
)
from opskit.store._port import Listing, ObjectStat

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_NAME = re.compile(r"(?!\.{1,2}(/|$))[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")


class ObstoreReader:
    """`get`, `stat`, `list` and `delete` on any store of obstore's.

    Reading goes by ranges of 4 MiB: obstore's stream of a local file is some thirty times slower than its ranges,
    and a range is what an object store retries cheaply. A store on a local disk takes smaller ones.
    """

    piece_bytes = 4 << 20

    def __init__(self, url: str) -> None:
        self.url = url

    def _objects(self) -> "ObjectStore":
        """Obstore's store; raises `FileNotFoundError` where nothing has been put yet."""
        raise NotImplementedError

    def get(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[memoryview]:
        """See `Store.get`."""
        end = reaching(name, self.stat(name).object_bytes, start, stop)
        for position in range(start, end, self.piece_bytes):
            upto = min(position + self.piece_bytes, end)
            with translated(name, self.url):
                piece = memoryview(
                    obstore.get_range(self._objects(), name, start=position, end=upto)
                )
            yield whole(name, piece, position, upto, end)

    def stat(self, name: str) -> ObjectStat:
        """See `Store.stat`."""
        with translated(check_name(name), self.url):
            meta = obstore.head(self._objects(), name)
        return ObjectStat(name, meta["size"], meta["last_modified"].astimezone(UTC))

    def list(self, prefix: str = "") -> Listing:
        """See `Store.list`."""
        if prefix:
            check_name(prefix)
        with translated(prefix, self.url):
            found = obstore.list_with_delimiter(self._objects(), prefix or None)
        return Listing(
            tuple(
                sorted(
                    (
                        ObjectStat(o["path"], o["size"], o["last_modified"].astimezone(UTC))
                        for o in found["objects"]
                        if _is_ours(o["path"])
                    ),
                    key=lambda stat: stat.name,
                )
            ),
            tuple(sorted(p.rstrip("/") for p in found["common_prefixes"] if _is_ours(p))),
        )

    def delete(self, name: str) -> None:
        """See `Store.delete`."""
        try:
            with translated(check_name(name), self.url):
                obstore.delete(self._objects(), name)
        except NotFoundError:
            return


def reaching(name: str, size: int, start: int, stop: int | None) -> int:
    """The end of a range that is asked for of an object of `size` bytes; errors as `Store.get`."""
    end = size if stop is None else stop
    if end > size or start > end:
        raise IntegrityError(
            f"{name!r} has {size} bytes, expected at least {max(start, end)}",
            ErrorKind.TRUNCATED,
            "The object is damaged; restore from another backup, and look at the storage.",
        )
    return end


def whole(name: str, piece: memoryview, position: int, upto: int, end: int) -> memoryview:
    """The piece, if it is what was asked for, from `position` to `upto` of a range to `end`; errors as `Store.get`."""
    if len(piece) != upto - position:
        raise IntegrityError(
            f"{name!r} ended at byte {position + len(piece)}, expected {end}",
            ErrorKind.TRUNCATED,
        )
    return piece


def check_name(name: str) -> str:
    """The name, if an object may have it.

    Raises
    ------
    InputError
        It is not a relative path of safe characters.
    """
    if _NAME.fullmatch(name) is None:
        raise InputError(
            f"object name {name!r} is not a relative path of letters, digits, '.', '_', '-'"
        )
    return name


def _is_ours(path: str) -> bool:
    return not path.rstrip("/").rpartition("/")[2].startswith(".")


@contextmanager
def translated(name: str, url: str) -> Iterator[None]:
    """Turn obstore's exceptions and the operating system's into opskit's."""
    try:
        yield
    except (exceptions.NotFoundError, FileNotFoundError):
        raise NotFoundError(f"{url} holds no object {name!r}", ErrorKind.OBJECT_NOT_FOUND) from None
    except (exceptions.AlreadyExistsError, FileExistsError):
        raise ConflictError(f"{url} already holds {name!r}", ErrorKind.OBJECT_EXISTS) from None
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, PermissionError):
        raise _denied(name, url) from None
    except exceptions.BaseError as error:
        if f"os error {errno.EACCES}" in str(error):  # of a local file, as object_store words it
            raise _denied(name, url) from None
        text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise StoreError(
            f"{url} failed at {name!r}: {text}", ErrorKind.STORE_FAILED, permanent=False
        ) from None


def _denied(name: str, url: str) -> StoreError:
    return StoreError(
        f"access to {name!r} in {url} is denied",
        ErrorKind.STORE_NOT_WRITABLE,
        "Give the account that runs opskit the right to read and write there.",
    )
