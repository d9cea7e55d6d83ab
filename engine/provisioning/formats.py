"""Reading a phone's file back as the phone would: XML elements to settings by name (pure).

Vendors write settings as elements in six ways, and one reader tells them apart:

    <P47>host</P47>, <Proxy_1_ ua="na">host</Proxy_1_>       P47, Proxy_1_          the element's own name
    <user_host idx="1">host</user_host>                      user_host.1            with its index behind
    <line index="1"><RegisterAddr>host</RegisterAddr></line> line.1.RegisterAddr    inside a numbered element
    <item name="account.1.name">text</item>                  account.1.name         named by an attribute
    <section name="sip"><entry name="x">text</entry>         sip/x                  in a named section
    <O><N>Time.</N><P><N>Zone</N><V>text</V></P></O>         Time.Zone              named by an element
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from xml.etree import ElementTree as ET  # what a phone parses with is no stronger

_GROUPS = frozenset({"O", "section"})  # named by an element, or by attributes of their own
_NAMING = frozenset({"name", "id", "idx", "index", "para", "perm", "overwrite", "ua"})  # attributes that set nothing
_NONE: Mapping[str, str] = MappingProxyType({})
_ITEMS = frozenset({"item", "part"})


Setting = tuple[str, str]


def fault_of(text: str) -> str:
    """Why the file is no XML, with line and column; empty when it is."""
    try:
        ET.fromstring(text)  # noqa: S314  # see the import
    except ET.ParseError as exc:
        return str(exc)
    return ""


def elements(data: bytes | str) -> dict[str, str]:
    """Every setting of the file, in its order; of one that stands twice the last counts."""
    return dict(pairs(data))


def pairs(data: bytes | str) -> list[Setting]:
    """Every setting of the file, in its order, one that stands twice twice: phones differ in which of them they keep.
    XML that is broken holds none, as on the phone.
    """
    try:
        root = ET.fromstring(data)  # noqa: S314  # see the import
    except ET.ParseError:
        return []
    return pairs_of(root)


def pairs_of(root: ET.Element) -> list[Setting]:
    """Every setting of a document that was parsed, as `pairs` gives them."""
    found: list[Setting] = []
    _read(root, "", found, None)
    return found


OPERATION = "operation"  # its value: what is done, and to which handset


def settings_of(root: ET.Element) -> list[Setting]:
    """The same, and behind them what is set by attributes: each is `element@attribute`, but for those that only name or
    number their element; what is named by one of its attributes has its own name as well. What a file
    asks to be done is an `OPERATION`.
    """
    found: list[Setting] = []
    named: list[Setting] = []
    _note(root, root.attrib, named)
    _read(root, "", found, named)
    return found + named


def _read(parent: ET.Element, stem: str, found: list[Setting], named: list[Setting] | None) -> None:
    """Every setting below an element. A file is read back at each rendering: what most elements are, without children
    and attributes, comes first.
    """
    for element in parent:
        tag, has_children = element.tag, len(element) > 0
        attributes = element.attrib if element.keys() else _NONE
        if not attributes and not has_children:
            found.append((stem + tag if stem else tag, element.text or ""))
            continue
        if attributes and named is not None:
            _note(element, attributes, named)
        local = tag.rpartition("}")[2] if tag[0] == "{" else tag
        if local in _GROUPS:
            found += _grouped(element, local)
            if named is not None:
                for inner in element.iter():
                    if inner is not element and inner.keys():
                        _note(inner, inner.attrib, named)
            continue
        index = attributes.get("idx") or attributes.get("index")
        name = attributes.get("name") if tag in _ITEMS else None
        if has_children:
            _read(element, f"{name}." if name else (f"{tag}.{index}." if index else ""), found, named)
        elif name:
            found.append((stem + name, element.text or ""))
        else:
            found.append((f"{stem}{tag}.{index}" if index else stem + tag, element.text or ""))


def _note(element: ET.Element, attributes: Mapping[str, str], named: list[Setting]) -> None:
    if element.tag == "oper":  # Gigaset: done to the base's handsets, and set nowhere; its name is all that tells what
        named.append((OPERATION, " ".join(filter(None, (attributes.get("name"), attributes.get("value"))))))
    if not _NAMING.issuperset(attributes):
        tag = element.tag
        named += [(f"{tag}@{name}", value) for name, value in attributes.items() if name not in _NAMING]
        own = attributes.get("name") or attributes.get("id")
        if own and "value" in attributes:
            named.append((own, attributes["value"]))
    if "para" in attributes:  # Htek: a number with its name beside it
        named.append((attributes["para"], element.text or ""))


def _grouped(group: ET.Element, tag: str) -> Iterator[Setting]:
    """Obihai's objects with their parameters, Linphone's sections with their entries."""
    if tag == "section":
        section = group.get("name")
        for entry in group:
            yield f"{section}/{entry.get('name')}", entry.text or ""
        return
    stem = next((child.text or "" for child in group if child.tag == "N"), "")
    for parameter in group:
        if parameter.tag != "P":
            continue
        if len(parameter) == 2 and parameter[0].tag == "N" and parameter[1].tag == "V":  # as all are that we write
            yield stem + (parameter[0].text or ""), parameter[1].text or ""
            continue
        name = next((part.text or "" for part in parameter if part.tag == "N"), "")
        values = [part.text or "" for part in parameter if part.tag == "V"]
        for value in values or ("",):
            yield stem + name, value
