"""The audit log, and what the rows of operations need for it.

Operations that ended before are not entered: nobody could say any more whether their rows are as they were written.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_REFUSAL = "entries of the audit log are neither changed nor removed"


def upgrade() -> None:
    """Create the table of entries, which refuses changes, and extend that of operations."""
    op.create_table(
        "opskit_audit",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("entry", sa.Text, nullable=False),
    )
    op.add_column("opskit_operations", sa.Column("jupyter_user", sa.Text))
    op.add_column(
        "opskit_operations",
        sa.Column("is_entered", sa.Boolean, nullable=False, server_default=sa.true()),
    )
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER opskit_audit_no_{verb.lower()} BEFORE {verb} ON opskit_audit"
                f" BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
            )
    else:
        op.execute(
            "CREATE FUNCTION opskit_audit_refuse() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$"
        )
        op.execute(
            "CREATE TRIGGER opskit_audit_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON opskit_audit"
            " FOR EACH STATEMENT EXECUTE FUNCTION opskit_audit_refuse()"
        )


def downgrade() -> None:
    """Drop what `upgrade` made."""
    op.drop_table("opskit_audit")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION opskit_audit_refuse()")
    op.drop_column("opskit_operations", "is_entered")
    op.drop_column("opskit_operations", "jupyter_user")
