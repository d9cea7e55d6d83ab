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


def elements(data: bytes | str) -> dict[str, str]:
    """Every setting of the file, in its order. XML that is broken holds none, as on the phone."""
    try:
        root = ET.fromstring(data)  # noqa: S314  # see the import
    except ET.ParseError:
        return {}
    return dict(_settings(root, ""))


def _settings(parent: ET.Element, stem: str) -> Iterator[tuple[str, str]]:
    for element in parent:
        tag = element.tag.rpartition("}")[2]
        if tag in {"O", "section"}:
            yield from _named(element, tag)
            continue
        index = element.get("idx") or element.get("index")
        name = element.get("name") if element.tag in {"item", "part"} else None
        if len(element):
            inside = f"{name}." if name else (f"{element.tag}.{index}." if index else "")
            yield from _settings(element, inside)
        elif name:
            yield stem + name, element.text or ""
        else:
            yield f"{stem}{element.tag}" + (f".{index}" if index else ""), element.text or ""


def _named(group: ET.Element, tag: str) -> Iterator[tuple[str, str]]:
    """Obihai's objects with their parameters, Linphone's sections with their entries."""
    if tag == "section":
        for entry in group:
            yield f"{group.get('name')}/{entry.get('name')}", entry.text or ""
        return
    stem = group.findtext("N", "")
    for parameter in group.iterfind("P"):
        yield stem + parameter.findtext("N", ""), parameter.findtext("V", "")
