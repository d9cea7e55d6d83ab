"""How long and how far each measurement goes."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Plan:
    """The full run, unless said otherwise. `most_calls_per_s` bounds the search.

    `step_s`: of each rate tried. The calls of one second fit into queues and buffers: an element that had held a rate
    for so long refused calls at half of it within five.
    """

    step_s: float = 3.0
    sustain_s: float = 30.0
    front_rounds: int = 5
    most_calls_per_s: float = 20_000
    emergency_s: float = 30.0
    mails: int = 200
    http_s: float = 10.0
    http_rounds: int = 3
    fresh_s: float = 3.0
    fresh_phones: int = 15_000  # more than are asked for in that time, or the run is void
    starts: int = 5
    storm_phones: int = 10_000
    list_phones: int = 100_000
    audit_entries: int = 10_000_000
    audit_folder: Path | None = None  # keeps the filled databases; None: they go when they were measured
    audit_backend: str = ""  # `sqlite` or `postgresql`; empty: both
    audit_pieces: tuple[str, ...] = ()  # of what is measured there; empty: all of it
    is_only_filled: bool = False


QUICK = Plan(
    sustain_s=4.0,
    front_rounds=3,
    emergency_s=5.0,
    mails=40,
    http_s=3.0,
    http_rounds=1,
    fresh_s=1.0,
    fresh_phones=5_000,
    starts=2,
    storm_phones=3_000,
    list_phones=20_000,
    audit_entries=300_000,
)
GENTLE = Plan(
    step_s=1.0,
    sustain_s=2.0,
    front_rounds=1,
    most_calls_per_s=500,
    emergency_s=3.0,
    mails=10,
    http_s=1.0,
    http_rounds=1,
    fresh_s=1.0,
    fresh_phones=5_000,
    starts=1,
    storm_phones=300,
    list_phones=2_000,
    audit_entries=20_000,
)
