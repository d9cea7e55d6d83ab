"""Emergency calls and what follows from them: tries at trunks, callbacks, who is told."""

import datetime as dt
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, Index, Integer, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from engine.db import Base, Sealed, UtcDateTime, utc_now
from engine.models.base import Audited, Id, Json, Stamped, only_where


class CallKind(StrEnum):
    EMERGENCY = "emergency"
    TEST = "test"
    DRILL = "drill"  # staff are told and alerts ring; nothing was ever sent to a carrier


class Channel(StrEnum):
    """How somebody is told of a call."""

    EMAIL = "email"
    WEBHOOK = "webhook"
    CORRECTION = "correction"  # a second mail: what the first one said turned out otherwise
    WEBHOOK_CORRECTION = "webhook_correction"  # the same for a webhook
    ALL_CLEAR = "all_clear"  # a mail after one that said nobody had taken the call: somebody answered it
    WEBHOOK_ALL_CLEAR = "webhook_all_clear"
    CHAT = "chat"  # an SMS or a message of a chat service
    CHAT_CORRECTION = "chat_correction"
    CHAT_ALL_CLEAR = "chat_all_clear"
    CALLED_BACK = "called_back"  # a mail when a dispatcher's call back reached nobody
    WEBHOOK_CALLED_BACK = "webhook_called_back"
    CHAT_CALLED_BACK = "chat_called_back"
    ESCALATION = "escalation"  # a mail to those who are told when nobody acknowledges
    CHAT_ESCALATION = "chat_escalation"


MAILS = (Channel.EMAIL, Channel.CORRECTION, Channel.ALL_CLEAR, Channel.CALLED_BACK, Channel.ESCALATION)
WEBHOOKS = (Channel.WEBHOOK, Channel.WEBHOOK_CORRECTION, Channel.WEBHOOK_ALL_CLEAR, Channel.WEBHOOK_CALLED_BACK)
CHATS = (
    Channel.CHAT, Channel.CHAT_CORRECTION, Channel.CHAT_ALL_CLEAR, Channel.CHAT_CALLED_BACK, Channel.CHAT_ESCALATION,
)  # fmt: skip


class NotificationState(StrEnum):
    WAITING = "waiting"
    SENT = "sent"
    FAILED = "failed"


class EmergencyCall(Audited, Base):
    """A 911 or 933 call as it left: caller, location as conveyed, verdict, outcome."""

    __tablename__ = "emergency_call"
    resource_type = "call"
    # told by the carrier
    unaudited_columns = frozenset(
        {
            "outcome",
            "status_code",
            "answered_at",
            "ended_at",
            "trunk_id",
            "changed_at",
            "flags",
            "escalation_due_at",
            "escalations",
        }
    )
    __table_args__ = (
        Index("ix_emergency_call_account_sent", "account_id", "sent_at"),
        Index("ix_emergency_call_account_kind_sent", "account_id", "kind", "sent_at"),
        Index("ix_emergency_call_changed_at", "changed_at"),
        Index("ix_emergency_call_writer", "writer"),
        Index(
            "ix_emergency_call_open",
            "outcome",
            postgresql_where=text("ended_at IS NULL"),
            sqlite_where=text("ended_at IS NULL"),
        ),
        Index("ix_emergency_call_escalation", "escalation_due_at", **only_where("escalation_due_at IS NOT NULL")),
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
    writer: Mapped[str | None] = mapped_column(String(16))  # the process that carried it: e911.writers
    acknowledged_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    acknowledged_by: Mapped[str | None] = mapped_column(String(320))  # as they were called then
    acknowledged_by_id: Mapped[str | None] = mapped_column(String(80))
    acknowledgement_note: Mapped[str | None] = mapped_column(String(1000))
    escalation_due_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)  # of the next step; None: none is owed
    escalations: Mapped[list[dict[str, Any]]] = mapped_column(Json, default=list, server_default="[]")


class CallWriter(Base):
    """When the node of a SIP process with open calls signed last that it lives: `e911.silent_nodes`."""

    __tablename__ = "call_writer"
    name: Mapped[str] = mapped_column(String(16), primary_key=True)
    signed_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)


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
    channel: Mapped[str] = mapped_column(String(20), default=Channel.EMAIL)
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


class NotificationRecipient(Audited, Stamped, Base):
    """An account-level recipient of emergency notifications; a location carries its own list."""

    __tablename__ = "notification_recipient"
    resource_type = "account"
    __table_args__ = (UniqueConstraint("account_id", "email"),)
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    email: Mapped[str] = mapped_column(String(320))


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


class ChatRecipient(Audited, Stamped, Base):
    """Who is told of emergency calls by SMS or chat, besides the mails. `url` is the address as Apprise writes it; it
    holds the service's secrets, is sealed and never shown: `service` and `shown` are what people see of it.
    `location_id` None: of calls from everywhere. `tried_*`: the newest try, told by the courier.
    """

    __tablename__ = "chat_recipient"
    resource_type = "chat_recipient"
    unaudited_columns = frozenset({"tried_at", "tried_ok", "tried_words"})
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    location_id: Mapped[str | None] = mapped_column(ForeignKey("location.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    url: Mapped[str] = mapped_column(Sealed("chat_recipient.url"))
    service: Mapped[str] = mapped_column(String(80))
    shown: Mapped[str] = mapped_column(String(80))
    kinds: Mapped[list[str]] = mapped_column(Json, default=list)
    enabled: Mapped[bool] = mapped_column(default=True)
    tried_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    tried_ok: Mapped[bool | None] = mapped_column()
    tried_words: Mapped[str] = mapped_column(String(300), default="")


class EscalationPlan(Audited, Stamped, Base):
    """Who is told of a call that nobody acknowledges, step by step: `engine.e911.escalation`. No steps: nobody."""

    __tablename__ = "escalation_plan"
    resource_type = "escalation_plan"
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), unique=True)
    steps: Mapped[list[dict[str, Any]]] = mapped_column(Json, default=list)


class AlarmDismissal(Audited, Base):
    """An alarm of Home that somebody dismissed: what it rests on, up to `until`, is told no more."""

    __tablename__ = "alarm_dismissal"
    resource_type = "alarm"
    __table_args__ = (UniqueConstraint("account_id", "kind"),)
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(30))
    until: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    by: Mapped[str] = mapped_column(String(320), default="")
