"""The bootstrap: the one file that tells a phone its provisioning URL, for phones that know TFTP or a bare HTTP server
alone (pure).

Theory of operation. Neither way proves anything: whoever can send from an account's addresses can read the URL, token
and all. So nothing but the URL is ever in a bootstrap file; only an account that has named its address ranges in its
provisioning policy has one; an asker in the ranges of two accounts, or of none, gets nothing; and answers are paced.
"""

import re
import tomllib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from engine.provisioning import dhcp
from engine.provisioning.policy import Policy
from engine.provisioning.vendors import Profile

_ENGINE = Path(__file__).parent.parent
FOLDERS = (_ENGINE / "_templates" / "bootstrap", _ENGINE.parent / "templates" / "bootstrap")
MAX_NAME = 100
_NAME = re.compile(r"/?(?P<name>[A-Za-z0-9._-]{1,100})\Z")
_MAC = r"(?P<mac>(?!0{9})[0-9A-Fa-f]{12})"


@dataclass(frozen=True, slots=True)
class Holder:
    """An account that may be asked for a bootstrap: its policy, and what makes its URL."""

    account_id: str
    policy: Policy
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Rule:
    """A family's file: the names it is asked by, and its template."""

    vendor: str
    names: tuple[re.Pattern[str], ...]
    template: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A file that there is: whose family's, by which template; `mac`: as the name has it, "" when it has none."""

    name: str
    vendor: str
    template: str
    mac: str
    content_type: str
    ends_in_crlf: bool = False


def holder_for(address: str, holders: Iterable[Holder]) -> Holder | None:
    """The only account whose ranges hold that address. An account that has named none is never it."""
    found = [each for each in holders if each.policy.sources and each.policy.allows_source(address)]
    return found[0] if len(found) == 1 else None


def asked_for(path: str, profiles: Mapping[str, Profile]) -> Asked | None:
    """The file of that name, with at most one slash before it; None: there is none, or two families ask by it."""
    given = _NAME.match(path)
    if given is None:
        return None
    name, found = given["name"], []
    for rule in rules():
        match = next((match for pattern in rule.names if (match := pattern.fullmatch(name)) is not None), None)
        if match is not None and rule.vendor in profiles:
            found.append((rule, (match.groupdict().get("mac") or "").lower()))
    if len(found) > 1:
        found = [(rule, mac) for rule, mac in found if mac[:6] in profiles[rule.vendor].ouis]
    if len(found) != 1:
        return None
    rule, mac = found[0]
    profile = profiles[rule.vendor]
    return Asked(name, rule.vendor, rule.template, mac, profile.content_type, profile.ends_in_crlf)


def render(asked: Asked, url: str) -> bytes:
    """The file's bytes.

    Args:
        url: The account's provisioning URL, with a slash at its end.

    Raises:
        Invalid: the URL holds what a phone could read as something else.
    """
    dhcp.checked(url)
    text = _environment().get_template(asked.template).render(url=url, mac=asked.mac)
    return (text.replace("\n", "\r\n") if asked.ends_in_crlf else text).encode()


@cache
def rules() -> tuple[Rule, ...]:
    """Every family's files, as `templates/bootstrap/bootstrap.toml` has them."""
    stored = tomllib.loads((_folder() / "bootstrap.toml").read_text())["files"]
    return tuple(
        Rule(each["vendor"], tuple(re.compile(name.replace("{mac}", _MAC)) for name in each["names"]), each["template"])
        for each in stored
    )


@dataclass(frozen=True, slots=True)
class Menu:
    """How a family is told by hand: `where` in its own pages, what to `enter`, and its vendor's `redirect` service."""

    name: str
    title: str
    where: str
    enter: str
    redirect: str


def menus(url: str, profiles: Iterable[Profile]) -> tuple[Menu, ...]:
    """Those of each family for that provisioning URL. Raises as `render`."""
    dhcp.checked(url)
    parts = {"url": url, "bare": url.rstrip("/"), "rest": url.split("://", 1)[1].rstrip("/")}
    known = _menus()
    return tuple(
        Menu(one.name, one.title, said["where"], said["enter"].format_map(parts), said["redirect"])
        for one in sorted(profiles, key=lambda profile: profile.title.lower())
        if (said := known.get(one.name)) is not None
    )


@cache
def _menus() -> Mapping[str, Mapping[str, str]]:
    return tomllib.loads((_folder() / "menus.toml").read_text())


@dataclass(slots=True)
class Pace:
    """How often one address, and all together, are answered: `burst` at once, then `per_s`. Bounded in memory.

    A site behind one address asks with all its phones after a power cut, each for up to ten names.
    """

    per_s: float = 20.0
    burst: float = 500.0
    all_per_s: float = 200.0
    all_burst: float = 2000.0
    most: int = 4096  # addresses remembered, least recently seen forgotten first
    _left: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)
    _all: tuple[float, float] | None = None

    def takes(self, address: str, now: float) -> bool:
        """Whether one more answer to that address is in order at that second of a steady clock."""
        left, at = self._left.pop(address, (self.burst, now))
        left = min(self.burst, left + (now - at) * self.per_s)
        everyone, since = self._all or (self.all_burst, now)
        everyone = min(self.all_burst, everyone + (now - since) * self.all_per_s)
        is_good = left >= 1 and everyone >= 1
        self._left[address] = (left - is_good, now)
        self._all = (everyone - is_good, now)
        while len(self._left) > self.most:
            self._left.popitem(last=False)
        return is_good


def _folder() -> Path:
    return next((candidate for candidate in FOLDERS if candidate.is_dir()), FOLDERS[-1])


@cache
def _environment() -> Environment:
    return Environment(  # noqa: S701 - the URL was checked: no character of it means anything in any of the formats
        loader=FileSystemLoader(_folder()),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
