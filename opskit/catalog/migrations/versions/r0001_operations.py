"""The table of operations.

A migration never changes after its release, so it spells the table out and does not use `opskit.catalog._tables`.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of operations."""
    time = sa.DateTime(timezone=True)
    op.create_table(
        "opskit_operations",
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            sa.Identity(always=True),
            primary_key=True,
        ),
        sa.Column("id", sa.String(32), nullable=False, unique=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("cluster", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.BigInteger, nullable=False),
        sa.Column("process", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("parameters", sa.JSON, nullable=False),
        sa.Column("backup", sa.Text),
        sa.Column("started_at", time, nullable=False),
        sa.Column("heartbeat_at", time, nullable=False),
        sa.Column("ended_at", time),
        sa.Column("phase", sa.Text, nullable=False),
        sa.Column("bytes_done", sa.BigInteger, nullable=False),
        sa.Column("bytes_expected", sa.BigInteger),
        sa.Column("cancel_requested_at", time),
        sa.Column("result", sa.JSON),
        sa.Column("error", sa.JSON),
    )
    op.create_index("opskit_operations_by_cluster", "opskit_operations", ["cluster", "number"])


def downgrade() -> None:
    """Drop the table of operations."""
    op.drop_table("opskit_operations")
