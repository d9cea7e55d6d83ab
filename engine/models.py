"""Every table on one page: columns, keys, indexes, constraints. No behaviour, no queries.

`Audited` tables refuse a change with no audit entry beside it (the commit guard of `engine.audit.record`).
`Versioned` tables hold what the location table or a phone's rendering is made of: changing one bumps the account's
`revision` in the same commit. Relationships are absent on purpose: a store function loads what its name promises.
"""

import datetime as dt
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    TextClause,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, synonym

from engine.db import Base, Sealed, UtcDateTime, utc_now

Id = String(48)
Json = JSON(none_as_null=True)


def _where(condition: str) -> dict[str, Any]:
    """The condition of a partial index, for each database."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


class Audited:
    """Mixin: a change needs an audit entry in the same commit. `resource_type` is the identifier's own prefix."""

    resource_type: ClassVar[str]
    unaudited_columns: ClassVar[frozenset[str]] = (
        frozenset()
    )  # moved by machines (last seen), never by an administrator


class Versioned:
    """Mixin: a change bumps the account's revision, so snapshots and renderings are made anew."""

    unversioned_columns: ClassVar[frozenset[str]] = frozenset()


class Stamped:
    """Mixin: `version` counts changes and is the ETag; the two times are UTC."""

    version: Mapped[int] = mapped_column(Integer, default=1)
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)


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


class LocationStatus(StrEnum):
    DRAFT = "draft"
    VALIDATED = "validated"
    REJECTED = "rejected"


class PhoneStatus(StrEnum):
    NEVER_BOOTED = "never_booted"
    CURRENT = "current"
    STALE = "stale"
    FAILED = "failed"
    QUARANTINED = (
        "quarantined"  # it says it is another model than the one kept: it is served nothing until somebody looks
    )


class LocationMode(StrEnum):
    VALUE = "value"
    REFERENCE = "reference"
    BOTH = "both"
    NONE = "none"


class Transport(StrEnum):
    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


class NetworkKind(StrEnum):
    SUBNET = "subnet"
    BSSID = "bssid"
    SWITCH = "switch"
    SWITCH_PORT = "switch_port"


class NumberKind(StrEnum):
    DIRECT = "direct"
    ELIN = "elin"


class SightingSource(StrEnum):
    HELD = "held"
    API = "api"
    SNMP = "snmp"


class CallKind(StrEnum):
    EMERGENCY = "emergency"
    TEST = "test"
    DRILL = "drill"  # staff are told and alerts ring; nothing was ever sent to a carrier


class Cadence(StrEnum):
    """How often all locations of an account are tested with 933."""

    OFF = "off"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


class SweepState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


class SettingsKind(StrEnum):
    """The levels a phone's settings are merged from, the most general first; the phone's own come last."""

    GLOBAL = "global"
    ACCOUNT = "account"
    LOCATION = "location"
    MODEL = "model"


class AssetKind(StrEnum):
    LOGO = "logo"
    FIRMWARE = "firmware"
    RINGTONE = "ringtone"


class RolloutState(StrEnum):
    CANARY = "canary"  # some phones have it
    PUBLISHED = "published"  # all have it
    ROLLED_BACK = "rolled_back"
    CANCELLED = "cancelled"


class NotificationState(StrEnum):
    WAITING = "waiting"
    SENT = "sent"
    FAILED = "failed"


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
    default_location_id: Mapped[str | None] = mapped_column(
        Id
    )  # no foreign key: account and location would need each other
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
    proven_at: Mapped[dt.datetime] = mapped_column(
        UtcDateTime
    )  # when the password was last typed: revealing asks for 15 minutes
    ended_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    end_reason: Mapped[str | None] = mapped_column(String(30))
    # the account that a platform operator acts for in this browser; no foreign key: SQLite adds none to a table that is
    acting_account_id: Mapped[str | None] = mapped_column(Id)


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


class SetupLink(Base):
    """The one-time link that makes the first account and its owner. The SHA-256 of its key is stored."""

    __tablename__ = "setup_link"
    key_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    expires_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    used_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)


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


class Location(Audited, Versioned, Stamped, Base):
    __tablename__ = "location"
    resource_type = "location"
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    civic_address: Mapped[dict[str, str]] = mapped_column(Json, default=dict)
    geo: Mapped[dict[str, Any] | None] = mapped_column(Json)
    timezone: Mapped[str | None] = mapped_column(String(64))
    notification_recipients: Mapped[list[str]] = mapped_column(Json, default=list)
    callback_number: Mapped[str | None] = mapped_column(String(20))
    onsite_number: Mapped[str | None] = mapped_column(String(20))
    carrier_ids: Mapped[dict[str, str]] = mapped_column(Json, default=dict)  # by profile: the carrier's name for it
    status: Mapped[str] = mapped_column(String(20), default=LocationStatus.DRAFT)
    validated_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    validation: Mapped[dict[str, Any] | None] = mapped_column(Json)  # what a validator said last: e911.validation
    trunk_group_id: Mapped[str | None] = mapped_column(Id)  # that emergency calls from here take first
    notification_prefix: Mapped[str] = mapped_column(String(40), default="", server_default="")
    notification_text: Mapped[str] = mapped_column(String(300), default="", server_default="")


class Network(Audited, Versioned, Stamped, Base):
    """Where a subnet, a wireless access point, a switch or one port of it is. `value` in canonical spelling."""

    __tablename__ = "network"
    resource_type = "network"
    __table_args__ = (UniqueConstraint("account_id", "kind", "value", "pbx_id"), Index("ix_network_value", "value"))
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(20))
    value: Mapped[str] = mapped_column(String(200))
    location_id: Mapped[str] = mapped_column(ForeignKey("location.id", ondelete="CASCADE"), index=True)
    pbx_id: Mapped[str | None] = mapped_column(ForeignKey("pbx.id", ondelete="CASCADE"))


