"""What is asked of a file that an account's own template made, beyond the proof of its dial plan (pure).

Theory of operation. The proof reads the settings a dial plan is made of. A stranger's template may write them so that
a phone reads what the proof does not, or write other settings that decide about a call as well. So

- a file holds no character that some phone takes as the end of a line or leaves out, and XML is read with a parser and
  written out plainly before anything is looked for in it: a comment, CDATA or a namespace hides nothing (`plain`);
- a setting of the dial plan stands once, and as the shipped template spells it (`refuse_hidden`);
- settings that delay, divert or swallow a call and that no grammar reads (`pinned` in a `profile.toml`, and what every
  vendor calls by the same words) have the values the shipped template gives them for this phone (`refuse_changed`);
- a file that says which files to read next says what the shipped one says, but for what `boot_free` names.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from xml.etree import ElementTree as ET  # what a phone parses with is no stronger

from engine.errors import UnsafeValue
from engine.provisioning import formats
from engine.provisioning.dialplan import UnsafeDialPlan
from engine.provisioning.vendors import FileKind, Profile

Setting = tuple[str, str]
# Of all that ends a line somewhere, or is left out somewhere, only the line feed and the tab may stand in a file.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")
_PLAIN_NAME = re.compile(r"[\t -~]*\Z")
_DOCTYPE = re.compile(r"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)
_ATTRIBUTES_ALONE = frozenset({"poly", "digium", "gigaset"})  # grammars whose settings are never the text of an element
# What decides about a call by the same words at every vendor.
_EVERYWHERE = re.compile(r"hot.?line|warm.?line|auto.?dial|off.?hook.?(?:auto|dial)|emergency|e911", re.IGNORECASE)
_DIVERTS = re.compile(r"hot.?line|warm.?line|auto.?dial|off.?hook", re.IGNORECASE)
_SWITCHED_OFF = frozenset({"", "0", "n", "no", "off", "false"})
MAX_DEPTH = 32  # elements in elements; the deepest of any vendor are six


def plain(profile: Profile, text: str) -> str:
    """The file as its dial plan is read: XML without comments, CDATA and namespaces.

    Raises:
        UnsafeValue: it holds what only an account's own template could put there: a character that no phone takes or
            that ends a line on some, entities of its own in XML, a few lines of which can hold a gigabyte; or it is no
            XML where the phone wants some.
    """
    found = _CONTROL.search(text)
    if found is not None:
        line = text.count("\n", 0, found.start()) + 1
        raise UnsafeValue(
            f"The file holds the character U+{ord(found[0]):04X} in its line {line}, which some phones read as the end "
            "of a line or leave out. Take it out of the template."
        )
    if profile.escape != "xml":
        _refuse_odd_names(profile, text)
        return text
    if _DOCTYPE.search(text) is not None:
        raise UnsafeValue("The file holds a document type declaration, which no phone of this vendor reads.")
    try:
        root = ET.fromstring(text)  # noqa: S314  # made by us, without a document type
    except ET.ParseError as exc:
        raise UnsafeValue(f"The file is no XML: {exc} of the file. No phone reads it.") from exc
    _refuse_deep(root)
    return _written_plainly(root, with_text=profile.dial_plan not in _ATTRIBUTES_ALONE)


def _refuse_odd_names(profile: Profile, text: str) -> None:
    """A name is printable ASCII: a no-break space before it is nothing to some phones, and a letter to others."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.isascii() or line.startswith(profile.comment):
            continue
        name = profile.statement.match(line)
        if not _PLAIN_NAME.match(name["name"] if name is not None else line):
            raise UnsafeValue(
                f"The name of the setting in line {number} of the file holds more than plain letters, digits and "
                "marks, so that phones differ in what they read. Take it out of the template."
            )


def _refuse_deep(root: ET.Element) -> None:
    level = [root]
    for _ in range(MAX_DEPTH):
        level = [child for element in level for child in element]
        if not level:
            return
    raise UnsafeValue(f"The file has more than {MAX_DEPTH} elements in one another; no phone's file has.")


def _written_plainly(root: ET.Element, *, with_text: bool) -> str:
    for element in root.iter():
        element.tag = _local(element.tag)
        named = sorted(element.attrib.items(), key=lambda one: (one[0] != "name", one[0]))
        element.attrib.clear()
        element.attrib.update((_local(name), value) for name, value in named)
        if not with_text:
            element.text = element.tail = None
    return ET.tostring(root, encoding="unicode").replace(" />", "/>")


def _local(name: str) -> str:
    return name.rpartition("}")[2]


# --- Settings by name -------------------------------------------------------------------------------------------------


