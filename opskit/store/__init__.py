"""Named bytes, kept: the ports and adapters under a repository.

A *store* keeps *objects* under *names* (``main/backups/20261122T140305Z/backup.json``): five verbs, `put`, `get`,
`stat`, `list` and `delete`, and no synonyms. What `put` returned from is durable and whole; what it did not return from
is not there. A store knows nothing of backups.
"""

from opskit.store._port import Listing, ObjectStat, Store
from opskit.store.local import LocalStore
from opskit.store.memory import MemoryStore
from opskit.store.open import open_store

__all__ = ["Listing", "LocalStore", "MemoryStore", "ObjectStat", "Store", "open_store"]
