"""The files a phone is served, rendered here for people and scripts to look at: the same bytes, by the same renderer.

They hold the line's secrets, the phones' admin password and the provisioning token, so whoever shows them asks for the
scope and the fresh proof that revealing takes.
"""

from dataclasses import dataclass
from functools import cache

from aiohttp import web

from admin.context import ACCOUNT, INDEX
from admin.links import provisioning_url
from engine.errors import Conflict, NotFound
from engine.models import Phone
from engine.provisioning import settings, vendors
from engine.provisioning.render import Renderer, served_names
from engine.provisioning.vendors import FileRule, Mac, Profile


@dataclass(frozen=True, slots=True)
class PhoneFile:
    """A file's name and what kind it is (`vendors.FileKind`)."""

    name: str
    kind: str
    content_type: str


def files_of(phone: Phone) -> list[PhoneFile]:
    """The files this phone asks for, in its order."""
    profile = vendors.known().profiles.get(phone.vendor)
    if profile is None:
        return []
    found = [(name, profile.file_rule(name)) for name in served_names(profile, Mac(phone.mac), phone.model)]
    return [
        PhoneFile(name, rule.kind.value, profile.content_type)
        for name, rule in found
        if rule is not None and rule.template is not None
    ]


async def rendered(request: web.Request, phone: Phone, name: str) -> tuple[PhoneFile, bytes]:
    """One file as the phone would get it now.

    Raises:
        NotFound: this phone is served no such file. Conflict: it cannot be rendered, and why.
    """
    file = next((file for file in files_of(phone) if file.name == name), None)
    if file is None:
        raise NotFound("This phone is served no file of that name.")
    token = request[ACCOUNT].next_provisioning_token or request[ACCOUNT].provisioning_token
    if token is None:
        raise Conflict("This account has no provisioning URL yet, so phones get no files. Generate one first.")
    profile = vendors.known().profiles[phone.vendor]
    rule = profile.file_rule(name)
    assert rule is not None
    try:
        return file, await _bytes_of(request, phone, profile, rule, provisioning_url(request, token))
    except ValueError as exc:
        raise Conflict(f"This file cannot be made: {exc}") from exc


async def _bytes_of(request: web.Request, phone: Phone, profile: Profile, rule: FileRule, url: str) -> bytes:
    index = request.app[INDEX]
    texts = await index.overrides(phone.account_id, phone.vendor, phone.id)
    if "mac" not in rule.pattern.groupindex:
        account = await index.account(phone.account_id)
        assert account is not None
        return _renderer().render(profile, rule, settings.site_config(account, profile, url), texts)
    record = await index.phone(phone.id)
    if record is None:
        raise NotFound("This account has no phone of that id.")
    return _renderer().render(profile, rule, settings.phone_config(record, profile, url), texts)


@cache
def _renderer() -> Renderer:
    return Renderer(vendors.known())
