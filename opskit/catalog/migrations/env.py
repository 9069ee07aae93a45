"""How Alembic runs the catalog's migrations: on the connection, and in the transaction, that the catalog hands in."""

from alembic import context

from opskit.catalog._tables import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
context.run_migrations()
