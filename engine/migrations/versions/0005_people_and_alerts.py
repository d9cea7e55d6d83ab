"""People, alerts and the routes of emergency calls.

Columns are additive with defaults: a process of before goes on writing while this one starts.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _audit_views_and_anomalies()
    _emergency_routing()


def _emergency_routing() -> None:
    """Groups of trunks, which of them calls of an account or location take, and what their mails say besides."""
    op.create_table(
        "trunk_group",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("account_id", sa.String(length=48), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("trunk_ids", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_trunk_group_account_id_account"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trunk_group")),
    )
    op.create_index("ix_trunk_group_account_id", "trunk_group", ["account_id"], unique=False)
    for table in ("account", "location"):
        op.add_column(table, sa.Column("trunk_group_id", sa.String(length=48), nullable=True))
        op.add_column(table, sa.Column("notification_prefix", sa.String(length=40), nullable=False, server_default=""))
        op.add_column(table, sa.Column("notification_text", sa.String(length=300), nullable=False, server_default=""))


def _audit_views_and_anomalies() -> None:
    """Kept filters of the audit log, what in the logs is unlike an account, and how far they were looked through."""
    stamps = (("version", sa.Integer()), ("created_at", sa.DateTime()), ("updated_at", sa.DateTime()))
    op.create_table(
        "audit_view",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("account_id", sa.String(length=48), nullable=False),
        sa.Column("owner_id", sa.String(length=48), nullable=False),
        sa.Column("owner_name", sa.String(length=320), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("is_shared", sa.Boolean(), nullable=False),
        *(sa.Column(name, kind, nullable=False) for name, kind in stamps),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_audit_view_account_id_account"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_view")),
        sa.UniqueConstraint("account_id", "owner_id", "name", name=op.f("uq_audit_view_account_id_owner_id_name")),
    )
    op.create_index("ix_audit_view_account_id", "audit_view", ["account_id"], unique=False)
    op.create_table(
        "anomaly",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("account_id", sa.String(length=48), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("actor_id", sa.String(length=80), nullable=False),
        sa.Column("actor_name", sa.String(length=320), nullable=False),
        sa.Column("ip", sa.String(length=45), nullable=False),
        sa.Column("headline", sa.Text(), nullable=False),
        sa.Column("evidence", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("dismissed_at", sa.DateTime(), nullable=True),
        sa.Column("dismissed_by", sa.String(length=320), nullable=False),
        sa.Column("mail_to", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("mail_tries", sa.Integer(), nullable=False),
        sa.Column("mail_next_at", sa.DateTime(), nullable=True),
        sa.Column("mail_claimed_until", sa.DateTime(), nullable=True),
        sa.Column("mail_error", sa.Text(), nullable=False),
        sa.Column("mailed_at", sa.DateTime(), nullable=True),
        *(sa.Column(name, kind, nullable=False) for name, kind in stamps),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_anomaly_account_id_account"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_anomaly")),
        sa.UniqueConstraint("account_id", "key", name=op.f("uq_anomaly_account_id_key")),
    )
    op.create_index("ix_anomaly_account_id", "anomaly", ["account_id", "id"], unique=False)
    op.create_index("ix_anomaly_mail_next_at", "anomaly", ["mail_next_at"], unique=False)
    op.create_table(
        "anomaly_position",
        sa.Column("account_id", sa.String(length=48), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_anomaly_position_account_id_account"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_anomaly_position")),
    )
