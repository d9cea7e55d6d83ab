"""What is asked of a file that an account's own template made, beyond the proof of its dial plan (pure).

Theory of operation. The proof reads the settings a dial plan is made of. A stranger's template may write them so that
a phone reads what the proof does not, or write other settings that decide about a call as well. So

- a file holds no character that some phone takes as the end of a line or leaves out, and XML is read with a parser and
  written out plainly before anything is looked for in it: a comment, CDATA or a namespace hides nothing (`read`);
- a setting of the dial plan stands once, and as the shipped template spells it (`refuse_hidden`);
- settings that delay, divert or swallow a call and that no grammar reads (`pinned` in a `profile.toml`, and what every
  vendor calls by the same words) have the values the shipped template gives them for this phone (`refuse_changed`);
- a file that says which files to read next says what the shipped one says, but for what `boot_free` names.

Either file is parsed once, and what a name means is asked of `Profile.names`. Nothing that was found in one file is
kept for the next: the shipped one is made anew for each phone, since any value of a phone may decide what it says.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET  # what a phone parses with is no stronger

from engine.errors import UnsafeValue
from engine.provisioning import dialplan, formats
from engine.provisioning.dialplan import UnsafeDialPlan
from engine.provisioning.setting_names import Named
from engine.provisioning.vendors import FileKind, Profile

Setting = tuple[str, str]
# Of all that ends a line somewhere, or is left out somewhere, only the line feed and the tab may stand in a file.
OTHER_CHARACTERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")
_PLAIN_NAME = re.compile(r"[\t -~]*\Z")
_DOCTYPE = re.compile(r"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)
_ATTRIBUTES_ALONE = frozenset({"poly", "digium", "gigaset"})  # grammars whose settings are never the text of an element
_SWITCHED_OFF = frozenset({"", "0", "n", "no", "off", "false"})
_PLAIN_BYTES = bytes([0x09, 0x0A, *range(0x20, 0x7F)])
MAX_DEPTH = 32  # elements in elements; the deepest of any vendor are six


@dataclass(frozen=True, slots=True)
class Read:
    """A file as its phone reads it.

    settings   each by name, in the order of the file, those of XML also under the names that their attributes give them
    notable    those of them whose names matter here
    dialed     those of the dial plan, where the profile names them (`dial_names`, `own_dialed`)
    text       for a dial plan that is read in its text: XML without comments, CDATA and namespaces, else as it is
    """

    settings: Sequence[Setting]
    notable: Sequence[tuple[Named, str]]
    dialed: tuple[Setting, ...] = ()
    text: str = ""


def read(profile: Profile, text: str) -> Read:
    """The file that an account's own template made.

    Raises:
        UnsafeValue: it holds what only an account's own template could put there: a character that no phone takes or
            that ends a line on some, entities of its own in XML, a few lines of which can hold a gigabyte; or it is no
            XML where the phone wants some.
    """
    has_others = text.encode("utf-8", "surrogatepass").translate(None, _PLAIN_BYTES)
    found = OTHER_CHARACTERS.search(text) if has_others else None
    if found is not None:
        line = text.count("\n", 0, found.start()) + 1
        raise UnsafeValue(
            f"The file holds the character U+{ord(found[0]):04X} in its line {line}, which some phones read as the end "
            "of a line or leave out. Take it out of the template."
        )
    if profile.escape != "xml":
        if not text.isascii():
            _refuse_odd_names(profile, text)
        return read_settings(profile, lines_read(profile, text), text=text)
    if _DOCTYPE.search(text) is not None:
        raise UnsafeValue("The file holds a document type declaration, which no phone of this vendor reads.")
    try:
        root = ET.fromstring(text)  # noqa: S314  # made by us, without a document type
    except ET.ParseError as exc:
        raise UnsafeValue(f"The file is no XML: {exc} of the file. No phone reads it.") from exc
    _refuse_deep(root)
    settings = _settings(profile, root, text)
    _refuse_other_containers(profile, root)
    if profile.dial_names is None and profile.own_dialed is None:
        _name_first(root)
        return read_settings(profile, settings, text=ET.tostring(root, encoding="unicode").replace(" />", "/>"))
    return read_settings(profile, settings)


def read_shipped(profile: Profile, text: str) -> Read:
    """The file that the shipped templates make of the same phone: read as the other, and not looked over."""
    if profile.escape != "xml":
        return read_settings(profile, lines_read(profile, text))
    root = ET.fromstring(text)  # noqa: S314  # made by us, of our own templates
    return read_settings(profile, _settings(profile, root, text))


def read_settings(profile: Profile, settings: Sequence[Setting], *, text: str = "") -> Read:
    """A file of those settings."""
    names = profile.names
    notable = [(known, value) for name, value in settings if (known := names[name]).is_notable]
    return Read(settings, notable, tuple([(known.dialed, value) for known, value in notable if known.dialed]), text)


def _refuse_odd_names(profile: Profile, text: str) -> None:
    """A name is printable ASCII: a no-break space before it is nothing to some phones, and a letter to others."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.isascii() or line.startswith(profile.comment):
            continue
        name, _, is_setting = _split(profile, line)
        if not _PLAIN_NAME.match(name if is_setting else line):
            raise UnsafeValue(
                f"The name of the setting in line {number} of the file holds more than plain letters, digits and "
                "marks, so that phones differ in what they read. Take it out of the template."
            )


