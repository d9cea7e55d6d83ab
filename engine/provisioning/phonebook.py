"""The account's phonebook in each vendor's directory format (pure).

A phonebook is the account's own lines and its contacts, by name. Every format gets its names escaped as it needs, and
nobody's name can become a second entry: XML is escaped, in CSV every text stands in quotes. What a format cannot hold
at all (a control character) is left out of the name.

Bounds: an account holds at most `MAX_CONTACTS` contacts; a phonebook is written whole up to that size and its lines
(about 1.2 MB of XML, 40 ms to write, written once for each revision of the account and kept). Phones cut off what they
have no room for themselves, most after 1,000 to 5,000 names; Cisco's are given pages of 32, which is all they show.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from xml.sax.saxutils import escape, quoteattr

TITLE = "Phonebook"
MAX_CONTACTS = 10_000
CISCO_PAGE = 32  # entries in a CiscoIPPhoneDirectory (Cisco Unified IP Phone Services Application Development Notes)
_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'


@dataclass(frozen=True, slots=True)
class Entry:
    """A name and what to dial for it."""

    name: str
    number: str


@dataclass(frozen=True, slots=True)
class Page:
    """What a format is written from: the entries by name, the phonebook's title, and for formats with pages the number
    of this one from 1 and the URL that the next one's number is put behind.
    """

    title: str
    entries: Sequence[Entry]
    number: int = 1
    next_url: str = ""


@dataclass(frozen=True, slots=True)
class Format:
    write: Callable[[Page], str]
    content_type: str = "text/xml; charset=utf-8"


def entries_of(rows: Sequence[tuple[str, str]]) -> tuple[Entry, ...]:
    """Names and numbers as stored to entries as phones show them: by name, then number; without a name, the number."""
    found = (Entry(_UNWRITABLE.sub(" ", name).strip() or number, number) for name, number in rows if number)
    return tuple(sorted(found, key=lambda entry: (entry.name.casefold(), entry.number)))


def render(format_name: str, page: Page) -> bytes:
    """The phonebook's bytes in that format. Raises KeyError: there is none of that name."""
    return FORMATS[format_name].write(page).encode()


def without_question(file: str) -> str:
    """The file's name without the question a DECT base puts behind its directory's (`?command=get_list&first=1`): it is
    given everything. No other file is asked with a question.
    """
    name, _, question = file.partition("?")
    return name if question and name.endswith("-phonebook.xml") else file


