"""Names, labels and secrets with anything in them, in every family's format: the text intact, or a refusal by name."""

import dataclasses
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from engine.errors import UnsafeValue
from engine.provisioning import render, simulate, vendors
from tests.bench.renders import phone_of
from tests.golden.samples import config
from tests.phone_readers import READERS

KNOWN = vendors.load()
RENDERER = render.Renderer(KNOWN)
WHERE = re.compile(
    r"(?:lines\[1\]\.(?:display_name|label|secret)|label) holds the character U\+[0-9A-F]{4,6} at place \d+"
)
ANYWHERE = re.compile(r"[a-z_]+(?:\[\d+\]\.[a-z_]+)? holds the character U\+[0-9A-F]{4,6} at place \d+")
# Quotation marks of every sort, what begins a tag, an entity, a comment, a variable or a second setting, line ends of
# every sort, what joins and turns text around, and faces.
NASTY = st.text(
    st.sampled_from(
        "aZ0 \"'`\u2018\u2019“”«»&<>=#;:,.|\\/{}[]()%$^~!?*@+-_éßş☎🚒👩‍🚒"
        "\u200d\u202e\u2066\u2069\u05e2\u05d1\u05e8\ufeff\u00a0"
        "\t\n\r\x00\x0b\x0c\x1b\x7f\x85\u2028\u2029\ufffe"
    ),
    min_size=1,
    max_size=16,
)
WHOLE = st.sampled_from(
    (
        "&amp;", "&#10;x", "]]>", "<!--", "-->", "<![CDATA[x]]>", "<?x?>", "{{ 7*7 }}", "{% raw %}", "${x}", "$(x)",
        "%NULL%", '" x="', "' or ''='", '{"x"}', "a=b", "a: b", '""', '\\"', "\\", "#", ";x", "@include x", "../..",
        "\u202e911", "0",
    )
)  # fmt: skip
TEXT = NASTY | WHOLE | st.text(min_size=1, max_size=30)


def own(profile):
    return next(rule for rule in profile.files if rule.template == "model")


def model_of(profile) -> str:
    return next(model.name for model in profile.models.values() if model.template is not None)


def shape(profile, data: bytes) -> list[str]:
    """The names in the file, in their order and without their values, by a reader that knows nothing of phones."""
    if profile.escape == "xml":
        parser = etree.XMLParser(resolve_entities=False, no_network=True)
        return [f"{one.tag} {sorted(one.attrib)}" for one in etree.fromstring(data, parser).iter()]
    names = [re.split(r"[=:]|(?<=SET \w{3})", row, maxsplit=1)[0] for row in data.decode().split("\n")]
    return [name if not name.startswith("SET ") else " ".join(name.split(" ")[:2]) for name in names]


def of_the_same_settings_or_refused(profile, phone, plain, refused):
    """The file of a phone with odd texts, of the same settings as the plain one by two readers; None: it was refused
    in the words of that pattern.
    """
    data, refusal = b"", ""
    try:
        data = RENDERER.render(profile, own(profile), phone)
    except UnsafeValue as exc:
        refusal = str(exc)
    if refusal:
        assert refused.match(refusal), refusal
        return None
    assert shape(profile, data) == shape(profile, plain)
    assert list(READERS[profile.name](data)) == list(READERS[profile.name](plain))
    return data


@pytest.mark.parametrize("vendor", sorted(READERS))
@settings(deadline=None, max_examples=60)
@given(display_name=TEXT, secret=TEXT, label=TEXT)
def test_any_text_comes_out_as_it_went_in_or_is_refused_by_field_character_and_place(
    vendor, display_name, secret, label
):
    """P-11: a valid file of the same settings, the name and the secret read back; or the field, the character and where
    it stands. Never a second setting.
    """
    profile = KNOWN.profiles[vendor]
    phone = config(profile, model_of(profile), 0)
    plain = RENDERER.render(profile, own(profile), phone)
    line = dataclasses.replace(phone.lines[0], display_name=display_name, secret=secret, label=label)
    data = of_the_same_settings_or_refused(
        profile, dataclasses.replace(phone, lines=(line,), label=label), plain, WHERE
    )
    if data is None:
        return
    (told,) = simulate.FAMILIES[vendor].lines(READERS[vendor](data))
    assert (told.display_name, told.secret) == (display_name, secret)


