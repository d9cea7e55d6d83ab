"""An account: whom phones, places and calls belong to."""

import datetime as dt
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Integer, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column, synonym

from engine.db import Base, Sealed, UtcDateTime
from engine.models.base import Audited, Id, Json, Stamped, Versioned


class Account(Audited, Versioned, Stamped, Base):
    __tablename__ = "account"
    resource_type = "account"
    unversioned_columns = frozenset({"accent", "logo", "hostname"})  # of pages: no phone and no call depends on them
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    email: Mapped[str] = mapped_column(String(320), default="")
    phone: Mapped[str] = mapped_column(String(40), default="")
    timezone: Mapped[str] = mapped_column(String(64), default="America/New_York")
    language: Mapped[str] = mapped_column(String(16), default="en")
    country: Mapped[str] = mapped_column(String(2), default="US")
    billing_address: Mapped[dict[str, Any]] = mapped_column(Json, default=dict)
    emergency_enabled: Mapped[bool] = mapped_column(default=True)
    elin_hold_minutes: Mapped[int] = mapped_column(Integer, default=180)  # how long a call keeps its ELIN for callbacks
    callback_number: Mapped[str | None] = mapped_column(String(20))
    # no foreign key: account and location would need each other
    default_location_id: Mapped[str | None] = mapped_column(Id)
    provisioning_token: Mapped[str | None] = mapped_column(Sealed("account.provisioning_token"))
    provisioning_token_index: Mapped[str | None] = mapped_column(String(64), unique=True, info={"secret": True})
    provisioning_token_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    # the token that phones are being moved to, while the current one still works
    next_provisioning_token: Mapped[str | None] = mapped_column(Sealed("account.next_provisioning_token"))
    next_provisioning_token_index: Mapped[str | None] = mapped_column(
        String(64), unique=True, index=True, info={"secret": True}
    )
    next_provisioning_token_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    rotation: Mapped[dict[str, Any]] = mapped_column(Json, default=dict)  # how the move goes on: provisioning.cutover
    provisioning_policy: Mapped[dict[str, Any]] = mapped_column(Json, default=dict)  # provisioning.policy.Policy
    phone_admin_password: Mapped[str | None] = mapped_column(Sealed("account.phone_admin_password"))
    trunk_group_id: Mapped[str | None] = mapped_column(Id)  # that emergency calls take first; no foreign key, as above
    notification_prefix: Mapped[str] = mapped_column(String(40), default="", server_default="")  # of mails' subjects
    notification_text: Mapped[str] = mapped_column(String(300), default="", server_default="")  # what to do here
    accent: Mapped[str] = mapped_column(String(7), default="", server_default="")  # accounts.branding
    logo: Mapped[str] = mapped_column(String(60), default="", server_default="")  # the name of an AccountLogo
    hostname: Mapped[str | None] = mapped_column(String(253), unique=True, index=True)


class AccountLogo(Base):
    """An account's picture, read and written anew. `name`: of the content, told in the account's own column."""

    __tablename__ = "account_logo"
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(60), index=True)
    media_type: Mapped[str] = mapped_column(String(20))
    content: Mapped[bytes] = mapped_column(LargeBinary)


class Revision(Base):
    """One counter per account: every write that changes what the snapshot or a rendering holds bumps it."""

    __tablename__ = "revision"
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), primary_key=True)
    value: Mapped[int] = mapped_column(Integer, default=0)


class StorageSettings(Audited, Stamped, Base):
    """How long an account keeps its records, in days; 0: for ever. `accounts.keeping` says what each may be."""

    __tablename__ = "storage_settings"
    resource_type = "storage_settings"
    __table_args__ = (
        CheckConstraint("audit_days = 0 OR audit_days >= 365", name="audit_days"),
        CheckConstraint("call_days = 0 OR call_days >= 365", name="call_days"),
        CheckConstraint("session_days = 0 OR session_days >= 365", name="session_days"),
        CheckConstraint("fetch_log_days >= 1", name="fetch_log_days"),
    )
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[str] = synonym("account_id")
    audit_days: Mapped[int] = mapped_column(Integer)
    call_days: Mapped[int] = mapped_column(Integer)
    session_days: Mapped[int] = mapped_column(Integer)
    fetch_log_days: Mapped[int] = mapped_column(Integer)