def served(
    pattern: re.Pattern[str], format_name: str, file: str, url: str, entries: Sequence[Entry]
) -> tuple[bytes, str] | None:
    """The bytes and content type of a phonebook file; None: the phonebook has no such page.

    Args:
        pattern: Of the file's name; its group `page`, where it has one, counts pages from 1.
        url: What phones ask for the first page; the others have `-2`, `-3` behind its stem.
    """
    found = pattern.fullmatch(file)
    number = int(found["page"] or 1) if found is not None and "page" in pattern.groupindex else 1
    if number != 1 and not 1 <= number <= -(-len(entries) // CISCO_PAGE):
        return None
    page = Page(TITLE, entries, number, url.rpartition(".")[0] + "-")
    return render(format_name, page), FORMATS[format_name].content_type


# --- Formats ---------------------------------------------------------------------------------------------------------


def _listed(root: str) -> Callable[[Page], str]:
    """`DirectoryEntry` elements under a root of the vendor's own: Yealink, Fanvil, Htek, Snom (the XML minibrowser)."""

    def write(page: Page) -> str:
        rows = "".join(starmap(_directory_entry, ((one.name, one.number) for one in page.entries)))
        return f"{_HEAD}<{root}>\n<Title>{escape(page.title)}</Title>\n{rows}</{root}>\n"

    return write


def _directory_entry(name: str, number: str) -> str:
    return f"<DirectoryEntry><Name>{escape(name)}</Name><Telephone>{escape(number)}</Telephone></DirectoryEntry>\n"


def _cisco(page: Page) -> str:
    """Pages of 32, the next one behind a soft key. SPA and multiplatform phones read the same."""
    first = (page.number - 1) * CISCO_PAGE
    shown = page.entries[first : first + CISCO_PAGE]
    rows = "".join(starmap(_directory_entry, ((one.name, one.number) for one in shown)))
    keys = [("Dial", "SoftKey:Dial"), ("EditDial", "SoftKey:EditDial"), ("Exit", "SoftKey:Exit")]
    if first + CISCO_PAGE < len(page.entries):
        keys.append(("Next", f"{page.next_url}{page.number + 1}.xml"))
    soft = "".join(
        f"<SoftKeyItem><Name>{name}</Name><URL>{escape(url)}</URL><Position>{at}</Position></SoftKeyItem>\n"
        for at, (name, url) in enumerate(keys, 1)
    )
    head = f"<Title>{escape(page.title)}</Title>\n<Prompt>{len(page.entries)} entries</Prompt>\n"
    return f"{_HEAD}<CiscoIPPhoneDirectory>\n{head}{rows}{soft}</CiscoIPPhoneDirectory>\n"


def _poly(page: Page) -> str:
    """`<item>` with first name and contact (Poly UC Software administrator guide, local contact directory)."""
    rows = "".join(
        f"<item><ln></ln><fn>{escape(one.name)}</fn><ct>{escape(one.number)}</ct></item>\n" for one in page.entries
    )
    return f"{_HEAD}<directory>\n<item_list>\n{rows}</item_list>\n</directory>\n"


def _grandstream(page: Page) -> str:
    """`AddressBook` (Grandstream XML phonebook guide, version 1, which every model reads)."""
    rows = "".join(
        f"<Contact><FirstName>{escape(one.name)}</FirstName><LastName></LastName>"
        f'<Phone type="Work"><phonenumber>{escape(one.number)}</phonenumber><accountindex>1</accountindex></Phone>'
        "</Contact>\n"
        for one in page.entries
    )
    return f"{_HEAD}<AddressBook>\n{rows}</AddressBook>\n"


def _digium(page: Page) -> str:
    """One group of contacts (Sangoma phones, XML configuration: Contacts)."""
    rows = "".join(
        f'<contact first_name={quoteattr(one.name)} last_name="" contact_type="sip" '
        f"account_id={quoteattr(one.number)}>"
        f'<numbers><number dial={quoteattr(one.number)} label="Extension" primary="1"/></numbers></contact>\n'
        for one in page.entries
    )
    group = f'<contacts group_name={quoteattr(page.title)} editable="0" id="0">'
    return f"{_HEAD}<phonebooks>\n{group}\n{rows}</contacts>\n</phonebooks>\n"


def _avaya(page: Page) -> str:
    """`IPPhoneDirectory` (Avaya J100 administration, Downloadable directory)."""
    rows = "".join(
        f"<DirectoryEntry><LastName></LastName><FirstName>{escape(one.name)}</FirstName><PhoneNumbers>"
        f"<Phone><Number>{escape(one.number)}</Number><Type>Work</Type></Phone></PhoneNumbers></DirectoryEntry>\n"
        for one in page.entries
    )
    return f"{_HEAD}<IPPhoneDirectory>\n{rows}</IPPhoneDirectory>\n"


def _gigaset(page: Page) -> str:
    """The answer to `get_list` (Gigaset PRO, public on-line directory): everything at once, whatever is asked for."""
    rows = "".join(
        f'<entry id="{at}"><ln>{escape(one.name)}</ln><hm></hm><of>{escape(one.number)}</of></entry>\n'
        for at, one in enumerate(page.entries, 1)
    )
    count = len(page.entries)
    first = 1 if count else 0
    head = f'<list response="get_list" type="pb" total="{count}" first="{first}" last="{count}">'
    return f"{_HEAD}{head}\n{rows}</list>\n"


def _csv(page: Page) -> str:
    """`"name","number"` lines (Mitel 6800 administrator guide, downloaded directory list). A quote within a name is
    doubled.
    """
    return "".join(f"{_quoted(one.name)},{_quoted(one.number)}\n" for one in page.entries)


def _quoted(text: str) -> str:
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


def _vcard(page: Page) -> str:
    """One card for each entry (RFC 6350; Linphone's `contacts-vcard-list`)."""
    return "".join(
        f"BEGIN:VCARD\r\nVERSION:4.0\r\nFN:{_vcard_text(one.name)}\r\nTEL:{_vcard_text(one.number)}\r\nEND:VCARD\r\n"
        for one in page.entries
    )


def _vcard_text(text: str) -> str:
    """RFC 6350 §3.4: backslash, comma and semicolon are escaped; a newline is not there any more."""
    return text.replace("\\", "\\\\").replace(",", "\\,").replace(";", "\\;")


def _acrobits(page: Page) -> str:
    """Contacts in the application's own form (doc.acrobits.net, Contacts JSON and Web Service Contacts)."""
    contacts = [
        {
            "contactId": one.number,
            "displayName": one.name,
            "contactEntries": [{"entryId": "tel:0", "label": "work", "type": "tel", "uri": one.number}],
        }
        for one in page.entries
    ]
    return json.dumps({"contacts": contacts}, ensure_ascii=False)


FORMATS: Mapping[str, Format] = {
    "yealink": Format(_listed("YealinkIPPhoneDirectory")),
    "fanvil": Format(_listed("FanvilIPPhoneDirectory")),
    "htek": Format(_listed("HtekIPPhoneDirectory")),
    "snom": Format(_listed("SnomIPPhoneDirectory")),
    "cisco": Format(_cisco),
    "poly": Format(_poly),
    "grandstream": Format(_grandstream),
    "digium": Format(_digium),
    "avaya": Format(_avaya),
    "gigaset": Format(_gigaset),
    "csv": Format(_csv, "text/csv; charset=utf-8"),
    "vcard": Format(_vcard, "text/vcard; charset=utf-8"),
    "acrobits": Format(_acrobits, "application/json"),
}
