"""What `callpoint doctor` found: one thing looked at, how it stands, what to do."""

from dataclasses import dataclass

_MARKS = {"good": ("ok  ", "green"), "warning": ("warn", "yellow"), "bad": ("BAD ", "red")}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `level` is good, warning or bad; a bad one endangers 911 calls or their record."""

    what: str
    level: str
    detail: str

    @property
    def mark(self) -> str:
        return _MARKS[self.level][0]

    @property
    def colour(self) -> str:
        return _MARKS[self.level][1]

    @property
    def is_bad(self) -> bool:
        return self.level == "bad"

    def as_json(self) -> dict[str, str]:
        return {"what": self.what, "level": self.level, "detail": self.detail}
