"""Phones, the lines on their keys, and the contacts that they show."""

import datetime as dt
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, Index, Integer, String, UniqueConstraint, case, func, select
from sqlalchemy.orm import Mapped, mapped_column

from engine.db import Base, Sealed, UtcDateTime
from engine.models.accounts import Revision
from engine.models.base import Audited, Id, Json, Stamped, Versioned, only_where


class PhoneStatus(StrEnum):
    NEVER_BOOTED = "never_booted"
    CURRENT = "current"
    STALE = "stale"
    FAILED = "failed"
    QUARANTINED = "quarantined"  # it says it is another model than the one kept: nothing is served until somebody looks


class Placement(StrEnum):
    """What 47 CFR § 9.16(b)(3) calls a device: the paragraph that says what its calls have to convey depends on it."""

    FIXED = "fixed"  # (i): on the premises, and nobody moves it
    NON_FIXED = "non_fixed"  # (ii): on the premises, and its user carries it about
    OFF_PREMISES = "off_premises"  # (iii): used elsewhere


_SHOWN = ("status", "vendor", "model", "location_id", "firmware")  # of a phone: what the filters of the list look at


class Phone(Audited, Versioned, Stamped, Base):
    __tablename__ = "phone"
    resource_type = "phone"
    _machine_columns = frozenset(
        {
            "status", "last_fetch_at", "last_ip", "last_user_agent", "firmware", "fetched_revision",
            "fetched_token_index", "straggled_at", "seen_vendor", "seen_model", "resync_result", "resync_at",
            "no_location_at", "home_ip", "elsewhere_at", "stale_revision",
        }
    )  # fmt: skip
    unaudited_columns = _machine_columns | {"network_location_id"}  # no administrator's, yet a phone's files say it
    unversioned_columns = _machine_columns | {"placement"}  # a word for reports: no file and no call depends on it
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
        Index("ix_phone_no_location", "account_id", "id", **only_where("no_location_at IS NOT NULL")),
        Index("ix_phone_straggled", "account_id", "id", **only_where("straggled_at IS NOT NULL")),
    )
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    mac: Mapped[str] = mapped_column(String(12))  # 12 lower-case hexadecimal digits
    vendor: Mapped[str] = mapped_column(String(30))
    model: Mapped[str] = mapped_column(String(40))
    label: Mapped[str] = mapped_column(String(200), default="")
    location_id: Mapped[str | None] = mapped_column(ForeignKey("location.id", ondelete="SET NULL"), index=True)
    settings: Mapped[dict[str, Any]] = mapped_column(Json, default=dict)
    placement: Mapped[str | None] = mapped_column(String(20))  # what somebody says it is; None: nobody has
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
    stale_revision: Mapped[int | None] = mapped_column(Integer)  # from which on its files are others: see `outdated`
    file_key: Mapped[str | None] = mapped_column(Sealed("phone.file_key"))  # what its files are encrypted with


def outdated() -> dict[str, Any]:
    """What an UPDATE sets on phones whose files are others once it is committed: one that holds the configuration of
    before is stale, all others stay what they are, and what any of them was given at an older revision is not the last.
    The account's revision moves by one in the same commit.
    """
    following = select(Revision.value + 1).where(Revision.account_id == Phone.account_id).scalar_subquery()
    status = case((Phone.status == PhoneStatus.CURRENT, PhoneStatus.STALE), else_=Phone.status)
    return {"status": status, "stale_revision": func.coalesce(following, 1)}


class OwedMark(Base):
    """A phone whose files are others from `revision` on, which its own row does not say yet: of a change that concerns
    very many phones (`engine.audit.store_outdated`).
    """

    __tablename__ = "phone_owed_mark"
    phone_id: Mapped[str] = mapped_column(Id, primary_key=True)  # no key of `phone`: one that is deleted is passed over
    revision: Mapped[int] = mapped_column(Integer)


class Line(Audited, Versioned, Stamped, Base):
    __tablename__ = "line"
    resource_type = "line"
    unversioned_columns = frozenset({"placement"})
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
    placement: Mapped[str | None] = mapped_column(String(20))  # of a device that is provisioned elsewhere


class PhoneLine(Audited, Versioned, Base):
    """Which line sits on which key of a phone, first key 1."""

    __tablename__ = "phone_line"
    resource_type = "phone"
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    phone_id: Mapped[str] = mapped_column(ForeignKey("phone.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[int] = mapped_column(Integer, primary_key=True)
    line_id: Mapped[str] = mapped_column(ForeignKey("line.id", ondelete="CASCADE"), index=True)


class Contact(Audited, Versioned, Stamped, Base):
    """An entry of the phonebook that the account's phones show beside the account's own lines."""

    __tablename__ = "contact"
    resource_type = "contact"
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    number: Mapped[str] = mapped_column(String(100))