_SHOWN = ("status", "vendor", "model", "location_id", "firmware")  # of a phone: what the filters of the list look at


class Phone(Audited, Versioned, Stamped, Base):
    __tablename__ = "phone"
    resource_type = "phone"
    _machine_columns = frozenset(
        {
            "status", "last_fetch_at", "last_ip", "last_user_agent", "firmware", "fetched_revision",
            "fetched_token_index", "straggled_at", "seen_vendor", "seen_model", "resync_result", "resync_at",
            "no_location_at", "home_ip", "elsewhere_at",
        }
    )  # fmt: skip
    unaudited_columns = _machine_columns | {"network_location_id"}  # no administrator's, yet a phone's files say it
    unversioned_columns = _machine_columns
    __table_args__ = (
        UniqueConstraint("account_id", "mac"),
        Index("ix_phone_mac", "mac"),
        Index("ix_phone_last_ip", "last_ip"),  # HELD: which phone asks from there
        Index("ix_phone_account_id", "account_id", "id"),
        # the list of phones: every column that a filter looks at, so that a filter nothing matches reads no row
        Index("ix_phone_list", "account_id", "label", "id", "mac", *_SHOWN),
        Index("ix_phone_seen", "account_id", "last_fetch_at", "id", *_SHOWN),
        Index("ix_phone_account_status", "account_id", "status", "id"),
        Index("ix_phone_account_model", "account_id", "vendor", "model", "id"),
        Index("ix_phone_no_location", "account_id", "id", **_where("no_location_at IS NOT NULL")),
        Index("ix_phone_straggled", "account_id", "id", **_where("straggled_at IS NOT NULL")),
    )
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    mac: Mapped[str] = mapped_column(String(12))  # 12 lower-case hexadecimal digits
    vendor: Mapped[str] = mapped_column(String(30))
    model: Mapped[str] = mapped_column(String(40))
    label: Mapped[str] = mapped_column(String(200), default="")
    location_id: Mapped[str | None] = mapped_column(ForeignKey("location.id", ondelete="SET NULL"), index=True)
    settings: Mapped[dict[str, Any]] = mapped_column(Json, default=dict)
    status: Mapped[str] = mapped_column(String(20), default=PhoneStatus.NEVER_BOOTED)
    last_fetch_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    last_ip: Mapped[str | None] = mapped_column(String(45))
    last_user_agent: Mapped[str | None] = mapped_column(String(400))
    firmware: Mapped[str | None] = mapped_column(String(40))
    fetched_revision: Mapped[int | None] = mapped_column(Integer)
    fetched_token_index: Mapped[str | None] = mapped_column(String(64), info={"secret": True})  # of its last fetch
    straggled_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)  # last asked with a token rotated away
    home_ip: Mapped[str | None] = mapped_column(String(45))  # where it was served before phones began to be moved
    elsewhere_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)  # last asked by the next URL from elsewhere
    seen_vendor: Mapped[str | None] = mapped_column(String(30))  # what it says it is, where that is not what is kept
    seen_model: Mapped[str | None] = mapped_column(String(40))
    resync_result: Mapped[str | None] = mapped_column(String(80))
    resync_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    network_location_id: Mapped[str | None] = mapped_column(Id)  # what the network says: where it was last seen
    no_location_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)  # since when its 911 calls have no address
    file_key: Mapped[str | None] = mapped_column(Sealed("phone.file_key"))  # what its files are encrypted with


class Line(Audited, Versioned, Stamped, Base):
    __tablename__ = "line"
    resource_type = "line"
    __table_args__ = (
        UniqueConstraint("account_id", "sip_user"),
        Index("ix_line_account_extension", "account_id", "extension", "id"),
    )
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    extension: Mapped[str] = mapped_column(String(20))
    display_name: Mapped[str] = mapped_column(String(200), default="")
    sip_user: Mapped[str] = mapped_column(String(100))
    auth_user: Mapped[str] = mapped_column(String(100), default="")  # empty: the same as sip_user
    secret: Mapped[str | None] = mapped_column(Sealed("line.secret"))
    callback_number: Mapped[str | None] = mapped_column(String(20))
    location_id: Mapped[str | None] = mapped_column(ForeignKey("location.id", ondelete="SET NULL"))
    pbx_id: Mapped[str | None] = mapped_column(ForeignKey("pbx.id", ondelete="SET NULL"))


class Sighting(Base):
    """Where the network last saw a phone: which switch port, access point or address. The latest one alone."""

    __tablename__ = "sighting"
    phone_id: Mapped[str] = mapped_column(ForeignKey("phone.id", ondelete="CASCADE"), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    chassis: Mapped[str | None] = mapped_column(String(200))  # as the value of a network of kind `switch`
    port: Mapped[str | None] = mapped_column(String(200))
    bssid: Mapped[str | None] = mapped_column(String(12))
    ip: Mapped[str | None] = mapped_column(String(45), index=True)
    source: Mapped[str] = mapped_column(String(10))
    seen_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)


