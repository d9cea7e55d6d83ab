"""What calls come from and go to: PBXs, trunks, and the numbers that a PSAP can call back."""

import datetime as dt
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from engine.db import Base, Sealed, UtcDateTime
from engine.models.base import Audited, Id, Json, Stamped, Versioned, only_where


class Transport(StrEnum):
    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


class LocationMode(StrEnum):
    VALUE = "value"
    REFERENCE = "reference"
    BOTH = "both"
    NONE = "none"


class NumberKind(StrEnum):
    DIRECT = "direct"
    ELIN = "elin"


class Pbx(Audited, Versioned, Stamped, Base):
    __tablename__ = "pbx"
    resource_type = "pbx"
    __table_args__ = (  # either names one PBX, and with it one account
        Index("ix_pbx_tls_name", "tls_name", unique=True, **only_where("tls_name <> ''")),
        Index("ix_pbx_auth_user", "auth_user", unique=True, **only_where("auth_user <> ''")),
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
    pings: Mapped[bool] = mapped_column(default=True)  # whether OPTIONS asks if it lives
    is_up: Mapped[bool | None] = mapped_column()  # what the SIP process last said; it routes by what it knows itself
    checked_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)


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
