"""What phones are given: settings, templates, roll-outs of both, files, and the log of what was fetched."""

import datetime as dt
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ForeignKey, Index, Integer, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from engine.db import Base, UtcDateTime
from engine.models.base import Audited, Id, Json, Stamped, Versioned, only_where


class RolloutState(StrEnum):
    CANARY = "canary"  # some phones have it
    PUBLISHED = "published"  # all have it
    ROLLED_BACK = "rolled_back"
    CANCELLED = "cancelled"


class SettingsLevel(Audited, Versioned, Stamped, Base):
    """Settings of many phones: everywhere, of an account, of a location, of a model. `account_id` None: everywhere."""

    __tablename__ = "settings_level"
    resource_type = "settings"
    __table_args__ = (UniqueConstraint("account_id", "name"),)
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str | None] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(20))  # provisioning.merge.SourceKind
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
    __table_args__ = (
        Index("ix_rollout_account_state", "account_id", "state"),
        Index("ix_rollout_running", "account_id", "kind", "target", unique=True, **only_where("state = 'canary'")),
    )
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


class Asset(Audited, Versioned, Stamped, Base):
    """A file served as it is: a logo, a firmware. Its bytes lie in the data folder under their SHA-256."""

    __tablename__ = "asset"
    resource_type = "asset"
    __table_args__ = (UniqueConstraint("account_id", "name"),)
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(100))  # as phones ask for it
    kind: Mapped[str] = mapped_column(String(20))  # provisioning.assetfile.KINDS
    vendor: Mapped[str] = mapped_column(String(30), default="")  # empty: for any
    models: Mapped[list[str]] = mapped_column(Json, default=list)  # empty: for any of that vendor
    firmware: Mapped[str] = mapped_column(String(40), default="")  # its version, where it is a firmware
    content_type: Mapped[str] = mapped_column(String(100), default="application/octet-stream")
    size_bytes: Mapped[int] = mapped_column(Integer)
    sha256: Mapped[str] = mapped_column(String(64))


# What a person looks for in the log first, and a small part of it. Both databases take the index of these rows only for
# a question that says it in the same words, so it is written once.
REFUSED: Final = "kind IN ('denied', 'mismatch', 'failed', 'held_denied') AND (reason IS NULL OR reason <> 'absent')"


class ProvisioningEvent(Base):
    """The phones' fetch log: written in groups, never on a phone's request itself. The token is never in it."""

    __tablename__ = "provisioning_event"
    __table_args__ = (
        Index("ix_provisioning_event_phone", "phone_id", "id"),
        Index("ix_provisioning_event_account", "account_id", "id"),
        Index("ix_provisioning_event_at", "at"),
        Index("ix_provisioning_event_refused", "account_id", "id", **only_where(REFUSED)),
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


class FetchedFile(Base):
    """What a phone was last given under a name, its secrets masked, so that the next can be compared with it."""

    __tablename__ = "fetched_file"
    phone_id: Mapped[str] = mapped_column(ForeignKey("phone.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    etag: Mapped[str] = mapped_column(String(40))
    body: Mapped[bytes] = mapped_column(LargeBinary)  # zlib
    fetched_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    proof: Mapped[dict[str, Any] | None] = mapped_column(Json)  # of its dial plan: render.Proof; None: it holds none


class RetiredToken(Base):
    """A provisioning token that was rotated away: it opens nothing, and tells whose phone still asks with it."""

    __tablename__ = "retired_token"
    token_index: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    retired_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
