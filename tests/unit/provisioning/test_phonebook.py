"""Phonebooks: every format read back by a parser of its kind, with whatever names hold."""

import csv
import io
import json
import re
import time
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engine.provisioning import phonebook, vendors
from engine.provisioning.phonebook import CISCO_PAGE, FORMATS, MAX_CONTACTS, Entry, Page, entries_of, render

NASTY = ("Zoë \"Desk\" <1> & 'Söhne'; \\,", "Ann]]>", "  ", "a\nb\x00c", "🎉 Fête", "=cmd()", "x" * 200)


NUMBER_OF = {
    "grandstream": ("Contact", "Phone/phonenumber"),
    "avaya": ("DirectoryEntry", "PhoneNumbers/Phone/Number"),
}


def read(format_name: str, data: bytes) -> list[tuple[str, str]]:
    """Names and numbers as a phone would find them."""
    if format_name in {"csv", "acrobits", "vcard"}:
        return read_text(format_name, data.decode())
    root = ET.fromstring(data)
    if format_name == "poly":
        return [(one.findtext("fn") or "", one.findtext("ct") or "") for one in root.iter("item")]
    if format_name in NUMBER_OF:
        row, number = NUMBER_OF[format_name]
        return [(one.findtext("FirstName") or "", one.findtext(number) or "") for one in root.iter(row)]
    if format_name == "digium":
        return [(one.get("first_name"), one.find("numbers/number").get("dial")) for one in root.iter("contact")]
    if format_name == "gigaset":
        return [(one.findtext("ln") or "", one.findtext("of") or "") for one in root.iter("entry")]
    return [(one.findtext("Name") or "", one.findtext("Telephone") or "") for one in root.iter("DirectoryEntry")]


def read_text(format_name: str, text: str) -> list[tuple[str, str]]:
    """CSV, Acrobits' JSON, and vCards with what is escaped in them."""
    if format_name == "csv":
        return [(name, number) for name, number in csv.reader(io.StringIO(text, newline=""))]
    if format_name == "acrobits":
        return [(one["displayName"], one["contactEntries"][0]["uri"]) for one in json.loads(text)["contacts"]]
    cards = re.findall(r"BEGIN:VCARD\r\nVERSION:4.0\r\nFN:(.*)\r\nTEL:(.*)\r\nEND:VCARD\r\n", text)
    return [(re.sub(r"\\(.)", r"\1", name), re.sub(r"\\(.)", r"\1", number)) for name, number in cards]


@pytest.mark.parametrize("format_name", FORMATS)
def test_names_are_read_back_as_they_are_in_every_format(format_name):
    """P-07, P-11: quotes, ampersands, newlines and emoji in names: a valid file, no second entry, the text intact."""
    entries = entries_of([(name, f"+1518555{at:04}") for at, name in enumerate(NASTY)])
    found = read(format_name, render(format_name, Page("All & sundry", entries)))
    assert found == [(one.name, one.number) for one in entries]
    assert ("a b c", "+15185550003") in found  # what no format can hold is a space
    assert ("+15185550002", "+15185550002") in found  # nobody is shown without a name


@given(st.lists(st.tuples(st.text(max_size=30), st.text("0123456789*#+<>&\"',", min_size=1, max_size=10)), max_size=12))
@hypothesis_settings(max_examples=120, deadline=None)
def test_whatever_names_and_numbers_hold_there_is_one_entry_for_each(rows):
    """P-11: fuzzed."""
    entries = entries_of(rows)
    for format_name in FORMATS:
        found = read(format_name, render(format_name, Page("Phonebook", entries)))
        assert [number for _, number in found] == [one.number for one in entries], format_name
        assert [name.split() for name, _ in found] == [one.name.split() for one in entries], format_name


def test_entries_stand_by_name_whatever_their_case():
    entries = entries_of([("émile", "3"), ("Zoë", "1"), ("adam", "2"), ("Bob", "4"), ("Bob", "04")])
    assert [one.name for one in entries] == ["adam", "Bob", "Bob", "Zoë", "émile"]
    assert [one.number for one in entries if one.name == "Bob"] == ["04", "4"]


def test_a_cisco_phonebook_has_pages_with_the_next_behind_a_key():
    """P-07: 32 entries a page; together they are all of them, once each."""
    entries = tuple(Entry(f"Name {at:03}", str(at)) for at in range(70))
    pattern = re.compile(r"cisco_spa-phonebook(?:-(?P<page>\d{1,3}))?\.xml")
    url = "https://h/p/t/cisco_spa-phonebook.xml"
    seen, file = [], "cisco_spa-phonebook.xml"
    for _ in range(4):
        body, content_type = phonebook.served(pattern, "cisco", file, url, entries)
        assert content_type.startswith("text/xml")
        seen += read("cisco", body)
        root = ET.fromstring(body)
        keys = {one.findtext("Name"): one.findtext("URL") for one in root.iter("SoftKeyItem")}
        assert len(list(root.iter("DirectoryEntry"))) <= CISCO_PAGE
        if "Next" not in keys:
            break
        assert keys["Next"].startswith("https://h/p/t/cisco_spa-phonebook-")
        file = keys["Next"].rpartition("/")[2]
    assert seen == [(one.name, one.number) for one in entries]
    assert phonebook.served(pattern, "cisco", "cisco_spa-phonebook-4.xml", url, entries) is None
    assert phonebook.served(pattern, "cisco", "cisco_spa-phonebook-0.xml", url, entries) is None
    assert phonebook.served(pattern, "cisco", "cisco_spa-phonebook.xml", url, ()) is not None


@pytest.mark.parametrize("format_name", FORMATS)
def test_ten_thousand_contacts_are_written_whole_and_in_little_time(format_name):
    """P-07: the size is bounded: 10,000 contacts are at most 2.5 MB in any format, and none is lost."""
    entries = entries_of([(f"Person {at} of the Department", f"+1518{at:07}") for at in range(MAX_CONTACTS)])
    started = time.process_time()
    data = render(format_name, Page("Phonebook", entries))
    took = time.process_time() - started
    assert len(data) < 2_500_000
    assert format_name == "cisco" or len(read(format_name, data)) == MAX_CONTACTS
    assert took < 2.0  # some 30 ms of a core


def test_every_family_s_phonebook_has_a_format_and_a_rule_of_its_own():
    """P-07: the file a phone is told is a file its vendor's rules serve, and no other vendor takes it for its own."""
    known = vendors.load()
    families = [profile for profile in known.profiles.values() if profile.phonebook]
    assert len(families) >= 11
    for profile in families:
        file = profile.phonebook.replace("{mac}", f"{min(profile.ouis, default='02ab1f')}aabbcc")
        rule = profile.file_rule(file)
        assert rule is not None, profile.name
        assert rule.directory in FORMATS, profile.name
        assert known.identify(file, None).vendor in {profile.name, None}


def test_a_question_behind_a_directory_s_name_is_let_go_and_behind_no_other():
    assert phonebook.without_question("gigaset-phonebook.xml?command=get_list") == "gigaset-phonebook.xml"
    assert phonebook.without_question("805ec0aabb01.cfg?x=1") == "805ec0aabb01.cfg?x=1"