def statements(profile: Profile, text: str) -> list[Setting]:
    """Every setting of a file by name, in its order: in XML an attribute is `element@attribute`, and what is named by
    one of its attributes has its own name as well; in a text file a line that is no setting is a name without a value.
    """
    if profile.escape == "xml":
        return [*formats.pairs(text), *_attributes(ET.fromstring(text))]  # noqa: S314  # as in `plain`
    found = []
    for line in text.split("\n"):
        if not line.strip() or line.lstrip().startswith(profile.comment):
            continue
        setting = profile.statement.match(line)
        name, value = (setting["name"], setting["value"]) if setting is not None else (line, "")
        found.append((" ".join(name.split()), value.strip().strip('"')))
    return found


def _attributes(root: ET.Element) -> Iterator[Setting]:
    for element in root.iter():
        for name, value in element.attrib.items():
            yield f"{_local(element.tag)}@{_local(name)}", value
        own = element.get("name") or element.get("id")
        if own and "value" in element.attrib:
            yield own, element.attrib["value"]


# --- What is refused --------------------------------------------------------------------------------------------------


def refuse_hidden(profile: Profile, text: str, dialed: Sequence[Setting]) -> None:
    """Raise `UnsafeDialPlan` for a setting of the dial plan that stands twice with different values, or that the proof
    did not read as it is spelled.

    Args:
        text: As `plain` gave it. dialed: The settings of the dial plan that were read out of it.
    """
    values: dict[str, str] = {}
    for name, value in dialed:
        if values.setdefault(name, value) != value:
            raise _refusal(
                f"{name} stands twice with different values, and phones differ in which one decides about 911"
            )
    read = Counter(_bare(name) for name, _ in dialed)
    names = [name for name, _ in statements(profile, text)]
    written = Counter(map(_bare, names))
    again = next((name for name, count in read.items() if written[name] > count), None)
    if again is None and profile.dial_names is not None:
        is_read, looks_read = profile.dial_names.fullmatch, _anywhere(profile.dial_names.pattern).search
        again = next((name for name in names if looks_read(name) and not is_read(name) and "@" not in name), None)
    if again is not None:
        raise _refusal(f"{again}, a setting of the dial plan, stands there in another spelling or place; write it once")


@lru_cache(maxsize=64)
def _anywhere(names: str) -> re.Pattern[str]:
    """Those names with an index, a prefix or a case of letters that the proof's reader does not know."""
    return re.compile(rf"(?<![A-Za-z0-9_])(?:{names})(?![A-Za-z0-9_])", re.IGNORECASE)


def refuse_changed(profile: Profile, kind: FileKind, own: str, shipped: str) -> None:
    """Raise `UnsafeDialPlan` for a setting that decides about calls and is not what the shipped template makes it.

    Args:
        own, shipped: The same phone's file by either, as `plain` gave them or as they are.
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


def _refuse_other_files(profile: Profile, own: str, shipped: str) -> None:
    free = profile.boot_free
    texts = []
    for text in (own, shipped):
        told = statements(profile, text)
        texts.append([one for one in told if free is None or free.fullmatch(one[0]) is None])
    if texts[0] != texts[1]:
        other = next((one for one in texts[0] if one not in texts[1]), None) or texts[1][0]
        raise _refusal(
            f"{other[0]} in the first file a phone reads decides which files follow it, and is not as in the shipped "
            "template"
        )


def _pinned(profile: Profile, text: str) -> dict[str, tuple[str, ...]]:
    """The values of each setting that is pinned, in their order."""
    found: dict[str, dict[str, None]] = {}
    for whole, value in statements(profile, text):
        name = whole.rpartition("@")[2]
        if _EVERYWHERE.search(name) is None and (profile.pinned is None or profile.pinned.fullmatch(name) is None):
            continue
        if value.casefold() in _SWITCHED_OFF and _DIVERTS.search(name) is not None:
            continue
        if profile.harmless is None or profile.harmless.fullmatch(f"{name}={value}") is None:
            found.setdefault(name, {})[value] = None
    return {name: tuple(values) for name, values in found.items()}


def _bare(name: str) -> str:
    """A name without what stands before it in some formats: `SET`, an element, a section."""
    return name.casefold().removeprefix("set ").rpartition("@")[2].rpartition("/")[2]


def _list(values: Sequence[str]) -> str:
    return " and ".join(repr(value[:80]) for value in values[:3])


def _refusal(why: str) -> UnsafeDialPlan:
    return UnsafeDialPlan(
        f"The file is not served, because {why}. An account's template leaves this as it is: Correct the template."
    )
