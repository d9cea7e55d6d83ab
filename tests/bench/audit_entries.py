"""Audit entries for the benchmark: years of one account, with right hashes, from one generator for every database."""

import datetime as dt
import json
import random
from collections.abc import Iterator
from hashlib import sha256

from engine.audit.events import FACTS, Event
from engine.audit.record import GENESIS, canonical

GENERATION = 2  # raised whenever other entries come out: databases that were kept no longer fit
BEGAN = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
STEP = dt.timedelta(seconds=3)
BATCH = 50_000
COLUMNS = (
    "id", "chain", "seq", "at", "event", "category", "access", "verb", "outcome", "actor_type", "actor_id",
    "actor_name", "resource_type", "resource_id", "ip", "entry", "prev_hash", "hash",
)  # fmt: skip
Row = tuple[str | int, ...]
_PEOPLE = [(f"user_{number:026d}", f"person{number}@example.com") for number in range(200)]
_PHONES = [(f"phone_{number:026d}", f"{0x001565000000 + number * 7:012x}") for number in range(20_000)]
_EVENTS = [  # but for the one that says that times begin anew: here they do not
    (one.value, FACTS[one].category.value, FACTS[one].access.value, FACTS[one].verb)
    for one in Event
    if one is not Event.CLOCK_SET_BACK
]
_AGENT = "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"


def rows_of(chain: str, count: int) -> Iterator[Row]:
    """The first entries of that chain, oldest first, as values of COLUMNS; times as SQLite keeps them."""
    head = GENESIS
    for first in range(1, count + 1, BATCH):
        rows = batch_of(chain, first, min(BATCH, count - first + 1), head)
        head = str(rows[-1][-1])
        yield from rows


def batch_of(chain: str, first: int, count: int, prev_hash: str) -> list[Row]:
    """The entries from number `first` on, behind that hash: the same each time, whatever was made before.

    200 people, 20,000 phones, a thousand addresses; few refusals, some events often and most seldom. The text is put
    together as `canonical` would: five times as fast, and compared with it once a batch.
    """
    dice = random.Random(first).random
    addresses = _addresses()
    rows: list[Row] = []
    for seq in range(first, first + count):
        event, category, access, verb = _EVENTS[int(dice() ** 3 * len(_EVENTS))]
        (actor, name), (phone, mac) = _PEOPLE[int(dice() * 200)], _PHONES[int(dice() * 20_000)]
        kind = event.partition(".")[0]
        identity = phone if kind == "phone" else f"{kind}_{int(dice() * 5000):026d}"
        label = mac if kind == "phone" else ""
        outcome = "success" if dice() < 0.97 else ("failure", "denied")[int(dice() * 2)]
        changes = f'{{"label":{{"after":"Desk {seq % 977}","before":"Desk"}}}}' if verb == "update" else "{}"
        at, ip, entry_id = str((BEGAN + STEP * seq).replace(tzinfo=None)), addresses[int(dice() * 1000)], f"{seq:026d}"
        entry = (
            f'{{"access":"{access}","actor":{{"display_name":"","id":"{actor}","name":"{name}","role":"admin",'
            f'"type":"user"}},"at":"{at[:10]}T{at[11:]}.000Z","bulk_id":null,"category":"{category}",'
            f'"chain":"{chain}","changes":{changes},"details":{{}},"event":"{event}","id":"audit_{entry_id}",'
            f'"outcome":"{outcome}","reason":null,"request":{{"id":"request_{entry_id}","ip":"{ip}","method":"GET",'
            f'"route":"/api/v1/phones/{{id}}","user_agent":"{_AGENT}"}},"resource":{{"id":"{identity}",'
            f'"name":"{label}","type":"{kind}"}},"seq":{seq},"status":200,"verb":"{verb}"}}'
        )
        own = sha256(bytes.fromhex(prev_hash) + entry.encode()).hexdigest()
        rows.append(
            (f"audit_{entry_id}", chain, seq, f"{at}.000000", event, category, access, verb, outcome, "user", actor,
             name, kind, identity, ip, entry, prev_hash, own)
        )  # fmt: skip
        prev_hash = own
    last = str(rows[-1][15])
    assert canonical(json.loads(last)) == last
    return rows


def _addresses() -> list[str]:
    dice = random.Random(5)
    return [f"10.{dice.randrange(256)}.{dice.randrange(256)}.{dice.randrange(256)}" for _ in range(1000)]
