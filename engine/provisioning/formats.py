"""Reading a phone's file back as the phone would: XML elements to settings by name (pure).

Vendors write settings as elements in four ways, and one reader tells them apart:

    <P47>host</P47>, <Proxy_1_ ua="na">host</Proxy_1_>       P47, Proxy_1_          the element's own name
    <user_host idx="1">host</user_host>                      user_host.1            with its index behind
    <line index="1"><RegisterAddr>host</RegisterAddr></line> line.1.RegisterAddr    inside a numbered element
    <item name="account.1.name">text</item>                  account.1.name         named by an attribute
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
        index = element.get("idx") or element.get("index")
        name = element.get("name") if element.tag in {"item", "part"} else None
        if len(element):
            inside = f"{name}." if name else (f"{element.tag}.{index}." if index else "")
            yield from _settings(element, inside)
        elif name:
            yield stem + name, element.text or ""
        else:
            yield f"{stem}{element.tag}" + (f".{index}" if index else ""), element.text or ""
