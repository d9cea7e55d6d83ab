"""Reading a phone's file back as the phone would: XML elements to settings by name (pure).

Vendors write settings as elements in six ways, and one reader tells them apart:

    <P47>host</P47>, <Proxy_1_ ua="na">host</Proxy_1_>       P47, Proxy_1_          the element's own name
    <user_host idx="1">host</user_host>                      user_host.1            with its index behind
    <line index="1"><RegisterAddr>host</RegisterAddr></line> line.1.RegisterAddr    inside a numbered element
    <item name="account.1.name">text</item>                  account.1.name         named by an attribute
    <section name="sip"><entry name="x">text</entry>         sip/x                  in a named section
    <O><N>Time.</N><P><N>Zone</N><V>text</V></P></O>         Time.Zone              named by an element
"""

from collections.abc import Iterator
from xml.etree import ElementTree as ET  # what a phone parses with is no stronger

_NAMING = frozenset({"O", "section"})  # named by an element, or by attributes of their own
_ITEMS = frozenset({"item", "part"})


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


def pairs(data: bytes | str) -> list[tuple[str, str]]:
    """Every setting of the file, in its order, one that stands twice twice: phones differ in which of them they keep.
    XML that is broken holds none, as on the phone.
    """
    try:
        root = ET.fromstring(data)  # noqa: S314  # see the import
    except ET.ParseError:
        return []
    return pairs_of(root)


def pairs_of(root: ET.Element) -> list[tuple[str, str]]:
    """Every setting of a document that was parsed, as `pairs` gives them."""
    found: list[tuple[str, str]] = []
    _read(root, "", found)
    return found


def _read(parent: ET.Element, stem: str, found: list[tuple[str, str]]) -> None:
    """Every setting below an element. A file is read back at each rendering: what most elements are, without children
    and attributes, comes first.
    """
    for element in parent:
        tag, has_children = element.tag, len(element) > 0
        if not has_children and not element.keys():
            found.append((stem + tag if stem else tag, element.text or ""))
            continue
        attributes = element.attrib
        local = tag.rpartition("}")[2] if "}" in tag else tag
        if local in _NAMING:
            found += _named(element, local)
            continue
        index = attributes.get("idx") or attributes.get("index")
        name = attributes.get("name") if tag in _ITEMS else None
        if has_children:
            _read(element, f"{name}." if name else (f"{tag}.{index}." if index else ""), found)
        elif name:
            found.append((stem + name, element.text or ""))
        else:
            found.append((f"{stem}{tag}.{index}" if index else stem + tag, element.text or ""))


def _named(group: ET.Element, tag: str) -> Iterator[tuple[str, str]]:
    """Obihai's objects with their parameters, Linphone's sections with their entries."""
    if tag == "section":
        for entry in group:
            yield f"{group.get('name')}/{entry.get('name')}", entry.text or ""
        return
    stem = group.findtext("N", "")
    for parameter in group.iterfind("P"):
        name = stem + parameter.findtext("N", "")
        values = parameter.findall("V")
        if not values:
            yield name, ""
        for value in values:
            yield name, value.text or ""
