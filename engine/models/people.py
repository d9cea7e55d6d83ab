"""People and programs that sign in: users and what they prove themselves with, sessions, API keys."""

import datetime as dt
from enum import StrEnum

from sqlalchemy import ForeignKey, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, synonym

from engine.db import Base, Sealed, UtcDateTime
from engine.models.base import Audited, Id, Json, Stamped


class Role(StrEnum):
    OWNER = "owner"
    ADMIN = "admin"
    ACCOUNT_MANAGER = "account_manager"
    OPERATOR = "operator"
    AUDITOR = "auditor"


class UserStatus(StrEnum):
    ACTIVE = "active"
    INVITED = "invited"  # has a one-time link and no password yet
    DISABLED = "disabled"
    REMOVED = "removed"  # shown nowhere but in logs


class User(Audited, Stamped, Base):
    __tablename__ = "user"
    resource_type = "user"
    unaudited_columns = frozenset({"last_login_at"})
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    email: Mapped[str] = mapped_column(String(320), unique=True)  # stored in lower case
    name: Mapped[str] = mapped_column(String(200), default="")
    role: Mapped[str] = mapped_column(String(20), default=Role.ADMIN)
    status: Mapped[str] = mapped_column(String(20), default=UserStatus.ACTIVE)
    last_login_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)


class Credential(Audited, Base):
    """What a user proves themselves with, by kind: a password, an invitation, an authenticator app, codes by mail,
    recovery codes.

    hash: the password's argon2id hash, the invitation's SHA-256, or the recovery codes' SHA-256s as a JSON list.
    seed: of an authenticator app (RFC 6238). last_step: the time step of the last code that was used, as none
    counts twice.
    previous: argon2id hashes of passwords that may not be used again, newest first.
    """

    __tablename__ = "credential"
    resource_type = "user"
    unaudited_columns = frozenset({"last_used_at", "last_step"})
    user_id: Mapped[str] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(20), primary_key=True)
    hash: Mapped[str] = mapped_column(Text, info={"secret": True})
    seed: Mapped[str | None] = mapped_column(Sealed("credential.seed"))
    last_step: Mapped[int | None] = mapped_column(Integer)
    previous: Mapped[list[str] | None] = mapped_column(Json, info={"secret": True})
    changed_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    last_used_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)


class SecurityPolicy(Audited, Stamped, Base):
    """How an account's users sign in: `accounts.policy.Policy` says what each field means and what it may be."""

    __tablename__ = "security_policy"
    resource_type = "security_policy"
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[str] = synonym("account_id")
    password_min_length: Mapped[int] = mapped_column(Integer)
    password_min_score: Mapped[int] = mapped_column(Integer)
    password_reuse: Mapped[int] = mapped_column(Integer)
    password_max_age_days: Mapped[int] = mapped_column(Integer)
    session_idle_minutes: Mapped[int] = mapped_column(Integer)
    session_absolute_minutes: Mapped[int] = mapped_column(Integer)
    failed_sign_ins: Mapped[int] = mapped_column(Integer)
    pause_s: Mapped[int] = mapped_column(Integer)
    inactive_days: Mapped[int] = mapped_column(Integer)
    two_factor: Mapped[str] = mapped_column(String(10))
    email_codes: Mapped[bool] = mapped_column()
    remember: Mapped[str] = mapped_column(String(12))
    remember_days: Mapped[int] = mapped_column(Integer)


class SetupLink(Base):
    """The one-time link that makes the first account and its owner. The SHA-256 of its key is stored."""

    __tablename__ = "setup_link"
    key_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    expires_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    used_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)


class PendingSignIn(Base):
    """A sign-in between its password and its second factor, or a second factor that is being set up. It opens nothing.

    stage: `accounts.half_open.Stage`. method: what was proven so far, as the session will name it. seed: of the
    authenticator app being set up. code_hash: of the code that was mailed. tries: wrong and right codes together.
    """

    __tablename__ = "pending_sign_in"
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    cookie_hash: Mapped[str] = mapped_column(String(64), unique=True)
    stage: Mapped[str] = mapped_column(String(20))
    method: Mapped[str] = mapped_column(String(30))
    seed: Mapped[str | None] = mapped_column(Sealed("pending_sign_in.seed"))
    code_hash: Mapped[str | None] = mapped_column(String(64))
    code_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    codes_sent: Mapped[int] = mapped_column(Integer, default=0)
    tries: Mapped[int] = mapped_column(Integer, default=0)
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, index=True)


class RememberedDevice(Base):
    """A browser whose user gave a second factor there: for a while the password is enough. Its cookie's SHA-256 is
    stored.
    """

    __tablename__ = "remembered_device"
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    secret_hash: Mapped[str] = mapped_column(String(64))
    ip: Mapped[str] = mapped_column(String(45))
    user_agent: Mapped[str] = mapped_column(String(400), default="")
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    last_used_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)


class Session(Base):
    """A signed-in browser. The cookie holds 256 random bits; its SHA-256 is stored."""

    __tablename__ = "session"
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    cookie_hash: Mapped[str] = mapped_column(String(64), unique=True)
    method: Mapped[str] = mapped_column(String(30))
    ip: Mapped[str] = mapped_column(String(45))
    user_agent: Mapped[str] = mapped_column(String(400), default="")
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    seen_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    # when the password was last typed: revealing asks for 15 minutes
    proven_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    end_reason: Mapped[str | None] = mapped_column(String(30))
    # the account that a platform operator acts for in this browser; no foreign key: SQLite adds none to a table that is
    acting_account_id: Mapped[str | None] = mapped_column(Id)


class ApiKey(Audited, Stamped, Base):
    __tablename__ = "api_key"
    resource_type = "api_key"
    unaudited_columns = frozenset({"last_used_at", "last_used_ip"})
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    key_hash: Mapped[str] = mapped_column(String(64), unique=True, info={"secret": True})
    hint: Mapped[str] = mapped_column(String(12))  # the first characters, so that people can tell their keys apart
    scopes: Mapped[list[str]] = mapped_column(Json, default=list)
    created_by: Mapped[str | None] = mapped_column(Id)
    expires_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    last_used_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    last_used_ip: Mapped[str | None] = mapped_column(String(45))


class RefusedKey(Base):
    """Requests with an API key that is none, counted: one row for each beginning of a key and address and minute."""

    __tablename__ = "refused_key"
    __table_args__ = (UniqueConstraint("minute", "hint", "ip"),)
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str | None] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    api_key_id: Mapped[str | None] = mapped_column(Id)
    name: Mapped[str] = mapped_column(String(200), default="")
    hint: Mapped[str] = mapped_column(String(12))
    ip: Mapped[str] = mapped_column(String(45))
    user_agent: Mapped[str] = mapped_column(String(400), default="")
    reason: Mapped[str] = mapped_column(String(30))
    minute: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    count: Mapped[int] = mapped_column(Integer, default=1)