class PhoneLine(Audited, Versioned, Base):
    """Which line sits on which key of a phone, first key 1."""

    __tablename__ = "phone_line"
    resource_type = "phone"
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    phone_id: Mapped[str] = mapped_column(ForeignKey("phone.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[int] = mapped_column(Integer, primary_key=True)
    line_id: Mapped[str] = mapped_column(ForeignKey("line.id", ondelete="CASCADE"), index=True)


class Pbx(Audited, Versioned, Stamped, Base):
    __tablename__ = "pbx"
    resource_type = "pbx"
    __table_args__ = (  # either names one PBX, and with it one account
        Index("ix_pbx_tls_name", "tls_name", unique=True, **_where("tls_name <> ''")),
        Index("ix_pbx_auth_user", "auth_user", unique=True, **_where("auth_user <> ''")),
    )
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    sources: Mapped[list[str]] = mapped_column(Json, default=list)  # CIDRs in canonical spelling
    tls_name: Mapped[str] = mapped_column(String(253), default="")  # in its client certificate; lower case
    auth_user: Mapped[str] = mapped_column(String(100), default="")  # digest; empty: none is asked for
    secret: Mapped[str | None] = mapped_column(Sealed("pbx.secret"))
    registrar_host: Mapped[str] = mapped_column(String(253), default="")
    registrar_port: Mapped[int] = mapped_column(Integer, default=5060)
    transport: Mapped[str] = mapped_column(String(10), default=Transport.UDP)
    default_location_id: Mapped[str | None] = mapped_column(ForeignKey("location.id", ondelete="SET NULL"))
    default_route: Mapped[str | None] = mapped_column(String(300))  # a SIP URI for requests that are not emergencies
    resync_via: Mapped[str] = mapped_column(String(10), default="pbx")


class Trunk(Audited, Versioned, Stamped, Base):
    __tablename__ = "trunk"
    resource_type = "trunk"
    unaudited_columns = frozenset({"is_up", "checked_at"})
    unversioned_columns = frozenset({"is_up", "checked_at"})
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    priority: Mapped[int] = mapped_column(Integer, default=10)  # lowest first
    host: Mapped[str] = mapped_column(String(253))
    port: Mapped[int] = mapped_column(Integer, default=5060)
    transport: Mapped[str] = mapped_column(String(10), default=Transport.UDP)
    auth_user: Mapped[str] = mapped_column(String(100), default="")
    secret: Mapped[str | None] = mapped_column(Sealed("trunk.secret"))
    profile: Mapped[str] = mapped_column(String(40), default="generic")
    location_mode: Mapped[str] = mapped_column(String(20), default=LocationMode.VALUE)
    test_number: Mapped[str | None] = mapped_column(String(20))
    last_resort: Mapped[bool] = mapped_column(default=False)
    enabled: Mapped[bool] = mapped_column(default=True)
    is_up: Mapped[bool | None] = mapped_column()  # what the SIP process last said; it routes by what it knows itself
    checked_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)


class MailSettings(Audited, Stamped, Base):
    """The mail server set in the pages: one row for the installation, which counts where `[mail]` names none."""

    __tablename__ = "mail_settings"
    resource_type = "mail_settings"
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    host: Mapped[str] = mapped_column(String(253))
    port: Mapped[int] = mapped_column(Integer)
    security: Mapped[str] = mapped_column(String(10))
    username: Mapped[str] = mapped_column(String(320))
    password: Mapped[str | None] = mapped_column(Sealed("mail_settings.password"))
    sender: Mapped[str] = mapped_column(String(320))


class ValidationSettings(Audited, Stamped, Base):
    """Who validates addresses, set in the pages: one row for the installation, where `[e911] lost_url` is empty."""

    __tablename__ = "validation_settings"
    resource_type = "validation_settings"
    unaudited_columns = frozenset({"tried_at", "tried_ok", "tried_words"})
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    provider: Mapped[str] = mapped_column(String(20))  # none | lost
    url: Mapped[str] = mapped_column(String(1000))
    auth: Mapped[str] = mapped_column(String(10))  # none | basic | bearer
    username: Mapped[str] = mapped_column(String(320))
    secret: Mapped[str | None] = mapped_column(Sealed("validation_settings.secret"))
    tried_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    tried_ok: Mapped[bool | None] = mapped_column()
    tried_words: Mapped[str] = mapped_column(String(300), default="")


class Webhook(Audited, Stamped, Base):
    """Who else is told of emergency calls, by a signed POST. `url` may hold a secret in its path and is sealed; `host`
    is what of it is shown. `tried_*`: the newest try, told by the courier.
    """

    __tablename__ = "webhook"
    resource_type = "webhook"
    unaudited_columns = frozenset({"tried_at", "tried_ok", "tried_words"})
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    url: Mapped[str] = mapped_column(Sealed("webhook.url"))
    host: Mapped[str] = mapped_column(String(300))
    kinds: Mapped[list[str]] = mapped_column(Json, default=list)
    enabled: Mapped[bool] = mapped_column(default=True)
    secret: Mapped[str] = mapped_column(Sealed("webhook.secret"))
    previous_secret: Mapped[str | None] = mapped_column(Sealed("webhook.previous_secret"))
    previous_until: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    tried_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    tried_ok: Mapped[bool | None] = mapped_column()
    tried_words: Mapped[str] = mapped_column(String(300), default="")


class TrunkGroup(Audited, Versioned, Stamped, Base):
    """Trunks that emergency calls of an account or a location take before all others, in that order."""

    __tablename__ = "trunk_group"
    resource_type = "trunk_group"
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    trunk_ids: Mapped[list[str]] = mapped_column(Json, default=list)


class Number(Audited, Versioned, Stamped, Base):
    """A number that a PSAP can call back: a line's own, or one of a location's ELIN pool. `held_*`: who has it now."""

    __tablename__ = "number"
    resource_type = "number"
    unaudited_columns = frozenset({"held_until", "held_by"})
    unversioned_columns = frozenset({"held_until", "held_by"})
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    e164: Mapped[str] = mapped_column(String(16), unique=True)
    kind: Mapped[str] = mapped_column(String(10), default=NumberKind.DIRECT)
    location_id: Mapped[str | None] = mapped_column(ForeignKey("location.id", ondelete="SET NULL"), index=True)
    line_id: Mapped[str | None] = mapped_column(ForeignKey("line.id", ondelete="SET NULL"), index=True)
    held_until: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    held_by: Mapped[dict[str, Any] | None] = mapped_column(Json)  # pbx_id, sip_user, extension, name, call


class ConfirmedLocation(Audited, Versioned, Stamped, Base):
    """Where a user said a phone or line is; it holds only on the network on which that was said."""

    __tablename__ = "confirmed_location"
    resource_type = "confirmed_location"
    __table_args__ = (CheckConstraint("phone_id IS NOT NULL OR line_id IS NOT NULL", name="whose"),)
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    phone_id: Mapped[str | None] = mapped_column(ForeignKey("phone.id", ondelete="CASCADE"), index=True)
    line_id: Mapped[str | None] = mapped_column(ForeignKey("line.id", ondelete="CASCADE"), index=True)
    location_id: Mapped[str] = mapped_column(ForeignKey("location.id", ondelete="CASCADE"), index=True)
    network: Mapped[str] = mapped_column(String(80))  # a CIDR or a BSSID, in canonical spelling
    confirmed_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    confirmed_by: Mapped[str] = mapped_column(String(320))


class NotificationRecipient(Audited, Stamped, Base):
    """An account-level recipient of emergency notifications; a location carries its own list."""

    __tablename__ = "notification_recipient"
    resource_type = "account"
    __table_args__ = (UniqueConstraint("account_id", "email"),)
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    email: Mapped[str] = mapped_column(String(320))


class EmergencyCall(Audited, Base):
    """A 911 or 933 call as it left: caller, location as conveyed, verdict, outcome."""

    __tablename__ = "emergency_call"
    resource_type = "call"
    unaudited_columns = frozenset(
        {"outcome", "status_code", "answered_at", "ended_at", "trunk_id", "changed_at"}
    )  # told by the carrier
    __table_args__ = (
        Index("ix_emergency_call_account_sent", "account_id", "sent_at"),
        Index("ix_emergency_call_account_kind_sent", "account_id", "kind", "sent_at"),
        Index("ix_emergency_call_changed_at", "changed_at"),
    )
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    pbx_id: Mapped[str | None] = mapped_column(Id)
    call_id: Mapped[str] = mapped_column(String(400))  # the SIP Call-ID
    dialed: Mapped[str] = mapped_column(String(80))
    kind: Mapped[str] = mapped_column(String(20))
    caller: Mapped[dict[str, Any]] = mapped_column(Json, default=dict)
    location: Mapped[dict[str, Any] | None] = mapped_column(Json)
    location_source: Mapped[str] = mapped_column(String(30))
    verdict: Mapped[list[dict[str, Any]]] = mapped_column(Json, default=list)
    flags: Mapped[list[str]] = mapped_column(Json, default=list)
    peer: Mapped[dict[str, Any]] = mapped_column(Json, default=dict)
    invite: Mapped[str | None] = mapped_column(Sealed("emergency_call.invite"))
    elin: Mapped[str | None] = mapped_column(String(16))  # the number of the pool that this call was given
    trunk_id: Mapped[str | None] = mapped_column(Id)
    outcome: Mapped[str] = mapped_column(String(20), default="in_progress")
    status_code: Mapped[int | None] = mapped_column(Integer)
    received_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    sent_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    answered_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    recorded_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    changed_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime, default=utc_now, onupdate=utc_now)
    acknowledged_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    acknowledged_by: Mapped[str | None] = mapped_column(String(320))  # as they were called then
    acknowledged_by_id: Mapped[str | None] = mapped_column(String(80))
    acknowledgement_note: Mapped[str | None] = mapped_column(String(1000))


