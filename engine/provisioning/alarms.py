"""What needs a person about an account's phones, in one list for pages, mail and metrics (pure)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class AlarmKind(StrEnum):
    """The kinds, the most urgent first. Names are stored in links and metrics."""

    NO_REGISTRAR = "no_registrar"  # none of its lines has a PBX with a registrar: it calls nobody
    NO_LOCATION = "no_location"  # its 911 calls would carry no address
    QUARANTINED = "quarantined"  # it says it is another model than the one kept
    RENDERING_FAILED = "rendering_failed"  # its file cannot be made; it keeps what it has
    ROLLOUT_STOPPED = "rollout_stopped"  # a roll-out was taken back by itself
    STRAGGLERS = "stragglers"  # still asks with a token that was rotated away


COUNT_CAP = 10_000  # counting further tells nobody anything; one more of a kind means `more`
OF_PHONES = (
    AlarmKind.NO_REGISTRAR, AlarmKind.NO_LOCATION, AlarmKind.QUARANTINED, AlarmKind.RENDERING_FAILED,
    AlarmKind.STRAGGLERS,
)  # fmt: skip
_ONE = {
    AlarmKind.NO_REGISTRAR: "{} registers nowhere and cannot dial 911: the PBX of its lines has no registrar host. Set"
    " it on the PBX.",
    AlarmKind.NO_LOCATION: "{} has no address: a 911 call from it reaches a dispatcher who does not know where to send"
    " help. Give it a location.",
    AlarmKind.QUARANTINED: "{} says it is another model than the one kept here and is served nothing new. Look at it.",
    AlarmKind.RENDERING_FAILED: "{}: its configuration cannot be made as it should be. It gets the last good, an"
    " earlier or the shipped one in its place, or keeps what it has; none holds 911 up.",
    AlarmKind.STRAGGLERS: "{} still asks with a provisioning URL that was rotated away. Give it the new one.",
}
_MANY = {  # what there is of one and of many, and what it means for one and for many
    AlarmKind.NO_REGISTRAR: (
        "phone registers nowhere",
        "phones register nowhere",
        "it cannot dial 911",
        "they cannot dial 911",
    ),
    AlarmKind.NO_LOCATION: (
        "phone has no address",
        "phones have no address",
        "its 911 calls name no place",
        "their 911 calls name no place",
    ),
    AlarmKind.QUARANTINED: (
        "phone is quarantined",
        "phones are quarantined",
        "it says it is another model than the one kept",
        "they say they are other models than those kept",
    ),
    AlarmKind.RENDERING_FAILED: (
        "configuration of a phone cannot be made",
        "configurations of phones cannot be made",
        "the phone gets an earlier or the shipped one in its place, or keeps what it has",
        "the phones get an earlier or the shipped one in its place, or keep what they have",
    ),
    AlarmKind.ROLLOUT_STOPPED: (
        "roll-out was stopped",
        "roll-outs were stopped",
        "it was taken back when fetches failed",
        "they were taken back when fetches failed",
    ),
    AlarmKind.STRAGGLERS: (
        "phone asks with an old URL",
        "phones ask with an old URL",
        "it keeps what it has until it is given the new one",
        "they keep what they have until they are given the new one",
    ),
}


@dataclass(frozen=True, slots=True)
class Alarm:
    """One thing to look at. `text`: a sentence; `href`: the page that shows it; `phone_id` None: no single phone's.

    `count`: how many phones or roll-outs it stands for; `name`: the phone's label or MAC.
    """

    kind: AlarmKind
    phone_id: str | None
    text: str
    href: str
    count: int = 1
    name: str = ""


def of_phone(kind: AlarmKind, phone_id: str, name: str) -> Alarm:
    """The alarm of one phone; `name`: its label or MAC."""
    return Alarm(kind, phone_id, _ONE[kind].format(name), f"/phones/{phone_id}", name=name)


def of_rollout(rollout_id: str, target: str, reason: str) -> Alarm:
    """The alarm of a roll-out that was taken back by itself. It stands until the same is rolled out anew."""
    text = f"The roll-out of {target} was taken back: {reason}"
    return Alarm(AlarmKind.ROLLOUT_STOPPED, None, text, f"/phones/rollouts/{rollout_id}", name=f"{target}: {reason}")


def summed(counts: Mapping[AlarmKind, int]) -> tuple[Alarm, ...]:
    """One alarm for each kind that is there, the most urgent first: what a page shows of any number of phones."""
    return tuple(_sum(kind, counts[kind]) for kind in AlarmKind if counts.get(kind))


ADVICE = {
    AlarmKind.NO_REGISTRAR: "Name the registrar host of the PBX that their lines belong to, in Settings.",
    AlarmKind.NO_LOCATION: "Give each a location, or its line, its network or its PBX. They dial 911 all the same.",
    AlarmKind.QUARANTINED: "Look whether each is the phone it should be; then let it back in on its page.",
    AlarmKind.RENDERING_FAILED: "The page of each phone says why, and what to correct.",
    AlarmKind.ROLLOUT_STOPPED: "Its page says which phones failed, and on what.",
    AlarmKind.STRAGGLERS: "Give each the new provisioning URL: by DHCP, the redirect service or its menu.",
}


def texts(alarms: Iterable[Alarm]) -> list[str]:
    """The sentences alone, for a mail or a log."""
    return [alarm.text for alarm in alarms]


def _sum(kind: AlarmKind, count: int) -> Alarm:
    one, many, meaning_of_one, meaning_of_many = _MANY[kind]
    number = f"More than {COUNT_CAP:,}" if count > COUNT_CAP else f"{count:,}"
    text = f"1 {one}: {meaning_of_one}." if count == 1 else f"{number} {many}: {meaning_of_many}."
    href = f"/phones/alarms#{kind}"
    return Alarm(kind, None, text, href, count)
