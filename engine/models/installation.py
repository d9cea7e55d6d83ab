"""The installation's own: its mail server, who validates addresses for it, and what its nodes agree on."""

import datetime as dt
from typing import Any

from sqlalchemy import ForeignKey, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from engine.db import Base, Sealed, UtcDateTime
from engine.models.base import Audited, Id, Json, Stamped


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


class Lease(Base):
    """A duty that one node at a time has, such as watching roll-outs; another may take it when `until` has passed."""

    __tablename__ = "lease"
    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    holder: Mapped[str] = mapped_column(Id)
    until: Mapped[dt.datetime] = mapped_column(UtcDateTime)


class RemovalNote(Base):
    """What the removal of old records found last. `clock`: when the clock was believed last (`at`), and why it is not
    now; a chain: why nothing of its records leaves. Empty words: all is well.
    """

    __tablename__ = "removal_note"
    name: Mapped[str] = mapped_column(Id, primary_key=True)
    at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    words: Mapped[str] = mapped_column(Text)


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
