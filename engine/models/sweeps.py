"""Test calls: what 933 last showed of each location, and the rounds that test them all."""

import datetime as dt
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from engine.db import Base, UtcDateTime
from engine.models.base import Audited, Id, Stamped, only_where


class Cadence(StrEnum):
    """How often all locations of an account are tested with 933."""

    OFF = "off"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


class SweepState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


class LocationTest(Base):
    """What 933 calls last showed of a location: when one went out with its address as it is and was answered, and the
    latest try of a sweep or of a person, whatever came of it.
    """

    __tablename__ = "location_test"
    location_id: Mapped[str] = mapped_column(ForeignKey("location.id", ondelete="CASCADE"), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    passed_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    passed_call_id: Mapped[str | None] = mapped_column(Id, index=True)
    tried_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    passed_before_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)  # with an address it has no more
    tried_call_id: Mapped[str | None] = mapped_column(Id, index=True)
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
        Index("ix_sweep_running", "state", **only_where("state = 'running'")),
    )
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    state: Mapped[str] = mapped_column(String(20), default=SweepState.RUNNING)
    started_by: Mapped[str] = mapped_column(String(320))
    tells: Mapped[bool] = mapped_column(default=True)
    locations: Mapped[int] = mapped_column(Integer, default=0)  # how many there were to test when it began
    passed: Mapped[int] = mapped_column(Integer, default=0)
    failed: Mapped[int] = mapped_column(Integer, default=0)
    skipped: Mapped[int] = mapped_column(Integer, default=0)  # nothing there can call, or there is no test line
    started_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
