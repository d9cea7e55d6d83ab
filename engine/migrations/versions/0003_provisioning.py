"""What provisioning keeps beyond phones and lines: levels of settings, overrides, roll-outs, tokens on their way in and
out, phonebook, assets, what each phone was last given.

Columns are added with a default in the database, so that a process of the version before still writes its rows while
this one starts.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _account() -> None:
    op.add_column("account", sa.Column("next_provisioning_token", sa.LargeBinary(), nullable=True))
    op.add_column("account", sa.Column("next_provisioning_token_index", sa.String(length=64), nullable=True))
    op.add_column("account", sa.Column("next_provisioning_token_at", sa.DateTime(), nullable=True))
    for name in ("rotation", "provisioning_policy"):
        op.add_column("account", sa.Column(name, sa.JSON(none_as_null=True), nullable=False, server_default="{}"))
    op.create_index(
        "ix_account_next_provisioning_token_index", "account", ["next_provisioning_token_index"], unique=True
    )


def _phone() -> None:
    op.add_column("phone", sa.Column("fetched_token_index", sa.String(length=64), nullable=True))
    op.add_column("phone", sa.Column("straggled_at", sa.DateTime(), nullable=True))
    op.add_column("phone", sa.Column("seen_vendor", sa.String(length=30), nullable=True))
    op.add_column("phone", sa.Column("seen_model", sa.String(length=40), nullable=True))
    op.add_column("phone", sa.Column("resync_result", sa.String(length=80), nullable=True))
    op.add_column("phone", sa.Column("resync_at", sa.DateTime(), nullable=True))
    op.add_column("phone", sa.Column("network_location_id", sa.String(length=48), nullable=True))
    op.add_column("phone", sa.Column("no_location_at", sa.DateTime(), nullable=True))
    op.add_column("phone", sa.Column("file_key", sa.LargeBinary(), nullable=True))
    straggled = sa.text("straggled_at IS NOT NULL")
    op.create_index(
        "ix_phone_straggled", "phone", ["account_id", "id"], unique=False,
        sqlite_where=straggled, postgresql_where=straggled,
    )  # fmt: skip
    unlocated = sa.text("no_location_at IS NOT NULL")
    op.create_index(
        "ix_phone_no_location", "phone", ["account_id", "id"], unique=False, sqlite_where=unlocated,
        postgresql_where=unlocated,
    )  # fmt: skip
    op.drop_index("ix_phone_account_id", table_name="phone")
    op.create_index("ix_phone_account_id", "phone", ["account_id", "id"], unique=False)
    shown = ["status", "vendor", "model", "location_id", "firmware"]
    op.create_index("ix_phone_list", "phone", ["account_id", "label", "id", "mac", *shown], unique=False)
    op.create_index("ix_phone_seen", "phone", ["account_id", "last_fetch_at", "id", *shown], unique=False)
    op.create_index("ix_line_account_extension", "line", ["account_id", "extension", "id"], unique=False)
    op.create_index("ix_phone_account_model", "phone", ["account_id", "vendor", "model", "id"], unique=False)
    op.create_index("ix_phone_account_status", "phone", ["account_id", "status", "id"], unique=False)


def _provisioning_event() -> None:
    op.create_index("ix_provisioning_event_at", "provisioning_event", ["at"], unique=False)


def _asset() -> None:
    op.create_table(
        "asset",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("account_id", sa.String(length=48), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("vendor", sa.String(length=30), nullable=False),
        sa.Column("models", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("firmware", sa.String(length=40), nullable=False),
        sa.Column("content_type", sa.String(length=100), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_asset_account_id_account"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_asset")),
        sa.UniqueConstraint("account_id", "name", name=op.f("uq_asset_account_id_name")),
    )
    op.create_index(op.f("ix_asset_account_id"), "asset", ["account_id"], unique=False)


def _contact() -> None:
    op.create_table(
        "contact",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("account_id", sa.String(length=48), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("number", sa.String(length=100), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_contact_account_id_account"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contact")),
    )
    op.create_index(op.f("ix_contact_account_id"), "contact", ["account_id"], unique=False)


def _retired_token() -> None:
    op.create_table(
        "retired_token",
        sa.Column("token_index", sa.String(length=64), nullable=False),
        sa.Column("account_id", sa.String(length=48), nullable=False),
        sa.Column("retired_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_retired_token_account_id_account"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("token_index", name=op.f("pk_retired_token")),
    )
    op.create_index(op.f("ix_retired_token_account_id"), "retired_token", ["account_id"], unique=False)


def _rollout() -> None:
    op.create_table(
        "rollout",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("account_id", sa.String(length=48), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("target", sa.String(length=120), nullable=False),
        sa.Column("change", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("canary", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.String(length=400), nullable=False),
        sa.Column("counts", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("limits", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("started_by", sa.String(length=320), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.Column("ended_at", sa.DateTime(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_rollout_account_id_account"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollout")),
    )
    op.create_index("ix_rollout_account_state", "rollout", ["account_id", "state"], unique=False)


def _template_override() -> None:
    op.create_table(
        "template_override",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("account_id", sa.String(length=48), nullable=False),
        sa.Column("vendor", sa.String(length=30), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_template_override_account_id_account"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_template_override")),
        sa.UniqueConstraint("account_id", "vendor", "name", name=op.f("uq_template_override_account_id_vendor_name")),
    )
    op.create_index(op.f("ix_template_override_account_id"), "template_override", ["account_id"], unique=False)


def _settings_level() -> None:
    op.create_table(
        "settings_level",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("account_id", sa.String(length=48), nullable=True),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("location_id", sa.String(length=48), nullable=True),
        sa.Column("settings", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_settings_level_account_id_account"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["location_id"], ["location.id"], name=op.f("fk_settings_level_location_id_location"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_settings_level")),
        sa.UniqueConstraint("account_id", "name", name=op.f("uq_settings_level_account_id_name")),
    )
    op.create_index(op.f("ix_settings_level_account_id"), "settings_level", ["account_id"], unique=False)
    op.create_index(op.f("ix_settings_level_location_id"), "settings_level", ["location_id"], unique=False)


def _template_version() -> None:
    op.create_table(
        "template_version",
        sa.Column("template_id", sa.String(length=48), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("note", sa.String(length=400), nullable=False),
        sa.Column("written_by", sa.String(length=320), nullable=False),
        sa.Column("written_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["template_id"],
            ["template_override.id"],
            name=op.f("fk_template_version_template_id_template_override"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("template_id", "number", name=op.f("pk_template_version")),
    )


def _fetched_file() -> None:
    op.create_table(
        "fetched_file",
        sa.Column("phone_id", sa.String(length=48), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("account_id", sa.String(length=48), nullable=False),
        sa.Column("etag", sa.String(length=40), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("fetched_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_fetched_file_account_id_account"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["phone_id"], ["phone.id"], name=op.f("fk_fetched_file_phone_id_phone"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("phone_id", "name", name=op.f("pk_fetched_file")),
    )
    op.create_index(op.f("ix_fetched_file_account_id"), "fetched_file", ["account_id"], unique=False)


def _lease() -> None:
    op.create_table(
        "lease",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("holder", sa.String(length=48), nullable=False),
        sa.Column("until", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_lease")),
    )


def upgrade() -> None:
    _account()
    _phone()
    _provisioning_event()
    _asset()
    _contact()
    _retired_token()
    _rollout()
    _template_override()
    _settings_level()
    _template_version()
    _fetched_file()
    _lease()


def downgrade() -> None:
    raise NotImplementedError(
        "Overrides and levels of settings have no place in the schema before: restore a backup instead."
    )
