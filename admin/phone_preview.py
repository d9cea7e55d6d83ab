"""A phone's files as they would be served now, masked, beside what it last fetched or beside a proposed change.

Nothing here shows a secret: values are masked before a template runs (`engine.provisioning.preview`).
"""

import datetime as dt
from dataclasses import dataclass

from aiohttp import web

from admin.context import INDEX, SESSION
from admin.links import provisioning_url
from engine.errors import NotFound
from engine.models import Phone
from engine.provisioning import dryrun, fleet, phonebook, preview, render, settings, store_boots, vendors
from engine.provisioning.fleet import BROKEN, Change, sentence_of
from engine.provisioning.preview import Difference
from engine.provisioning.render import PhoneConfig, served_names
from engine.provisioning.settings import PhoneRecord
from engine.provisioning.tokens import REDACTED
from engine.provisioning.vendors import FileRule, Mac, Profile


@dataclass(frozen=True, slots=True)
class FilePreview:
    """One file. `text` None: it cannot be served, and `sentence` says why; `difference` None with it.

    `fetched_at`: when the phone fetched what it is compared with; None where that is no fetch.
    """

    name: str
    kind: str
    content_type: str
    text: str | None
    difference: Difference | None
    sentence: str = ""
    fetched_at: dt.datetime | None = None

    @property
    def state(self) -> str:
        """`never_fetched`, `unchanged`, `changed`, or `fails`."""
        return self.difference.state.value if self.difference is not None else "fails"

    @property
    def summary(self) -> str:
        return self.difference.summary if self.difference is not None else "cannot be served"


@dataclass(frozen=True, slots=True)
class PhonebookPreview:
    """The phonebook as that phone reads it. It is compared with nothing: what phones fetched of it is not kept.

    `names`: how many it holds; `shown`: how many of them stand in `text`, which for phones that read it by pages is the
    first page.
    """

    name: str
    content_type: str
    names: int
    shown: int
    text: str


async def phonebook_of(request: web.Request, record: PhoneRecord | None) -> PhonebookPreview | None:
    """The phonebook the phone is told to fetch; None: it is told none, or is gone."""
    profile = vendors.known().profiles.get(record.vendor) if record is not None else None
    if record is None or profile is None:
        return None
    file = settings.phonebook_file(record, profile)
    rule = profile.file_rule(file) if file else None
    if rule is None or rule.directory is None:
        return None
    entries = await request.app[INDEX].phonebook(record.account.account_id)
    made = phonebook.served(rule.pattern, rule.directory, file, _url(request) + file, entries)
    if made is None:
        return None
    body, content_type = made
    shown = min(len(entries), phonebook.CISCO_PAGE) if "page" in rule.pattern.groupindex else len(entries)
    return PhonebookPreview(file, content_type, len(entries), shown, body.decode())


async def against_fetched(request: web.Request, record: PhoneRecord | None) -> list[FilePreview]:
    """Each file as it would be served now, compared with what the phone last fetched, in the order it asks; none of a
    phone that is gone.
    """
    if record is None:
        return []
    account_id = record.account.account_id
    fetched = await store_boots.fetched_files(request[SESSION], account_id, record.phone_id)
    overrides = await request.app[INDEX].overrides(account_id, record.vendor, record.phone_id)
    found = []
    for name, rule, text, sentence in _rendered(record, dict(overrides), _url(request)):
        row = fetched.get(name)
        found.append(
            FilePreview(
                name,
                rule.kind.value,
                vendors.known().profiles[record.vendor].content_type,
                text,
                preview.compare(store_boots.fetched_text(row), text) if text is not None else None,
                sentence,
                row.fetched_at if row is not None else None,
            )
        )
    return found


async def against_change(
    request: web.Request, phone: Phone, change: Change
) -> tuple[list[FilePreview], PhonebookPreview | None]:
    """Each file as a proposed change would make it, compared with how it is served now, and the phonebook then."""
    reader = await dryrun.reader_of(request[SESSION], request.app[INDEX], phone.account_id, change)
    subject = next(iter(await reader.subjects([phone])), None)
    if subject is None:
        return [], None
    url = _url(request)
    before = {name: text for name, _, text, _ in _rendered(subject.before, dict(subject.overrides_before), url)}
    found = []
    for name, rule, text, sentence in _rendered(subject.after, dict(subject.overrides_after), url):
        difference = preview.compare(before.get(name) or "", text) if text is not None else None
        content_type = vendors.known().profiles[phone.vendor].content_type
        found.append(FilePreview(name, rule.kind.value, content_type, text, difference, sentence))
    return found, await phonebook_of(request, subject.after)


async def one_against_fetched(request: web.Request, phone: Phone, name: str) -> FilePreview:
    """Raises NotFound: this phone is served no file of that name."""
    files = await against_fetched(request, await request.app[INDEX].phone(phone.id))
    found = next((file for file in files if file.name == name), None)
    if found is None:
        raise NotFound("This phone is served no file of that name.")
    return found


def _url(request: web.Request) -> str:
    return provisioning_url(request, REDACTED)


def _rendered(record: PhoneRecord, overrides: dict[str, str], url: str) -> list[tuple[str, FileRule, str | None, str]]:
    """Name, rule and text of each file; without a text, why there is none."""
    profile = vendors.known().profiles.get(record.vendor)
    if profile is None:
        return []
    model = profile.model(record.model)
    found: list[tuple[str, FileRule, str | None, str]] = []
    for name in served_names(profile, Mac(record.mac), model.name if model is not None else record.model):
        rule = profile.file_rule(name)
        if rule is None or rule.template is None:
            continue
        try:
            config = _config(record, profile, url, is_own="mac" in rule.pattern.groupindex)
            text = fleet.renderer().render(profile, rule, config, overrides).decode("utf-8", "replace")
        except BROKEN as exc:
            found.append((name, rule, None, sentence_of(exc)))
        else:
            found.append((name, rule, text, ""))
    return found


def _config(record: PhoneRecord, profile: Profile, url: str, *, is_own: bool) -> PhoneConfig:
    if is_own:
        config = settings.phone_config(record, profile, url)
    else:
        config = settings.site_config(record.account, profile, url)
    config = render.fitted(config, profile.refused)  # as the phone is served
    render.refuse_unsafe(config, profile.refused)  # what the true values would break, the masked ones must not hide
    return preview.masked_config(config)
