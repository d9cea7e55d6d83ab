"""A request of a phone as it was read, and what the fetch log is told of it."""

import re
from dataclasses import replace
from typing import NamedTuple

from aiohttp import hdrs

from engine.provisioning import diagnosis, phonebook, sealing, tokens
from engine.provisioning.fetches import Fetch, FetchKind
from engine.provisioning.index import Found
from engine.provisioning.kept import Kept
from engine.provisioning.vendors import FileKind, FileRule, PhoneIdentity, Vendors

_FILE = re.compile(r"[A-Za-z0-9._{}$\[\](),-]{1,100}\Z")


class Parsed(NamedTuple):
    """A path and a User-Agent, read and judged: whatever they are, there is a token to hash and a MAC to look for."""

    token: str
    file: str
    is_well_formed: bool
    user_agent: str
    who: PhoneIdentity
    is_sealed: bool


class Asked(NamedTuple):  # made on every request: a tuple is made in C
    """A request, read. `is_tls`: nobody on the way can read along; `base`: `scheme://host` that the phone shall ask
    next time; `whole`: all of it that an answer depends on, () where a certificate is part of it.
    """

    method: str
    token: str
    file: str
    is_well_formed: bool
    user_agent: str
    ip: str
    started: float
    token_index: str
    is_sealed: bool
    is_tls: bool
    base: str
    whole: tuple[object, ...]


def parse(vendors: Vendors, path: str, agent: str) -> Parsed:
    """Read `/p/{token}/{file}`. Never fails."""
    token, _, file = path[3:].partition("/")
    file = file.removeprefix("/")  # a phone whose URL ends in a slash may put one more
    file = phonebook.without_question(file)
    is_sealed = file.startswith(sealing.FOLDER)
    file = file.removeprefix(sealing.FOLDER).removeprefix("/") if is_sealed else file
    is_well_formed = tokens.is_token(token) and _FILE.match(file) is not None
    named = tokens.shown_again(agent, token)  # before anything is cut off or quoted: what is left could be completed
    legible = tokens.shown_again(file, token) if is_well_formed else tokens.shown(diagnosis.legible(file), token)
    who = vendors.identify(legible, named)
    if not is_well_formed and (told := diagnosis.in_folders(file)):
        who = replace(who, evidence=(*told, *who.evidence))
    return Parsed(token[: tokens.TOKEN_CHARACTERS], file[:100], is_well_formed, named[:400], who, is_sealed)


def noted(asked: Asked, who: PhoneIdentity, found: Found | None, kind: FetchKind, status: int) -> Fetch:
    """The entry of the fetch log, without what only some answers have. No token is in it."""
    return Fetch(
        kind=kind,
        # nonsense may hold a token anywhere
        file=tokens.shown_again(asked.file, asked.token) if asked.is_well_formed else "(malformed)",
        method=asked.method[:10],
        status=status,
        ip=asked.ip,
        user_agent=asked.user_agent.replace(asked.token, tokens.REDACTED) if asked.token else asked.user_agent,
        account_id=found.account_id if found is not None else None,
        phone_id=found.phone_id if found is not None else None,
        mac=who.mac or "",
        firmware=who.firmware,
        evidence=(*who.evidence, *who.contradictions)[:6],
        confidence=who.confidence.name.lower(),
        token_index=asked.token_index,
        is_proven=who.is_proven,
    )


def served(asked: Asked, who: PhoneIdentity, found: Found, rule: FileRule, kept: Kept, *, is_same: bool) -> Fetch:
    """The entry of a file that was served, or was the same. A revision is noted of the phone's own files alone."""
    holds_lines = rule.kind in {FileKind.DEVICE, FileKind.SETTINGS}
    kind, status = (FetchKind.NOT_MODIFIED, 304) if is_same else (FetchKind.FETCH, 200)
    return noted(asked, who, found, kind, status)._replace(
        revision=found.revision if holds_lines and asked.method != hdrs.METH_HEAD else None,
        etag=kept.etag,
        size_bytes=0 if is_same or asked.method == hdrs.METH_HEAD else len(kept.body),
    )
