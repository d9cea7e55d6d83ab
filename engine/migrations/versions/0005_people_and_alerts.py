"""People, alerts and the routes of emergency calls.

Columns are additive with defaults: a process of before goes on writing while this one starts.
"""

import datetime as dt

import sqlalchemy as sa
from alembic import op

from engine.models import AUDIT_OWED_SQLITE, AUDIT_TRIGRAMS_POSTGRESQL

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _alerts()
    _location_tests()
    _sweeps()
    _audit_views()
    _anomalies()
    _emergency_routing()
    _second_factors()
    _security_policies()
    _remembered_devices()
    _pending_sign_ins()
    _refused_keys()
    _searches_that_are_owed()
    _background_runs()
    _mail_settings()
    _webhooks()
    _validation_settings()
    _branding()
    _trigrams()


def _mail_settings() -> None:
    """The mail server set in the pages."""
    op.create_table(
        "mail_settings",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("host", sa.String(length=253), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("security", sa.String(length=10), nullable=False),
        sa.Column("username", sa.String(length=320), nullable=False),
        sa.Column("password", sa.LargeBinary(), nullable=True),
        sa.Column("sender", sa.String(length=320), nullable=False),
        *_stamps(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mail_settings")),
    )


def _webhooks() -> None:
    """Webhooks."""
    op.create_table(
        "webhook",
        sa.Column("id", sa.String(length=48), nullable=False),
        *_of("account", "webhook"),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("url", sa.LargeBinary(), nullable=False),
        sa.Column("host", sa.String(length=300), nullable=False),
        sa.Column("kinds", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("previous_secret", sa.LargeBinary(), nullable=True),
        sa.Column("previous_until", sa.DateTime(), nullable=True),
        *_tried(),
        *_stamps(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook")),
    )
    op.create_index("ix_webhook_account_id", "webhook", ["account_id"], unique=False)
    op.create_index(
        "ix_notification_recipient", "notification", ["account_id", "recipient", "created_at"], unique=False
    )


def _validation_settings() -> None:
    """The validator of addresses set in the pages."""
    op.create_table(
        "validation_settings",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("provider", sa.String(length=20), nullable=False),
        sa.Column("url", sa.String(length=1000), nullable=False),
        sa.Column("auth", sa.String(length=10), nullable=False),
        sa.Column("username", sa.String(length=320), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=True),
        *_tried(),
        *_stamps(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_validation_settings")),
    )


def _branding() -> None:
    """An account's colour, logo and host name."""
    op.add_column("account", sa.Column("accent", sa.String(length=7), nullable=False, server_default=""))
    op.add_column("account", sa.Column("logo", sa.String(length=60), nullable=False, server_default=""))
    op.add_column("account", sa.Column("hostname", sa.String(length=253), nullable=True))
    op.create_index("ix_account_hostname", "account", ["hostname"], unique=True)
    op.create_table(
        "account_logo",
        *_of("account", "account_logo"),
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("media_type", sa.String(length=20), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_account_logo")),
    )
    op.create_index("ix_account_logo_name", "account_logo", ["name"], unique=False)


def _trigrams() -> None:
    """On PostgreSQL, what finds a rare word in the audit log; a server that has no `pg_trgm` goes on without."""
    if op.get_bind().dialect.name == "postgresql":
        for statement in AUDIT_TRIGRAMS_POSTGRESQL:
            op.get_bind().exec_driver_sql(statement)


def _background_runs() -> None:
    """How far dry runs and resyncs are, for every node; when the phones that a roll-out's end concerns were asked."""
    op.add_column("rollout", sa.Column("asked_at", sa.DateTime(), nullable=True))
    op.create_table(
        "background_run",
        sa.Column("id", sa.String(length=48), nullable=False),
        *_of("account", "background_run"),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("node", sa.String(length=80), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("facts", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("wants_end", sa.Boolean(), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.Column("seen_at", sa.DateTime(), nullable=False),
        sa.Column("ended_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_background_run")),
    )
    op.create_index("ix_background_run_account_id", "background_run", ["account_id"], unique=False)


def _searches_that_are_owed() -> None:
    """Which audit entries are put into SQLite's full-text indexes later."""
    if op.get_bind().dialect.name == "sqlite":
        op.get_bind().exec_driver_sql(AUDIT_OWED_SQLITE)


def _second_factors() -> None:
    """What users prove themselves with besides a password, and whose data a platform operator looks at."""
    op.add_column("credential", sa.Column("seed", sa.LargeBinary(), nullable=True))
    op.add_column("credential", sa.Column("last_step", sa.Integer(), nullable=True))
    op.add_column("credential", sa.Column("previous", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("session", sa.Column("acting_account_id", sa.String(length=48), nullable=True))


def _security_policies() -> None:
    """How users sign in."""
    numbers = (
        "password_min_length", "password_min_score", "password_reuse", "password_max_age_days", "session_idle_minutes",
        "session_absolute_minutes", "failed_sign_ins", "pause_s", "inactive_days", "remember_days", "version",
    )  # fmt: skip
    op.create_table(
        "security_policy",
        *_of("account", "security_policy"),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in numbers),
        sa.Column("two_factor", sa.String(length=10), nullable=False),
        sa.Column("email_codes", sa.Boolean(), nullable=False),
        sa.Column("remember", sa.String(length=12), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_security_policy")),
    )


def _remembered_devices() -> None:
    """The browsers where the password is enough."""
    op.create_table(
        "remembered_device",
        sa.Column("id", sa.String(length=48), nullable=False),
        *_of("user", "remembered_device"),
        *_of("account", "remembered_device"),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("ip", sa.String(length=45), nullable=False),
        sa.Column("user_agent", sa.String(length=400), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("last_used_at", sa.DateTime(), nullable=True),
        sa.Column("ended_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_remembered_device")),
    )
    op.create_index("ix_remembered_device_user_id", "remembered_device", ["user_id"], unique=False)
    op.create_index("ix_remembered_device_account_id", "remembered_device", ["account_id"], unique=False)


def _pending_sign_ins() -> None:
    """What lies between a password and a second factor."""
    op.create_table(
        "pending_sign_in",
        sa.Column("id", sa.String(length=48), nullable=False),
        *_of("user", "pending_sign_in"),
        *_of("account", "pending_sign_in"),
        sa.Column("cookie_hash", sa.String(length=64), nullable=False),
        sa.Column("stage", sa.String(length=20), nullable=False),
        sa.Column("method", sa.String(length=30), nullable=False),
        sa.Column("seed", sa.LargeBinary(), nullable=True),
        sa.Column("code_hash", sa.String(length=64), nullable=True),
        sa.Column("code_at", sa.DateTime(), nullable=True),
        sa.Column("codes_sent", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pending_sign_in")),
        sa.UniqueConstraint("cookie_hash", name=op.f("uq_pending_sign_in_cookie_hash")),
    )
    op.create_index("ix_pending_sign_in_user_id", "pending_sign_in", ["user_id"], unique=False)
    op.create_index("ix_pending_sign_in_expires_at", "pending_sign_in", ["expires_at"], unique=False)


def _refused_keys() -> None:
    """Requests with API keys that are none, counted."""
    op.create_table(
        "refused_key",
        sa.Column("id", sa.String(length=48), nullable=False),
        *_of("account", "refused_key", nullable=True),
        sa.Column("api_key_id", sa.String(length=48), nullable=True),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("hint", sa.String(length=12), nullable=False),
        sa.Column("ip", sa.String(length=45), nullable=False),
        sa.Column("user_agent", sa.String(length=400), nullable=False),
        sa.Column("reason", sa.String(length=30), nullable=False),
        sa.Column("minute", sa.DateTime(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refused_key")),
        sa.UniqueConstraint("minute", "hint", "ip", name=op.f("uq_refused_key_minute_hint_ip")),
    )
    op.create_index("ix_refused_key_account_id", "refused_key", ["account_id"], unique=False)


def _emergency_routing() -> None:
    """Groups of trunks, which of them calls of an account or location take, and what their mails say besides."""
    op.create_table(
        "trunk_group",
        sa.Column("id", sa.String(length=48), nullable=False),
        *_of("account", "trunk_group"),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("trunk_ids", sa.JSON(none_as_null=True), nullable=False),
        *_stamps(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trunk_group")),
    )
    op.create_index("ix_trunk_group_account_id", "trunk_group", ["account_id"], unique=False)
    for table in ("account", "location"):
        op.add_column(table, sa.Column("trunk_group_id", sa.String(length=48), nullable=True))
        op.add_column(table, sa.Column("notification_prefix", sa.String(length=40), nullable=False, server_default=""))
        op.add_column(table, sa.Column("notification_text", sa.String(length=300), nullable=False, server_default=""))


def _audit_views() -> None:
    """Kept filters of the audit log."""
    op.create_table(
        "audit_view",
        sa.Column("id", sa.String(length=48), nullable=False),
        *_of("account", "audit_view"),
        sa.Column("owner_id", sa.String(length=48), nullable=False),
        sa.Column("owner_name", sa.String(length=320), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("is_shared", sa.Boolean(), nullable=False),
        *_stamps(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_view")),
        sa.UniqueConstraint("account_id", "owner_id", "name", name=op.f("uq_audit_view_account_id_owner_id_name")),
    )
    op.create_index("ix_audit_view_account_id", "audit_view", ["account_id"], unique=False)


def _anomalies() -> None:
    """What in the logs is unlike an account, and how far they were looked through."""
    op.create_table(
        "anomaly",
        sa.Column("id", sa.String(length=48), nullable=False),
        *_of("account", "anomaly"),
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
        *_stamps(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_anomaly")),
        sa.UniqueConstraint("account_id", "key", name=op.f("uq_anomaly_account_id_key")),
    )
    op.create_index("ix_anomaly_account_id", "anomaly", ["account_id", "id"], unique=False)
    op.create_index("ix_anomaly_mail_next_at", "anomaly", ["mail_next_at"], unique=False)
    op.create_table(
        "anomaly_position",
        *_of("account", "anomaly_position"),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_anomaly_position")),
    )


def _alerts() -> None:
    """Who acknowledged a call, what is new to whoever watches, and what each further trunk was sent."""
    op.add_column("emergency_call", sa.Column("changed_at", sa.DateTime(), nullable=True))
    op.add_column("emergency_call", sa.Column("acknowledged_at", sa.DateTime(), nullable=True))
    op.add_column("emergency_call", sa.Column("acknowledged_by", sa.String(length=320), nullable=True))
    op.add_column("emergency_call", sa.Column("acknowledged_by_id", sa.String(length=80), nullable=True))
    op.add_column("emergency_call", sa.Column("acknowledgement_note", sa.String(length=1000), nullable=True))
    op.create_index("ix_emergency_call_changed_at", "emergency_call", ["changed_at"], unique=False)
    op.create_index(
        "ix_emergency_call_account_kind_sent", "emergency_call", ["account_id", "kind", "sent_at"], unique=False
    )
    op.add_column("call_attempt", sa.Column("invite", sa.LargeBinary(), nullable=True))


def _location_tests() -> None:
    """What tests of the locations with 933 last showed."""
    op.create_table(
        "location_test",
        *_of("location", "location_test"),
        *_of("account", "location_test"),
        sa.Column("passed_at", sa.DateTime(), nullable=True),
        sa.Column("passed_call_id", sa.String(length=48), nullable=True),
        sa.Column("tried_at", sa.DateTime(), nullable=False),
        sa.Column("tried_call_id", sa.String(length=48), nullable=True),
        sa.Column("outcome", sa.String(length=20), nullable=False),
        sa.Column("detail", sa.String(length=400), nullable=False),
        sa.Column("sweep_id", sa.String(length=48), nullable=True),
        sa.PrimaryKeyConstraint("location_id", name=op.f("pk_location_test")),
    )
    op.create_index("ix_location_test_account_id", "location_test", ["account_id"], unique=False)
    op.create_index("ix_location_test_sweep_id", "location_test", ["sweep_id"], unique=False)


def _sweeps() -> None:
    """When the locations are due to be tested, and how far a round is."""
    op.create_table(
        "sweep_plan",
        sa.Column("id", sa.String(length=48), nullable=False),
        *_of("account", "sweep_plan"),
        sa.Column("cadence", sa.String(length=10), nullable=False),
        sa.Column("weekday", sa.Integer(), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("tells", sa.Boolean(), nullable=False),
        sa.Column("next_at", sa.DateTime(), nullable=True),
        *_stamps(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sweep_plan")),
        sa.UniqueConstraint("account_id", name=op.f("uq_sweep_plan_account_id")),
    )
    op.create_index("ix_sweep_plan_next_at", "sweep_plan", ["next_at"], unique=False)
    op.create_table(
        "sweep",
        sa.Column("id", sa.String(length=48), nullable=False),
        *_of("account", "sweep"),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("started_by", sa.String(length=320), nullable=False),
        sa.Column("tells", sa.Boolean(), nullable=False),
        sa.Column("locations", sa.Integer(), nullable=False),
        sa.Column("passed", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("skipped", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.Column("ended_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sweep")),
    )
    op.create_index("ix_sweep_account_id", "sweep", ["account_id", "id"], unique=False)
    running = sa.text("state = 'running'")
    op.create_index(
        "ix_sweep_running", "sweep", ["state"], unique=False, sqlite_where=running, postgresql_where=running
    )


def _of(what: str, table: str, *, nullable: bool = False) -> tuple[sa.Column[str], sa.ForeignKeyConstraint]:
    """The column that names a row of another table, and goes when that goes."""
    column = f"{what}_id"
    name = op.f(f"fk_{table}_{column}_{what}")
    goes_with_it = sa.ForeignKeyConstraint([column], [f"{what}.id"], name=name, ondelete="CASCADE")
    return sa.Column(column, sa.String(length=48), nullable=nullable), goes_with_it


def _stamps() -> tuple[sa.Column[int], sa.Column[dt.datetime], sa.Column[dt.datetime]]:
    """The columns of a row that counts its changes."""
    return (
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
    )


def _tried() -> tuple[sa.Column[dt.datetime], sa.Column[bool], sa.Column[str]]:
    """The columns that tell what became of the newest try."""
    return (
        sa.Column("tried_at", sa.DateTime(), nullable=True),
        sa.Column("tried_ok", sa.Boolean(), nullable=True),
        sa.Column("tried_words", sa.String(length=300), nullable=False),
    )