def _refuse_deep(root: ET.Element) -> None:
    level = [root]
    for _ in range(MAX_DEPTH):
        level = [child for element in level for child in element if len(child)]
        if not level:
            return
    raise UnsafeValue(f"The file has more than {MAX_DEPTH} elements in one another; no phone's file has.")


def _refuse_other_containers(profile: Profile, root: ET.Element) -> None:
    """What an element means is decided by those around it: a family whose files have parts that no proof reads (rules
    that rewrite numbers, lists of further files) names the parts that an account's template may write.
    """
    if profile.containers is None:
        return
    for element in root.iter():
        if len(element) and profile.containers.fullmatch(element.tag) is None:
            raise _refusal(
                f"nothing here proves what <{element.tag}> with the elements in it does to a call to 911, or which "
                "other files it names"
            )


def _settings(profile: Profile, root: ET.Element, text: str) -> list[Setting]:
    """Every setting of a document, whose names are without their namespaces from here on."""
    if "xmlns" in text or "xml:" in text:
        has_prefixes = "xmlns:" in text or "xml:" in text
        for element in root.iter():
            tag = element.tag
            if tag[0] == "{":
                element.tag = _local(tag)
            if has_prefixes and element.keys():
                named = sorted(element.attrib.items())
                element.attrib.clear()
                element.attrib.update((_local(name), value) for name, value in named)
    if profile.dial_plan in _ATTRIBUTES_ALONE:
        for element in root.iter():
            element.text = element.tail = None
    return formats.settings_of(root)


def _name_first(root: ET.Element) -> None:
    for element in root.iter():
        named = sorted(element.attrib.items(), key=lambda one: (one[0] != "name", one[0]))
        element.attrib.clear()
        element.attrib.update(named)


def _local(name: str) -> str:
    return name.rpartition("}")[2]


# --- Settings by name -------------------------------------------------------------------------------------------------


def lines_read(profile: Profile, text: str) -> list[Setting]:
    """Every setting of a text file; a line that is no setting is a name without a value."""
    found = []
    comment, separator, statement = profile.comment, profile.separator, profile.statement
    for line in text.split("\n"):
        if not line or line.isspace() or line.lstrip().startswith(comment):
            continue
        if statement is None:
            name, _, value = line.partition(separator)
            found.append((name, value))
        else:
            name, value, _ = _split(profile, line)
            found.append((name, value))
    return found


def _split(profile: Profile, line: str) -> tuple[str, str, bool]:
    """Name, value, and whether the line is a setting at all."""
    if profile.statement is None:
        name, mark, value = line.partition(profile.separator)
        return name, value, bool(mark)
    setting = profile.statement.match(line)
    return (setting["name"], setting["value"], True) if setting is not None else (line, "", False)


def plain_value(profile: Profile, value: str) -> str:
    """A value of `Read.settings` without what stands around it in a text file."""
    return value if profile.escape == "xml" else value.strip().strip('"')


