"""Places: locations, and by what a phone is known to be at one."""

import datetime as dt
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from engine.db import Base, UtcDateTime
from engine.models.base import Audited, Id, Json, Stamped, Versioned


class LocationStatus(StrEnum):
    DRAFT = "draft"
    VALIDATED = "validated"
    REJECTED = "rejected"


class NetworkKind(StrEnum):
    SUBNET = "subnet"
    BSSID = "bssid"
    SWITCH = "switch"
    SWITCH_PORT = "switch_port"


class SightingSource(StrEnum):
    HELD = "held"
    API = "api"
    SNMP = "snmp"


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
    # what carriers knew another address by: never sent, kept to tell which carrier wants to be given this one
    outdated_carrier_ids: Mapped[dict[str, str]] = mapped_column(Json, default=dict, server_default="{}")
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
