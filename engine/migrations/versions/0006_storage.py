"""How long records are kept, and where an audit chain begins when its oldest entries were removed.

Entries are never changed by a migration: what is added here is beside them.
"""

import re

import sqlalchemy as sa
from alembic import op

from engine.models import (
    AUDIT_BEGINNING_POSTGRESQL,
    AUDIT_BEGINNING_SQLITE,
    AUDIT_FOLLOWS_TRIGGER_SQLITE,
    AUDIT_HASHES_POSTGRESQL,
    AUDIT_PENDING_POSTGRESQL,
    AUDIT_SEARCH_LATER_SQLITE,
    AUDIT_SEQUENCE_POSTGRESQL,
)
from engine.models.base import only_where
from engine.models.provisioning import REFUSED

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _each_entry_follows_the_one_before()  # first: nothing else names the entries' table yet
    _storage_settings()
    _move_fetch_log_days()
    _audit_beginning()
    _index_later()
    _removal_note()
    _what_tests_rest_on()
    _alarm_dismissal()
    _owed_marks()
    _chat_recipients()
    _escalation()
    op.add_column("phone", sa.Column("stale_revision", sa.Integer(), nullable=True))
    for table in ("phone", "line"):
        op.add_column(table, sa.Column("placement", sa.String(length=20), nullable=True))
    op.add_column("fetched_file", sa.Column("proof", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("location_test", sa.Column("passed_before_at", sa.DateTime(), nullable=True))
    outdated = sa.Column("outdated_carrier_ids", sa.JSON(none_as_null=True), nullable=False, server_default="{}")
    op.add_column("location", outdated)
    op.add_column("trunk", sa.Column("pings", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.add_column("emergency_call", sa.Column("writer", sa.String(length=16), nullable=True))
    op.create_index("ix_emergency_call_writer", "emergency_call", ["writer"])
    _who_carries_calls()
    op.create_index("ix_provisioning_event_refused", "provisioning_event", ["account_id", "id"], **only_where(REFUSED))
    _one_rollout_of_a_target()


def _one_rollout_of_a_target() -> None:
    """Of one target one roll-out may be under way; of several that two nodes began at once the eldest stays."""
    op.execute("""
        UPDATE rollout SET state = 'cancelled', ended_at = started_at, reason = 'Another of the same target stands.'
        WHERE state = 'canary' AND id > (SELECT MIN(o.id) FROM rollout o WHERE o.state = 'canary'
          AND o.account_id = rollout.account_id AND o.kind = rollout.kind AND o.target = rollout.target)""")
    columns = ["account_id", "kind", "target"]
    op.create_index("ix_rollout_running", "rollout", columns, unique=True, **only_where("state = 'canary'"))


def _each_entry_follows_the_one_before() -> None:
    """A trigger in place of the unique index over `prev_hash`, which took most of the time that an entry costs."""
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        _entries_without_the_index(connection)
        connection.exec_driver_sql(AUDIT_FOLLOWS_TRIGGER_SQLITE)
        return
    op.drop_constraint("uq_audit_entry_chain_prev_hash", "audit_entry", type_="unique")
    for statement in AUDIT_SEQUENCE_POSTGRESQL:
        connection.exec_driver_sql(statement)


def _entries_without_the_index(connection: sa.Connection) -> None:
    """SQLite lets no constraint go but with its table: the rows are copied as they are, byte for byte."""
    of_entries = "FROM sqlite_master WHERE tbl_name = 'audit_entry' AND sql <> ''"
    (made,) = connection.exec_driver_sql(f"SELECT sql {of_entries} AND type = 'table'").scalars()
    beside = connection.exec_driver_sql(f"SELECT sql {of_entries} AND type <> 'table'").scalars().all()
    fresh, count = re.subn(r",\s*CONSTRAINT uq_audit_entry_chain_prev_hash UNIQUE \(chain, prev_hash\)", "", made)
    assert count == 1, made
    connection.exec_driver_sql(fresh.replace("CREATE TABLE audit_entry", "CREATE TABLE audit_entry_copied", 1))
    connection.exec_driver_sql("INSERT INTO audit_entry_copied SELECT * FROM audit_entry ORDER BY rowid")
    connection.exec_driver_sql("DROP TABLE audit_entry")
    connection.exec_driver_sql("ALTER TABLE audit_entry_copied RENAME TO audit_entry")
    for statement in beside:  # but for two that nothing is asked of here: each was a page more of every commit
        if not re.search("INDEX ix_audit_entry_chain_(category|outcome) ", statement):
            connection.exec_driver_sql(statement)


def _storage_settings() -> None:
    op.create_table(
        "storage_settings",
        sa.Column("account_id", sa.String(length=48), nullable=False),
        sa.Column("audit_days", sa.Integer(), nullable=False),
        sa.Column("call_days", sa.Integer(), nullable=False),
        sa.Column("session_days", sa.Integer(), nullable=False),
        sa.Column("fetch_log_days", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_storage_settings_account_id_account"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_storage_settings")),
        *(
            sa.CheckConstraint(f"{name} = 0 OR {name} >= 365", name=op.f(f"ck_storage_settings_{name}"))
            for name in ("audit_days", "call_days", "session_days")
        ),
        sa.CheckConstraint("fetch_log_days >= 1", name=op.f("ck_storage_settings_fetch_log_days")),
    )


def _move_fetch_log_days() -> None:
    """How long fetches are kept stood in the provisioning policy; it stands with the other times now.

    A node of the version before that still runs beside this one knows 90 days only: docs/storage.md says so.
    """
    connection = op.get_bind()
    account = sa.table(
        "account", sa.column("id"), sa.column("provisioning_policy", sa.JSON()), sa.column("updated_at", sa.DateTime())
    )
    settings = sa.table(
        "storage_settings", *(sa.column(name) for name in ("account_id", "audit_days", "call_days", "session_days")),
        sa.column("fetch_log_days"), sa.column("version"), sa.column("created_at", sa.DateTime()),
        sa.column("updated_at", sa.DateTime()),
    )  # fmt: skip
    for row in connection.execute(sa.select(account)).all():
        policy = row.provisioning_policy if isinstance(row.provisioning_policy, dict) else {}
        if "fetch_log_days" not in policy:
            continue
        stored = policy["fetch_log_days"]
        days = stored if isinstance(stored, int) and stored >= 1 else 90
        connection.execute(
            settings.insert().values(
                account_id=row.id, audit_days=0, call_days=0, session_days=0, fetch_log_days=days,
                version=1, created_at=row.updated_at, updated_at=row.updated_at,
            )
        )  # fmt: skip
        kept = {name: value for name, value in policy.items() if name != "fetch_log_days"}
        connection.execute(account.update().where(account.c.id == row.id).values(provisioning_policy=kept))


def _audit_beginning() -> None:
    op.create_table(
        "audit_beginning",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("chain", sa.String(length=48), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("until", sa.DateTime(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("public_key", sa.String(length=64), nullable=False),
        sa.Column("signature", sa.String(length=128), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_beginning")),
        sa.UniqueConstraint("chain", "seq", name=op.f("uq_audit_beginning_chain_seq")),
    )
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in AUDIT_BEGINNING_SQLITE if is_sqlite else AUDIT_BEGINNING_POSTGRESQL:
        op.get_bind().exec_driver_sql(statement)


def _index_later() -> None:
    """What finds an entry gets it behind its commit, which is a third shorter so (decision 0031)."""
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    on_server = AUDIT_HASHES_POSTGRESQL + AUDIT_PENDING_POSTGRESQL
    for statement in AUDIT_SEARCH_LATER_SQLITE if is_sqlite else on_server:
        op.get_bind().exec_driver_sql(statement)


def _removal_note() -> None:
    op.create_table(
        "removal_note",
        sa.Column("name", sa.String(length=48), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=True),
        sa.Column("words", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_removal_note")),
    )


def _what_tests_rest_on() -> None:
    """Whether a location rests on a call is asked of every old call that may go."""
    for column in ("passed_call_id", "tried_call_id"):
        op.create_index(op.f(f"ix_location_test_{column}"), "location_test", [column])


def _alarm_dismissal() -> None:
    op.create_table(
        "alarm_dismissal",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("account_id", sa.String(length=48), nullable=False),
        sa.Column("kind", sa.String(length=30), nullable=False),
        sa.Column("until", sa.DateTime(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("by", sa.String(length=320), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_alarm_dismissal_account_id_account"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarm_dismissal")),
        sa.UniqueConstraint("account_id", "kind", name=op.f("uq_alarm_dismissal_account_id_kind")),
    )


def _owed_marks() -> None:
    """Of a change that concerns very many phones: which of them do not say yet that they are out of date."""
    op.create_table(
        "phone_owed_mark",
        sa.Column("phone_id", sa.String(length=48), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("phone_id", name=op.f("pk_phone_owed_mark")),
    )


def _who_carries_calls() -> None:
    """Nodes' signs of life, and the open calls, found without reading the others."""
    op.create_table(
        "call_writer",
        sa.Column("name", sa.String(length=16), nullable=False),
        sa.Column("signed_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_call_writer")),
    )
    still_open = sa.text("ended_at IS NULL")
    op.create_index(
        "ix_emergency_call_open", "emergency_call", ["outcome"], postgresql_where=still_open, sqlite_where=still_open
    )


def _chat_recipients() -> None:
    op.create_table(
        "chat_recipient",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("account_id", sa.String(length=48), nullable=False),
        sa.Column("location_id", sa.String(length=48), nullable=True),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("url", sa.LargeBinary(), nullable=False),
        sa.Column("service", sa.String(length=80), nullable=False),
        sa.Column("shown", sa.String(length=80), nullable=False),
        sa.Column("kinds", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("tried_at", sa.DateTime(), nullable=True),
        sa.Column("tried_ok", sa.Boolean(), nullable=True),
        sa.Column("tried_words", sa.String(length=300), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        *(
            sa.ForeignKeyConstraint(
                [f"{name}_id"], [f"{name}.id"], name=op.f(f"fk_chat_recipient_{name}_id_{name}"), ondelete="CASCADE"
            )
            for name in ("account", "location")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chat_recipient")),
    )
    for name in ("account", "location"):
        op.create_index(op.f(f"ix_chat_recipient_{name}_id"), "chat_recipient", [f"{name}_id"])


def _escalation() -> None:
    op.create_table(
        "escalation_plan",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("account_id", sa.String(length=48), nullable=False),
        sa.Column("steps", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_escalation_plan_account_id_account"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_escalation_plan")),
        sa.UniqueConstraint("account_id", name=op.f("uq_escalation_plan_account_id")),
    )
    op.add_column("emergency_call", sa.Column("escalation_due_at", sa.DateTime(), nullable=True))
    steps = sa.Column("escalations", sa.JSON(none_as_null=True), nullable=False, server_default="[]")
    op.add_column("emergency_call", steps)
    op.create_index(
        "ix_emergency_call_escalation", "emergency_call", ["escalation_due_at"],
        **only_where("escalation_due_at IS NOT NULL"),
    )  # fmt: skip


def downgrade() -> None:
    raise NotImplementedError("Beginnings are proofs: restore a backup instead.")