class LocationTest(Base):
    """What 933 calls last showed of a location: when one went out with its address and was answered, and the latest
    try of a sweep or of a person, whatever came of it.
    """

    __tablename__ = "location_test"
    location_id: Mapped[str] = mapped_column(ForeignKey("location.id", ondelete="CASCADE"), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    passed_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    passed_call_id: Mapped[str | None] = mapped_column(Id)
    tried_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    tried_call_id: Mapped[str | None] = mapped_column(Id)
    outcome: Mapped[str] = mapped_column(String(20))  # e911.sweep.Outcome
    detail: Mapped[str] = mapped_column(String(400), default="")
    sweep_id: Mapped[str | None] = mapped_column(Id, index=True)  # the last sweep that dealt with it


class SweepPlan(Audited, Stamped, Base):
    """When an account's locations are tested by themselves. Hours and days are those of the account's time zone."""

    __tablename__ = "sweep_plan"
    resource_type = "sweep_plan"
    unaudited_columns = frozenset({"next_at"})
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), unique=True)
    cadence: Mapped[str] = mapped_column(String(10), default=Cadence.OFF)
    weekday: Mapped[int] = mapped_column(Integer, default=1)  # Monday 0; a month's sweep is on its first such day
    hour: Mapped[int] = mapped_column(Integer, default=10)
    tells: Mapped[bool] = mapped_column(default=True)  # whether recipients are mailed of its calls, as of any 933
    next_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime, index=True)


