"""Phonebooks as phones are served them, each written once: every phone of an account reads the same bytes.

A phonebook of 10,000 names takes 60 ms to read and write and 1.2 MB to hold, and with some vendors it stands under
each phone's own name; so the bytes are kept by account and format, and what is kept for a phone is only its headers.
"""

from collections import OrderedDict
from hashlib import sha256

from engine.provisioning import phonebook, sending, tokens
from engine.provisioning.index import Found, Index
from engine.provisioning.kept import Kept
from engine.provisioning.vendors import FileRule, Profile

MAX_BOOKS = 64  # accounts times formats whose phones fetch at the same time
_Key = tuple[str, str, str]


class Directories:
    """One for each server."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._books: OrderedDict[_Key, tuple[int, bytes, str]] = OrderedDict()

    async def kept(
        self, found: Found, profile: Profile, rule: FileRule, file: str, *, base: str, token: str
    ) -> Kept | None:
        """The account's phonebook as this vendor's phones read it; None: this phone shall have none, or the phonebook
        has no such page.
        """
        account = await self._account(found, rule)
        if account is None:
            return None
        url = tokens.provisioning_url(base, account or token) + profile.phonebook
        has_pages = "page" in rule.pattern.groupindex  # and then the next page's URL stands in it
        key = (found.account_id, rule.directory or "", f"{file} {url}" if has_pages else "")
        book = self._books.get(key)
        if book is None or book[0] != found.revision:
            entries = await self._index.phonebook(found.account_id)
            written = phonebook.served(rule.pattern, rule.directory or "", file, url, entries)
            if written is None:
                return None
            book = self._books[key] = (found.revision, *written)
            while len(self._books) > MAX_BOOKS:
                self._books.popitem(last=False)
        self._books.move_to_end(key)
        _, body, content_type = book
        etag = f'"{sha256(body).hexdigest()[:32]}"'
        return Kept(found.revision, body, etag, sending.headers_of(content_type, len(body), etag))

    async def _account(self, found: Found, rule: FileRule) -> str | None:
        """The token that phones are being moved to (empty: none); None where there shall be no phonebook."""
        if "mac" in rule.pattern.groupindex:
            phone = await self._index.phone(found.phone_id or "")
            return None if phone is None or phone.settings.get("phonebook") == "off" else phone.account.next_token
        account = await self._index.account(found.account_id)
        return account.next_token if account is not None else None
