"""Everything that is said to a PostgreSQL server, and every PostgreSQL program that is run.

A *replication connection* speaks the protocol that ``pg_basebackup`` speaks; *facts* are what SQL tells about a
cluster; *programs* are one installation's binaries; a *local server* is one that opskit itself starts.
"""