class Sweep(Audited, Base):
    """One round of test calls through the locations of an account."""

    __tablename__ = "sweep"
    resource_type = "sweep"
    unaudited_columns = frozenset({"passed", "failed", "skipped", "ended_at", "state"})
    __table_args__ = (
        Index("ix_sweep_account_id", "account_id", "id"),
        Index("ix_sweep_running", "state", **_where("state = 'running'")),
    )
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    state: Mapped[str] = mapped_column(String(20), default=SweepState.RUNNING)
    started_by: Mapped[str] = mapped_column(String(320))
    tells: Mapped[bool] = mapped_column(default=True)
    locations: Mapped[int] = mapped_column(Integer, default=0)  # how many there were to test when it began
    passed: Mapped[int] = mapped_column(Integer, default=0)
    failed: Mapped[int] = mapped_column(Integer, default=0)
    skipped: Mapped[int] = mapped_column(Integer, default=0)  # nothing there can call
    started_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)


class CallAttempt(Base):
    """One try at one trunk."""

    __tablename__ = "call_attempt"
    emergency_call_id: Mapped[str] = mapped_column(
        ForeignKey("emergency_call.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    trunk_id: Mapped[str] = mapped_column(Id)
    trunk_name: Mapped[str] = mapped_column(String(200))
    hop: Mapped[str] = mapped_column(String(80))
    with_location: Mapped[bool] = mapped_column(default=True)
    started_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    status_code: Mapped[int | None] = mapped_column(Integer)
    outcome: Mapped[str] = mapped_column(String(20))
    invite: Mapped[str | None] = mapped_column(Sealed("call_attempt.invite"))  # as sent; the first stands with the call


class CallbackCall(Audited, Base):
    """A call that came in for a caller's number or an ELIN: a PSAP calling back, or anybody else who knows it."""

    __tablename__ = "callback_call"
    resource_type = "callback"
    unaudited_columns = frozenset({"outcome", "status_code", "ended_at", "target", "orphan"})
    __table_args__ = (Index("ix_callback_call_account_received", "account_id", "received_at"),)
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    emergency_call_id: Mapped[str | None] = mapped_column(
        ForeignKey("emergency_call.id", ondelete="SET NULL"), index=True
    )
    number: Mapped[str] = mapped_column(String(80))
    from_uri: Mapped[str] = mapped_column(String(400), default="")
    pbx_id: Mapped[str | None] = mapped_column(Id)
    target: Mapped[str] = mapped_column(String(400), default="")
    psap: Mapped[bool] = mapped_column(default=False)  # it says so (RFC 7090) and came from a trunk
    orphan: Mapped[bool] = mapped_column(default=False)  # no call is known for it: it went to the on-site number
    outcome: Mapped[str] = mapped_column(String(20), default="in_progress")
    status_code: Mapped[int | None] = mapped_column(Integer)
    received_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)


class Notification(Base):
    """The outbox: one row per (call, recipient, channel), written in the transaction that records the call."""

    __tablename__ = "notification"
    __table_args__ = (
        UniqueConstraint("emergency_call_id", "recipient", "channel"),
        Index("ix_notification_waiting", "state", "next_try_at"),
        Index("ix_notification_recipient", "account_id", "recipient", "created_at"),
    )
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    emergency_call_id: Mapped[str] = mapped_column(ForeignKey("emergency_call.id", ondelete="CASCADE"), index=True)
    recipient: Mapped[str] = mapped_column(String(320))
    channel: Mapped[str] = mapped_column(String(20), default="email")
    because: Mapped[str] = mapped_column(String(20))  # account | location | both
    subject: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(20), default=NotificationState.WAITING)
    tries: Mapped[int] = mapped_column(Integer, default=0)
    last_error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    next_try_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    claimed_until: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    claimed_by: Mapped[str | None] = mapped_column(String(48))
    sent_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)


class ProvisioningEvent(Base):
    """The phones' fetch log: written in groups, never on a phone's request itself. The token is never in it."""

    __tablename__ = "provisioning_event"
    __table_args__ = (
        Index("ix_provisioning_event_phone", "phone_id", "id"),
        Index("ix_provisioning_event_account", "account_id", "id"),
        Index("ix_provisioning_event_at", "at"),
    )
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str | None] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    phone_id: Mapped[str | None] = mapped_column(ForeignKey("phone.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(30))  # provisioning.fetchlog.FetchKind
    reason: Mapped[str | None] = mapped_column(String(60))
    file: Mapped[str] = mapped_column(String(200))
    method: Mapped[str] = mapped_column(String(10))
    status_code: Mapped[int] = mapped_column(Integer)
    size_bytes: Mapped[int] = mapped_column(Integer, default=0)
    duration_us: Mapped[int] = mapped_column(Integer, default=0)
    ip: Mapped[str] = mapped_column(String(45))
    user_agent: Mapped[str] = mapped_column(String(400), default="")
    evidence: Mapped[dict[str, Any]] = mapped_column(Json, default=dict)
    at: Mapped[dt.datetime] = mapped_column(UtcDateTime)


class RetiredToken(Base):
    """A provisioning token that was rotated away: it opens nothing, and tells whose phone still asks with it."""

    __tablename__ = "retired_token"
    token_index: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    retired_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)


class SettingsLevel(Audited, Versioned, Stamped, Base):
    """Settings of many phones: everywhere, of an account, of a location, of a model. `account_id` None: everywhere."""

    __tablename__ = "settings_level"
    resource_type = "settings"
    __table_args__ = (UniqueConstraint("account_id", "name"),)
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str | None] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(String(120))  # "global", "account", a location's id, or "<vendor>/<model>"
    location_id: Mapped[str | None] = mapped_column(ForeignKey("location.id", ondelete="CASCADE"), index=True)
    settings: Mapped[dict[str, Any]] = mapped_column(Json, default=dict)


