"""The values that opskit speaks of, and pure functions on them; standard library only.

The nouns: a *cluster* is one PostgreSQL data directory and its server, known by its system identifier. A *base backup*
is what the replication command ``BASE_BACKUP`` sends, kept as *volumes* (whole tar members in zstd frames). An
*operation* is a piece of work that takes long: a backup, a restore, a download.
"""
