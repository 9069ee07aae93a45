"""A store in this process's memory: for tests and for trying things out."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, BinaryIO

import obstore
from obstore import store as obstore_stores

from opskit.store._objects import ObstoreReader, check_name, translated

if TYPE_CHECKING:
    from obstore.store import ObjectStore


class MemoryStore(ObstoreReader):
    """Objects that live as long as this value."""

    def __init__(self) -> None:
        self._kept = obstore_stores.MemoryStore()
        super().__init__("memory:///")

    def _objects(self) -> "ObjectStore":
        return self._kept

    def file(self, name: str) -> BinaryIO | None:
        """See `Store.file`."""
        self.stat(name)
        return None

    def put(self, name: str, chunks: Iterable[bytes | memoryview], *, replace: bool = False) -> int:
        """See `Store.put`."""
        check_name(name)
        content = bytearray()
        for chunk in chunks:
            content += chunk
        with translated(name, self.url):
            obstore.put(
                self._kept,
                name,
                bytes(content),
                mode="overwrite" if replace else "create",
                use_multipart=False,
            )
        return len(content)