class TemplateOverride(Audited, Versioned, Stamped, Base):
    """An account's own text in place of one of a vendor's templates. `body` None: reverted to the shipped one."""

    __tablename__ = "template_override"
    resource_type = "template"
    unaudited_columns = frozenset({"body"})  # every text is kept whole as a version, and its number is audited
    __table_args__ = (UniqueConstraint("account_id", "vendor", "name"),)
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    vendor: Mapped[str] = mapped_column(String(30))
    name: Mapped[str] = mapped_column(String(80))  # the template's file name
    body: Mapped[str | None] = mapped_column(Text)
    number: Mapped[int] = mapped_column(Integer, default=1)  # of the version in force


class TemplateVersion(Base):
    """Every text an override ever had, first number 1."""

    __tablename__ = "template_version"
    template_id: Mapped[str] = mapped_column(ForeignKey("template_override.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    body: Mapped[str | None] = mapped_column(Text)
    note: Mapped[str] = mapped_column(String(400), default="")
    written_by: Mapped[str] = mapped_column(String(320))
    written_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)


class Rollout(Audited, Versioned, Stamped, Base):
    """A change of a template or of settings that some phones get before the rest."""

    __tablename__ = "rollout"
    resource_type = "rollout"
    unaudited_columns = frozenset({"counts", "asked_at"})
    unversioned_columns = frozenset({"counts", "asked_at"})
    __table_args__ = (Index("ix_rollout_account_state", "account_id", "state"),)
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(20))  # template | settings
    target: Mapped[str] = mapped_column(String(120))  # "<vendor>/<template>", or the name of a settings level
    change: Mapped[dict[str, Any]] = mapped_column(Json, default=dict)  # {"before": ..., "after": ...}
    canary: Mapped[list[str]] = mapped_column(Json, default=list)  # phone ids
    state: Mapped[str] = mapped_column(String(20), default=RolloutState.CANARY)
    reason: Mapped[str] = mapped_column(String(400), default="")  # why it was rolled back
    counts: Mapped[dict[str, Any]] = mapped_column(Json, default=dict)  # {"fetched", "failed", "phones"}
    limits: Mapped[dict[str, Any]] = mapped_column(Json, default=dict)  # provisioning.rollout.Limits, and "revision"
    started_by: Mapped[str] = mapped_column(String(320))
    started_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    asked_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)  # the phones concerned by its end, to fetch


class Lease(Base):
    """A duty that one node at a time has, such as watching roll-outs; another may take it when `until` has passed."""

    __tablename__ = "lease"
    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    holder: Mapped[str] = mapped_column(Id)
    until: Mapped[dt.datetime] = mapped_column(UtcDateTime)


class BackgroundRun(Base):
    """How far a dry run or a resync of many phones is, as its node last said. `facts`: numbers and words."""

    __tablename__ = "background_run"
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(20))  # provisioning.runs.RunKind
    node: Mapped[str] = mapped_column(String(80))
    state: Mapped[str] = mapped_column(String(20))
    facts: Mapped[dict[str, Any]] = mapped_column(Json, default=dict)
    wants_end: Mapped[bool] = mapped_column(default=False)
    started_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    seen_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)


class FetchedFile(Base):
    """What a phone was last given under a name, its secrets masked, so that the next can be compared with it."""

    __tablename__ = "fetched_file"
    phone_id: Mapped[str] = mapped_column(ForeignKey("phone.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    etag: Mapped[str] = mapped_column(String(40))
    body: Mapped[bytes] = mapped_column(LargeBinary)  # zlib
    fetched_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)


class Contact(Audited, Versioned, Stamped, Base):
    """An entry of the phonebook that the account's phones show beside the account's own lines."""

    __tablename__ = "contact"
    resource_type = "contact"
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    number: Mapped[str] = mapped_column(String(100))


class Asset(Audited, Versioned, Stamped, Base):
    """A file served as it is: a logo, a firmware. Its bytes lie in the data folder under their SHA-256."""

    __tablename__ = "asset"
    resource_type = "asset"
    __table_args__ = (UniqueConstraint("account_id", "name"),)
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(100))  # as phones ask for it
    kind: Mapped[str] = mapped_column(String(20))
    vendor: Mapped[str] = mapped_column(String(30), default="")  # empty: for any
    models: Mapped[list[str]] = mapped_column(Json, default=list)  # empty: for any of that vendor
    firmware: Mapped[str] = mapped_column(String(40), default="")  # its version, where it is a firmware
    content_type: Mapped[str] = mapped_column(String(100), default="application/octet-stream")
    size_bytes: Mapped[int] = mapped_column(Integer)
    sha256: Mapped[str] = mapped_column(String(64))


