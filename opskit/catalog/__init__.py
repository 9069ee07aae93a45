"""What was done: the SQL database of operations, SQLite by default and PostgreSQL by URL.

An *operation* is a row that the process which does the work writes, and everybody else only reads. Its *heartbeat* is
the time of the last write; a running row whose heartbeat is old, or whose process is gone, reads as *died*. Of what has
ended an *entry* is appended to the *audit log*, which is never changed. The catalog is an index: no backup depends on
it.
"""

from opskit.catalog._audit import read_file as read_audit_file
from opskit.catalog._catalog import Catalog

__all__ = ["Catalog", "read_audit_file"]
