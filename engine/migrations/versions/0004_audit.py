"""The audit log's signed checkpoints, and what finds entries fast among ten million of one account.

Entries are never touched by a migration: what is added here is beside them. And from where a phone may be moved to
another URL.
"""

import sqlalchemy as sa
from alembic import op

from engine.models import AUDIT_SEARCH_FILL_SQLITE, AUDIT_SEARCH_SQLITE, CHECKPOINT_IMMUTABLE_SQLITE

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_checkpoint",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("chain", sa.String(length=48), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("public_key", sa.String(length=64), nullable=False),
        sa.Column("signature", sa.String(length=128), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_checkpoint")),
    )
    op.create_index("ix_audit_checkpoint_chain", "audit_checkpoint", ["chain", "seq"], unique=False)
    op.add_column("phone", sa.Column("home_ip", sa.String(length=45), nullable=True))
    op.add_column("phone", sa.Column("elsewhere_at", sa.DateTime(), nullable=True))
    _refuse_changes()
    op.create_index("ix_audit_entry_chain_actor_name", "audit_entry", ["chain", "actor_name", "seq"], unique=False)
    op.create_index("ix_audit_entry_chain_category", "audit_entry", ["chain", "category", "seq"], unique=False)
    if op.get_bind().dialect.name == "sqlite":
        for statement in (*AUDIT_SEARCH_SQLITE, *AUDIT_SEARCH_FILL_SQLITE):
            op.get_bind().exec_driver_sql(statement)


def _refuse_changes() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for statement in CHECKPOINT_IMMUTABLE_SQLITE:
            op.execute(statement)
        return
    op.execute(
        "CREATE TRIGGER audit_checkpoint_no_change BEFORE UPDATE OR DELETE ON audit_checkpoint "
        "FOR EACH ROW EXECUTE FUNCTION audit_entry_is_immutable()"
    )


def downgrade() -> None:
    raise NotImplementedError("Checkpoints are proofs: restore a backup instead.")