# --- What is refused --------------------------------------------------------------------------------------------------


def refuse_hidden(profile: Profile, own: Read, dialed: Sequence[Setting]) -> None:
    """Raise `UnsafeDialPlan` for a setting of the dial plan that stands twice with different values, or that the proof
    did not read as it is spelled.

    Args:
        dialed: The settings of the dial plan that were read out of the file.
    """
    names = profile.names
    values: dict[str, str] = {}
    for name, value in dialed:
        if values.setdefault(name.casefold(), value) != value:
            raise _refusal(
                f"{name} stands twice with different values, and phones differ in which one decides about 911"
            )
    known = Counter([names[name].bare for name, _ in dialed])
    is_named = profile.dial_names is not None or profile.own_dialed is not None
    met = [one for one, _ in own.notable] if is_named else [names[name] for name, _ in own.settings]
    written = Counter([one.bare for one in met if one.bare in known])
    again = next((name for name, count in known.items() if written[name] > count), None)
    if again is None:
        again = next((one.name for one in met if one.is_hidden), None)
    if again is None and own.text and profile.escape != "xml":
        again = _in_other_letters(profile, own.text, len(dialed))
    if again is not None:
        raise _refusal(f"{again}, a setting of the dial plan, stands there in another spelling or place; write it once")


def _in_other_letters(profile: Profile, text: str, count: int) -> str | None:
    """The name of a setting of the dial plan that its grammar reads in small letters or capitals alone."""
    for folded in (text.lower(), text.upper()):
        if profile.dial_setting is not None:
            found = [str(name) for name, _ in profile.dial_setting.findall(folded)]
        else:
            found = [name for name, _ in dialplan.settings_in(profile.dial_plan, folded)]
        if len(found) > count:
            return next((name for name in found if name not in text), found[0])
    return None


def refuse_changed(profile: Profile, kind: FileKind, own: Read, shipped: Read) -> None:
    """Raise `UnsafeDialPlan` for a setting that decides about calls and is not what the shipped template makes it.

    Args:
        own, shipped: The same phone's file by either.
    """
    if kind is FileKind.BOOT:
        _refuse_other_files(profile, own, shipped)
    mine, usual = _pinned(profile, own), _pinned(profile, shipped)
    for name, value in mine.items():
        if usual.get(name) != value:
            wanted = f"{_list(usual[name])} in the shipped template" if name in usual else "not set by the shipped one"
            raise _refusal(f"{name} decides what becomes of a call and is {wanted}; here it is {_list(value)}")
    for name, value in usual.items():
        if name not in mine:
            raise _refusal(f"{name} decides what becomes of a call and is missing; the shipped one says {_list(value)}")


def _refuse_other_files(profile: Profile, own: Read, shipped: Read) -> None:
    free, names = profile.boot_free, profile.names
    texts = []
    for one in (own, shipped):
        told = [(names[name].name, plain_value(profile, value)) for name, value in one.settings]
        texts.append([one for one in told if free is None or free.fullmatch(one[0]) is None])
    if texts[0] != texts[1]:
        other = next((one for one in texts[0] if one not in texts[1]), None) or texts[1][0]
        raise _refusal(
            f"{other[0]} in the first file a phone reads decides which files follow it, and is not as in the shipped "
            "template"
        )


def _pinned(profile: Profile, file: Read) -> dict[str, tuple[str, ...]]:
    """The values of each setting that is pinned, in their order."""
    found: dict[str, dict[str, None]] = {}
    for known, text in file.notable:
        if not known.is_pinned:
            continue
        value = plain_value(profile, text)
        if value.casefold() in _SWITCHED_OFF and known.diverts:
            continue
        if profile.harmless is None or profile.harmless.fullmatch(f"{known.own}={value}") is None:
            found.setdefault(known.own, {})[value] = None
    return {name: tuple(values) for name, values in found.items()}


def _list(values: Sequence[str]) -> str:
    return " and ".join(repr(value[:80]) for value in values[:3])


def _refusal(why: str) -> UnsafeDialPlan:
    return UnsafeDialPlan(
        f"The file is not served, because {why}. An account's template leaves this as it is: Correct the template."
    )
