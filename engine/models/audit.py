"""The audit log: chains of entries, signed checkpoints of their heads, saved views, and what was noticed in them."""

import datetime as dt

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from engine.db import Base, UtcDateTime
from engine.models.base import Audited, Id, Json, Stamped


class AuditEntry(Base):
    """One entry of an account's chain, or of the platform's. `entry` holds the exact text that was hashed.

    The other columns are copies for filters. INSERT only: triggers refuse UPDATE, and DELETE of
    what a beginning has not left behind.
    """

    __tablename__ = "audit_entry"
    __table_args__ = (
        UniqueConstraint("chain", "seq"),  # and a trigger: each follows the one before, so a fork cannot be stored
        Index("ix_audit_entry_chain_event", "chain", "event", "seq"),
        Index("ix_audit_entry_chain_resource", "chain", "resource_id", "seq"),
        Index("ix_audit_entry_chain_actor", "chain", "actor_id", "seq"),
        Index("ix_audit_entry_chain_actor_name", "chain", "actor_name", "seq"),
        # walked down on PostgreSQL alone: SQLite finds these by its second index (docs/decisions/0024)
        Index("ix_audit_entry_chain_category", "chain", "category", "seq").ddl_if(dialect="postgresql"),
        Index("ix_audit_entry_chain_outcome", "chain", "outcome", "seq").ddl_if(dialect="postgresql"),
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


class AuditBeginning(Base):
    """Behind which entry a chain begins since older ones were removed: the newest row of the chain counts. INSERT only.

    `text` is what was signed with Ed25519. `until`: the time of the last entry removed. Entries up to `seq` are no part
    of the log any more, whether their rows are still there or not; triggers let no other entry be deleted.
    """

    __tablename__ = "audit_beginning"
    __table_args__ = (UniqueConstraint("chain", "seq"),)
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    chain: Mapped[str] = mapped_column(Id)
    seq: Mapped[int] = mapped_column(Integer)
    hash: Mapped[str] = mapped_column(String(64))
    until: Mapped[dt.datetime] = mapped_column(UtcDateTime)
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