class AuditEntry(Base):
    """One entry of an account's chain, or of the platform's. `entry` holds the exact text that was hashed.

    The other columns are copies for filters. INSERT only: triggers refuse UPDATE and DELETE.
    """

    __tablename__ = "audit_entry"
    __table_args__ = (
        UniqueConstraint("chain", "seq"),
        UniqueConstraint("chain", "prev_hash"),  # a fork cannot be stored
        Index("ix_audit_entry_chain_event", "chain", "event", "seq"),
        Index("ix_audit_entry_chain_resource", "chain", "resource_id", "seq"),
        Index("ix_audit_entry_chain_actor", "chain", "actor_id", "seq"),
        Index("ix_audit_entry_chain_actor_name", "chain", "actor_name", "seq"),
        Index("ix_audit_entry_chain_category", "chain", "category", "seq"),
        Index("ix_audit_entry_chain_outcome", "chain", "outcome", "seq"),
        Index("ix_audit_entry_chain_ip", "chain", "ip", "seq"),
        Index("ix_audit_entry_chain_at", "chain", "at"),
        CheckConstraint("outcome in ('success', 'failure', 'denied')", name="outcome"),
    )
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    chain: Mapped[str] = mapped_column(Id)  # an account's id, or "platform"
    seq: Mapped[int] = mapped_column(Integer)
    at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    event: Mapped[str] = mapped_column(String(60))
    category: Mapped[str] = mapped_column(String(30))
    access: Mapped[str] = mapped_column(String(5))  # read | write
    verb: Mapped[str] = mapped_column(String(20))
    outcome: Mapped[str] = mapped_column(String(10))
    actor_type: Mapped[str] = mapped_column(String(20))
    actor_id: Mapped[str] = mapped_column(String(80))
    actor_name: Mapped[str] = mapped_column(String(320))
    resource_type: Mapped[str] = mapped_column(String(40))
    resource_id: Mapped[str] = mapped_column(String(80))
    ip: Mapped[str] = mapped_column(String(45))
    entry: Mapped[str] = mapped_column(Text)
    prev_hash: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))


class AuditCheckpoint(Base):
    """A signed statement of what a chain's head was: `text` is what was signed with Ed25519. INSERT only."""

    __tablename__ = "audit_checkpoint"
    __table_args__ = (Index("ix_audit_checkpoint_chain", "chain", "seq"),)  # several of one head are harmless
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    chain: Mapped[str] = mapped_column(Id)
    seq: Mapped[int] = mapped_column(Integer)
    hash: Mapped[str] = mapped_column(String(64))
    at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    text: Mapped[str] = mapped_column(Text)
    public_key: Mapped[str] = mapped_column(String(64))
    signature: Mapped[str] = mapped_column(String(128))


class SavedView(Audited, Stamped, Base):
    """Filters of the audit log under a name: somebody's own, or shared with all of the account who may read it."""

    __tablename__ = "audit_view"
    resource_type = "audit_view"
    __table_args__ = (UniqueConstraint("account_id", "owner_id", "name"),)
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    owner_id: Mapped[str] = mapped_column(Id)  # a user or an API key
    owner_name: Mapped[str] = mapped_column(String(320), default="")
    name: Mapped[str] = mapped_column(String(80))
    query: Mapped[str] = mapped_column(Text)  # as it stands in the page's address
    is_shared: Mapped[bool] = mapped_column(default=False)


class Anomaly(Audited, Stamped, Base):
    """Something in the logs that is unlike this account: what, whose, from where, and by what it was noticed.

    The `mail_*` columns are its outbox: who has still to be told, and when the next try is due.
    """

    __tablename__ = "anomaly"
    resource_type = "anomaly"
    unaudited_columns = frozenset(
        {"mail_to", "mail_tries", "mail_next_at", "mail_claimed_until", "mail_error", "mailed_at"}
    )
    __table_args__ = (
        UniqueConstraint("account_id", "key"),
        Index("ix_anomaly_account_id", "account_id", "id"),
        Index("ix_anomaly_mail_next_at", "mail_next_at"),
    )
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(40))  # audit.anomalies.AnomalyKind
    key: Mapped[str] = mapped_column(String(200))  # the same for the same act: a hint is given once
    at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    actor_id: Mapped[str] = mapped_column(String(80), default="")
    actor_name: Mapped[str] = mapped_column(String(320), default="")
    ip: Mapped[str] = mapped_column(String(45), default="")
    headline: Mapped[str] = mapped_column(Text)
    evidence: Mapped[list[str]] = mapped_column(Json, default=list)
    query: Mapped[str] = mapped_column(Text)  # of the audit log: the entries it rests on
    dismissed_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    dismissed_by: Mapped[str] = mapped_column(String(320), default="")
    mail_to: Mapped[list[str]] = mapped_column(Json, default=list)
    mail_tries: Mapped[int] = mapped_column(Integer, default=0)
    mail_next_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    mail_claimed_until: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    mail_error: Mapped[str] = mapped_column(Text, default="")
    mailed_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)


class AnomalyPosition(Base):
    """How far an account's chain has been looked through for what is unlike it."""

    __tablename__ = "anomaly_position"
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(Integer)


class KeptAnswer(Base):
    """The answer to one request with an Idempotency-Key. `key_hash`: SHA-256 over who asked and the key."""

    __tablename__ = "kept_answer"
    key_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    request_hash: Mapped[str] = mapped_column(String(64))  # SHA-256 over method, path and body
    status: Mapped[int] = mapped_column(Integer)
    headers: Mapped[str | None] = mapped_column(Sealed("kept_answer.headers"))
    body: Mapped[str | None] = mapped_column(Sealed("kept_answer.body"))
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, index=True)


class JournalPosition(Base):
    """How far the edge's journal has been put into the database; moved in the transaction that records its entries."""

    __tablename__ = "journal_position"
    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    position: Mapped[str] = mapped_column(Text)


def _refusals(table: str) -> tuple[TextClause, ...]:
    return tuple(
        text(
            f"CREATE TRIGGER IF NOT EXISTS {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
            "BEGIN SELECT RAISE(ABORT, 'audit entries are never changed'); END"
        )
        for verb in ("UPDATE", "DELETE")
    )