@pytest.mark.parametrize("vendor", sorted(READERS))
@settings(deadline=None, max_examples=20)
@given(label=TEXT, user=TEXT, auth_user=TEXT, password=TEXT)
def test_keys_users_and_passwords_become_no_second_setting_either(vendor, label, user, auth_user, password):
    """P-11: labels of function keys, SIP users and the password of the phone's pages: the same settings by two readers,
    or a refusal that names field, character and place.
    """
    profile = KNOWN.profiles[vendor]
    served = [model for model in profile.models.values() if model.template is not None]
    model = max(served, key=lambda one: one.keys)
    phone = phone_of(profile, model, min(2, model.lines), max(0, min(3, model.keys - 2)))
    plain = RENDERER.render(profile, own(profile), phone)
    changed = dataclasses.replace(
        phone,
        admin_password=password,
        function_keys=tuple(dataclasses.replace(key, label=label) for key in phone.function_keys),
        lines=tuple(dataclasses.replace(line, sip_user=user, auth_user=auth_user) for line in phone.lines),
    )
    of_the_same_settings_or_refused(profile, changed, plain, ANYWHERE)


@pytest.mark.parametrize("vendor", sorted(READERS))
@pytest.mark.parametrize("character", ["\n", "\r", "\x00", "\x1b", "\x85", "\u2028", "\ud800", "\ufffe"])
def test_a_character_that_ends_a_line_or_a_string_is_refused_in_every_format(vendor, character):
    """P-11: a newline, a NUL, an escape: the field, the code point, the place from 1."""
    profile = KNOWN.profiles[vendor]
    phone = config(profile, model_of(profile), 0)
    bad = dataclasses.replace(phone.lines[0], display_name=f"ab{character}c")
    with pytest.raises(
        UnsafeValue, match=rf"lines\[1\]\.display_name holds the character U\+{ord(character):04X} at place 3"
    ):
        RENDERER.render(profile, own(profile), dataclasses.replace(phone, lines=(bad,)))


@pytest.mark.parametrize("vendor", sorted(READERS))
def test_what_people_do_write_is_taken_in_every_format(vendor):
    """P-11: no format is so narrow that a customer's own name could not be written."""
    profile = KNOWN.profiles[vendor]
    phone = config(profile, model_of(profile), 0)
    for name in ("Zoë O'Neill & Søns", "Front desk <1>", "Kitchen ☎ 🚒", "מזכירות", "R&D = 50%", "A/B; C, D"):
        line = dataclasses.replace(phone.lines[0], display_name=name, label=name)
        data = RENDERER.render(profile, own(profile), dataclasses.replace(phone, lines=(line,), label=name))
        assert simulate.FAMILIES[vendor].lines(READERS[vendor](data))[0].display_name == name


# What a format, a template or a phone's own screen could take for something else, and letters of more than one byte.
HARD = [
    *"\"'`&<>=#;:,.|\\/{}[]()%$^~!?*@+-_ ",
    *"\u2018\u2019“”«»éßşЖ中ع☎🚒",
    "\u200d",
    "\u00a0",
    "\ufeff",
    "{{",
    "%%",
    "&amp;",
    "]]>",
    "\\n",
]
TEMPLATES = sorted(
    {
        (profile.name, model.template): model.name
        for profile in KNOWN.profiles.values()
        for model in profile.models.values()
        if model.template is not None and profile.name in READERS
    }.items()
)


@pytest.mark.parametrize(("vendor", "model"), [(vendor, model) for (vendor, _), model in TEMPLATES])
def test_each_hard_character_is_read_back_from_every_template_of_every_family(vendor, model):
    """P-11: name and label, the character inside them, by the family's own reader; or a refusal that names it."""
    profile = KNOWN.profiles[vendor]
    phone = config(profile, model, 0)

    def read_back(name: str, label: str):
        line = dataclasses.replace(phone.lines[0], display_name=name, label=label)
        data = RENDERER.render(profile, own(profile), dataclasses.replace(phone, lines=(line,), label=label))
        read = READERS[vendor](data)
        (told,) = simulate.FAMILIES[vendor].lines(read)
        return told.display_name, sum(label in str(value) for value in read.values())

    _, with_label = read_back("Ann Lee", "Desk7")
    refused = []
    for hard in HARD:
        name, label = f"Ann {hard} Lee", f"Desk{hard}7"
        try:
            assert read_back(name, label) == (name, with_label), hard
        except UnsafeValue as exc:
            refused.append((hard, str(exc)))
    assert all(f"holds the character U+{ord(hard[0]):04X} at place" in told for hard, told in refused)
