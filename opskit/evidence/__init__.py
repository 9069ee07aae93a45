"""What shows later that a report is as it was filed, and that none was put in or taken away.

The nouns: a *record* is the file ``<stem>.json`` beside a report: an in-toto Statement that names the SHA-256 of what
it vouches for, bare or in a signed envelope. The *audit log* is a chain of *entries* in the catalog, each with the
digest of the one before; its *head* is the number and digest of the last one. To *verify* is to look for what was
changed.
"""

from opskit.evidence._record import Record, make_statement, read_record

__all__ = ["Record", "make_statement", "read_record"]
