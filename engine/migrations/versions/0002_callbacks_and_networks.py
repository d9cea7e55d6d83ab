"""What the whole emergency path keeps: PBX identity, networks of every kind, numbers, sightings, callbacks.

Columns are added with a default in the database, so that a process of the version before still writes its rows while
this one starts.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _account() -> None:
    op.add_column("account", sa.Column("elin_hold_minutes", sa.Integer(), nullable=False, server_default="180"))


def _pbx() -> None:
    op.add_column("pbx", sa.Column("tls_name", sa.String(length=253), nullable=False, server_default=""))
    op.add_column("pbx", sa.Column("auth_user", sa.String(length=100), nullable=False, server_default=""))
    op.add_column("pbx", sa.Column("secret", sa.LargeBinary(), nullable=True))
    for column in ("tls_name", "auth_user"):
        where = sa.text(f"{column} <> ''")
        op.create_index(f"ix_pbx_{column}", "pbx", [column], unique=True, sqlite_where=where, postgresql_where=where)


def _network() -> None:
    # no table refers to this one: making it anew, as SQLite must, cascades nowhere
    with op.batch_alter_table("network", schema=None) as batch_op:
        batch_op.alter_column(
            "value", existing_type=sa.String(length=80), type_=sa.String(length=200), existing_nullable=False
        )
    op.create_index("ix_network_value", "network", ["value"], unique=False)


def _location() -> None:
    op.add_column("location", sa.Column("carrier_ids", sa.JSON(none_as_null=True), nullable=False, server_default="{}"))
    op.add_column("location", sa.Column("validation", sa.JSON(none_as_null=True), nullable=True))


def _phone() -> None:
    op.create_index("ix_phone_last_ip", "phone", ["last_ip"], unique=False)


def _emergency_call() -> None:
    op.add_column("emergency_call", sa.Column("elin", sa.String(length=16), nullable=True))


def _number() -> None:
    op.create_table(
        "number",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("account_id", sa.String(length=48), nullable=False),
        sa.Column("e164", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("location_id", sa.String(length=48), nullable=True),
        sa.Column("line_id", sa.String(length=48), nullable=True),
        sa.Column("held_until", sa.DateTime(), nullable=True),
        sa.Column("held_by", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_number_account_id_account"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["location_id"], ["location.id"], name=op.f("fk_number_location_id_location"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["line_id"], ["line.id"], name=op.f("fk_number_line_id_line"), ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_number")),
        sa.UniqueConstraint("e164", name=op.f("uq_number_e164")),
    )
    for column in ("account_id", "location_id", "line_id"):
        op.create_index(f"ix_number_{column}", "number", [column], unique=False)


def _confirmed_location() -> None:
    op.create_table(
        "confirmed_location",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("account_id", sa.String(length=48), nullable=False),
        sa.Column("phone_id", sa.String(length=48), nullable=True),
        sa.Column("line_id", sa.String(length=48), nullable=True),
        sa.Column("location_id", sa.String(length=48), nullable=False),
        sa.Column("network", sa.String(length=80), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(), nullable=False),
        sa.Column("confirmed_by", sa.String(length=320), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.CheckConstraint("phone_id IS NOT NULL OR line_id IS NOT NULL", name=op.f("ck_confirmed_location_whose")),
        *(
            sa.ForeignKeyConstraint(
                [f"{table}_id"],
                [f"{table}.id"],
                name=op.f(f"fk_confirmed_location_{table}_id_{table}"),
                ondelete="CASCADE",
            )
            for table in ("account", "phone", "line", "location")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_confirmed_location")),
    )
    for column in ("account_id", "phone_id", "line_id", "location_id"):
        op.create_index(f"ix_confirmed_location_{column}", "confirmed_location", [column], unique=False)


def _sighting() -> None:
    op.create_table(
        "sighting",
        sa.Column("phone_id", sa.String(length=48), nullable=False),
        sa.Column("account_id", sa.String(length=48), nullable=False),
        sa.Column("chassis", sa.String(length=200), nullable=True),
        sa.Column("port", sa.String(length=200), nullable=True),
        sa.Column("bssid", sa.String(length=12), nullable=True),
        sa.Column("ip", sa.String(length=45), nullable=True),
        sa.Column("source", sa.String(length=10), nullable=False),
        sa.Column("seen_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_sighting_account_id_account"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["phone_id"], ["phone.id"], name=op.f("fk_sighting_phone_id_phone"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("phone_id", name=op.f("pk_sighting")),
    )
    for column in ("account_id", "ip"):
        op.create_index(f"ix_sighting_{column}", "sighting", [column], unique=False)


def _callback_call() -> None:
    op.create_table(
        "callback_call",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("account_id", sa.String(length=48), nullable=False),
        sa.Column("emergency_call_id", sa.String(length=48), nullable=True),
        sa.Column("number", sa.String(length=80), nullable=False),
        sa.Column("from_uri", sa.String(length=400), nullable=False),
        sa.Column("pbx_id", sa.String(length=48), nullable=True),
        sa.Column("target", sa.String(length=400), nullable=False),
        sa.Column("psap", sa.Boolean(), nullable=False),
        sa.Column("orphan", sa.Boolean(), nullable=False),
        sa.Column("outcome", sa.String(length=20), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("received_at", sa.DateTime(), nullable=False),
        sa.Column("ended_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_callback_call_account_id_account"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["emergency_call_id"],
            ["emergency_call.id"],
            name=op.f("fk_callback_call_emergency_call_id_emergency_call"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_callback_call")),
    )
    op.create_index("ix_callback_call_account_received", "callback_call", ["account_id", "received_at"], unique=False)
    op.create_index("ix_callback_call_emergency_call_id", "callback_call", ["emergency_call_id"], unique=False)


def upgrade() -> None:
    _account()
    _pbx()
    _network()
    _location()
    _phone()
    _emergency_call()
    _number()
    _confirmed_location()
    _sighting()
    _callback_call()


def downgrade() -> None:
    raise NotImplementedError("Numbers and callbacks have no place in the schema before: restore a backup instead.")