AUDIT_IMMUTABLE_SQLITE = _refusals("audit_entry")
CHECKPOINT_IMMUTABLE_SQLITE = _refusals("audit_checkpoint")

# What finds audit entries among ten million of one account (docs/decisions/0024). A row's number there is the chain's
# number times 2^40 plus the entry's: so one range is one account, newest last. Both tables keep no text, only where it
# stands. `body`: every stored value and the names of changed fields, in trigrams. `facet`: a letter and the value in
# hex for each thing that is looked for as a whole.
_VALUES = (
    "SELECT group_concat(coalesce(atom, key), char(10)) FROM json_tree({row}.entry) "
    "WHERE atom IS NOT NULL OR path = '$.changes'"
)
_FACETS = (
    "'e' || hex({row}.event) || ' o' || hex({row}.outcome) || ' c' || hex({row}.category) || ' x' || hex({row}.access) "
    "|| ' v' || hex({row}.verb) || ' a' || hex({row}.actor_id) || ' n' || hex({row}.actor_name) "
    "|| ' r' || hex({row}.resource_id) || ' t' || hex({row}.resource_type) || ' i' || hex({row}.ip)"
)
_PLACE = "(SELECT number << 40 FROM audit_search_chain WHERE chain = {row}.chain) + {row}.seq"


def _filled(row: str) -> tuple[str, str]:
    place, values, facets = (part.format(row=row) for part in (_PLACE, _VALUES, _FACETS))
    return (
        f"INSERT INTO audit_search_text (rowid, body, ip) SELECT {place}, ({values}), {row}.ip",
        f"INSERT INTO audit_search_facet (rowid, facet) SELECT {place}, {facets}",
    )


_CHAIN_NUMBERED = (
    "INSERT INTO audit_search_chain (chain) SELECT NEW.chain "
    "WHERE NOT EXISTS (SELECT 1 FROM audit_search_chain WHERE chain = NEW.chain)"
)
_STEPS = "; ".join((_CHAIN_NUMBERED, *_filled("NEW")))
AUDIT_SEARCH_TRIGGER_SQLITE = f"CREATE TRIGGER audit_entry_search AFTER INSERT ON audit_entry BEGIN {_STEPS}; END"
AUDIT_OWED_SQLITE = (  # entries of large operations are put into the indexes later: see `engine.audit.owed`
    "CREATE TABLE IF NOT EXISTS audit_search_owed "
    "(chain VARCHAR(48) NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, UNIQUE (chain, first))"
)
AUDIT_SEARCH_ADD_SQLITE = (  # the entries `:first` to `:last` of `:chain`
    (
        "INSERT INTO audit_search_chain (chain) SELECT :chain "
        "WHERE NOT EXISTS (SELECT 1 FROM audit_search_chain WHERE chain = :chain)"
    ),
    *(
        f"{statement} FROM audit_entry AS kept WHERE kept.chain = :chain AND kept.seq BETWEEN :first AND :last "
        "ORDER BY kept.seq"
        for statement in _filled("kept")
    ),
)
AUDIT_SEARCH_SQLITE = (
    "CREATE TABLE audit_search_chain (number INTEGER PRIMARY KEY, chain VARCHAR(48) NOT NULL UNIQUE)",
    "CREATE VIRTUAL TABLE audit_search_text USING fts5(body, ip, content='', columnsize=0, tokenize='trigram')",
    "CREATE VIRTUAL TABLE audit_search_facet USING fts5(facet, content='', columnsize=0, detail=none, tokenize=ascii)",
    AUDIT_SEARCH_TRIGGER_SQLITE,
    AUDIT_OWED_SQLITE,
    *(  # decision 0031: no commit merges what grew for months; `engine.audit.merging` does, step by step
        f"INSERT INTO audit_search_{name} (audit_search_{name}, rank) VALUES ('{option}', {value})"  # noqa: S608
        for name in ("text", "facet")
        for option, value in (("automerge", 0), ("crisismerge", 400), ("usermerge", 8))
    ),
)
_FLUSH = "INSERT INTO audit_search_text (audit_search_text, rank) VALUES ('hashsize', {size})"
AUDIT_SEARCH_FILL_SQLITE = (  # for entries that were there before; much in memory at once is four times as fast
    _FLUSH.format(size=64 << 20),
    "INSERT INTO audit_search_chain (chain) SELECT DISTINCT chain FROM audit_entry",
    *(f"{statement} FROM audit_entry AS kept ORDER BY kept.chain, kept.seq" for statement in _filled("kept")),
    _FLUSH.format(size=1 << 20),
    *(f"INSERT INTO {name} ({name}) VALUES ('optimize')" for name in ("audit_search_text", "audit_search_facet")),  # noqa: S608
)
AUDIT_TRIGRAMS_POSTGRESQL = (  # decision 0031; neither a missing extension nor a missing right to make it is an error
    (
        "DO $$ BEGIN CREATE EXTENSION IF NOT EXISTS pg_trgm; "
        "EXCEPTION WHEN OTHERS THEN RAISE NOTICE 'pg_trgm: %', SQLERRM; END $$"
    ),
    (
        "DO $$ BEGIN IF EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm') THEN "
        "EXECUTE 'CREATE INDEX ix_audit_entry_entry_trigram ON audit_entry USING gin (entry gin_trgm_ops)'; "
        "EXECUTE 'CREATE INDEX ix_audit_entry_ip_trigram ON audit_entry USING gin (ip gin_trgm_ops)'; END IF; END $$"
    ),
)
