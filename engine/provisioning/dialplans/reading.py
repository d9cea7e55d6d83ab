"""Reads the settings of a dial plan back out of a rendered file, in each vendor's own syntax (pure).

Only what the grammar asks for is taken; the file may be any size and need not be whole. XML is searched for elements
and attributes rather than parsed as a document, so that a comment or a wrong end tag elsewhere does not hide a plan:
comments are removed first.
"""

import html
import re
from collections.abc import Callable
from functools import partial

from engine.provisioning.dialplans import cisco

Setting = tuple[str, str]


def _without_comments(text: str) -> str:
    kept, place = [], 0
    while (start := text.find("<!--", place)) >= 0:
        kept.append(text[place:start])
        end = text.find("-->", start)
        place = len(text) if end < 0 else end + 3
    return "".join([*kept, text[place:]])


def _blocks(tag: str, text: str) -> list[tuple[str, str]]:
    """Attributes and content of every `<tag …>…</tag>`; elements of the same name do not nest in these files."""
    folded, found, place = text.lower(), [], 0
    opening, closing = re.compile(rf"<{tag}(?=[\s>])([^<>]*)>"), f"</{tag}"
    while (start := opening.search(folded, place)) is not None:
        end = folded.find(closing, start.end())
        if end < 0:
            break
        found.append((text[start.start(1) : start.end(1)], text[start.end() : end]))
        place = end
    return found


def _plain(text: str) -> str:
    """The text between two tags, its character references and CDATA read."""
    text = text.strip()
    if text.startswith("<![CDATA[") and text.endswith("]]>"):
        return text[9:-3].strip()
    return html.unescape(text)


def _lines(names: str, equals: str, text: str) -> list[Setting]:
    """`name = value` or `name: value`, one a line."""
    pattern = re.compile(rf"^[ \t]*({names})[ \t]*{equals}(.*)$", re.MULTILINE)
    return [(name, value.strip()) for name, value in pattern.findall(text)]


def _quoted_lines(names: str, equals: str, text: str) -> list[Setting]:
    """`name="value"`, where a comment may follow the quotation marks."""
    return [
        (name, value[1:].partition('"')[0] if value.startswith('"') else value)
        for name, value in _lines(names, equals, text)
    ]


def _elements(names: str, text: str) -> list[Setting]:
    """`<name …>value</name>` and `<name …/>`."""
    pattern = re.compile(rf"<({names})(?:\s[^<>]*?)?(?:/>|>([^<]*|<!\[CDATA\[.*?\]\]>)</\1\s*>)", re.DOTALL)
    return [(name, _plain(value)) for name, value in pattern.findall(_without_comments(text))]


def _attributes(names: str, text: str) -> list[Setting]:
    pattern = re.compile(rf"\s({names})\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
    return [(name, html.unescape(one or two)) for name, one, two in pattern.findall(_without_comments(text))]


_GRANDSTREAM = r"P(?:29|66|766|866|966|85|290|459|559|659|1759|1859|420\d)"
_HTEK = r"P(?:85|42\d\d)"


def _grandstream(text: str) -> list[Setting]:
    """P-values, `<item name="account.1.call"><part name="dialplan">`, or `P290 = …` lines."""
    found = _elements(_GRANDSTREAM, text)
    for attributes, body in _blocks("item", _without_comments(text)):
        item = dict(_attributes("name", f" {attributes}")).get("name", "")
        parts = re.findall(r"<part\s+name=\"([^\"]*)\"\s*(?:/>|>([^<]*)</part>)", body)
        found += [(f"{item}.{part}", _plain(value)) for part, value in parts]
    return found + _lines(_GRANDSTREAM, "=", text)


def _htek(text: str) -> list[Setting]:
    return _elements(_HTEK, text) + _lines(rf"{_HTEK}|Account\d+[._]DialPlan", "=", text)


def _obihai(text: str) -> list[Setting]:
    pattern = re.compile(r"<N>\s*([^<]*?)\s*</N>\s*<V(?:\s[^<>]*)?>([^<]*)</V>")
    return [
        (name, _plain(value))
        for name, value in pattern.findall(_without_comments(text))
        if "DigitMap" in name or "StarCode" in name
    ]


def _snom(text: str) -> list[Setting]:
    """`<user_dp_str idx="1" perm="">`; the identity becomes a part of the name."""
    clean = _without_comments(text)
    pattern = re.compile(r"<user_dp_str((?:\s[^<>]*?)?)(?:/>|>([^<]*|<!\[CDATA\[.*?\]\]>)</user_dp_str\s*>)", re.DOTALL)
    found = []
    for attributes, value in pattern.findall(clean):
        index = re.search(r"idx\s*=\s*[\"'](\d+)[\"']", attributes)
        found.append((f"user_dp_str.{index[1] if index is not None else 1}", _plain(value)))
    return found + _elements(r"overlap_dialing|auto_dial", text)


def _fanvil(text: str) -> list[Setting]:
    """`<dialplan index="1"><Number>911</Number>…`; the index becomes a part of the name."""
    found: list[Setting] = []
    for attributes, body in _blocks("dialplan", _without_comments(text)):
        index = dict(_attributes("index", f" {attributes}")).get("index", "1")
        found += [
            (f"dialplan.{index}.{name}", _plain(value))
            for name, value in re.findall(r"<(\w+)\s*(?:/>|>([^<]*)</\1\s*>)", body)
        ]
    return found + _elements(r"DialbyTimeout|DialTimeoutvalue|DialFixedLength|FixedLengthNums", text)


def _enterprise(text: str) -> list[Setting]:
    """`dialplan.xml`, or a device file that names it in `<dialTemplate>`."""
    found = _elements("dialTemplate", text)
    templates = re.findall(r"<TEMPLATE\b((?:[^<>\"']|\"[^\"]*\"|'[^']*')*)>", _without_comments(text), re.IGNORECASE)
    for number, attributes in enumerate(templates, start=1):
        named = re.findall(r"(\w+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')", attributes)
        values = {name.upper(): html.unescape(one or two) for name, one, two in named}
        found += [
            (f"TEMPLATE.{number}.{key}", values.get(key, ""))
            for key in ("MATCH", "TIMEOUT", "REWRITE")
            if key == "MATCH" or key in values
        ]
    return found


def _acrobits(text: str) -> list[Setting]:
    found: list[Setting] = []
    rewriting = _blocks("rewriting", _without_comments(text))
    rules = [body for _, whole in rewriting for _, body in _blocks("rule", whole)]
    for number, body in enumerate(rules, start=1):
        for kind in ("condition", "action"):
            for position, attributes in enumerate(re.findall(rf"<{kind}\s([^<>]*?)/?>", body), start=1):
                named = dict(_attributes(r"type|param", f" {attributes}"))
                value = f"{named.get('type', '')} {named.get('param', '')}"
                found.append((f"rewriting.{number}.{kind}.{position}", value))
    return found


def _linphone(text: str) -> list[Setting]:
    entries = re.findall(r"<entry\s+name=\"(dial_prefix)\"[^<>]*>([^<]*)</entry>", _without_comments(text))
    return [(name, _plain(value)) for name, value in entries] + _lines("dial_prefix", "=", text)


def _avaya(text: str) -> list[Setting]:
    """`SET DIALPLAN "…"`."""
    found = _quoted_lines(r"SET[ \t]+(?:DIALPLAN|INTER_DIGIT_TIMEOUT)", "[ \t]", text)
    return [(name.removeprefix("SET").strip(), value) for name, value in found]


def _nothing(text: str) -> list[Setting]:
    del text
    return []


_CISCO = rf"Dial_Plan(?:_\d+)?_?|Interdigit_Short_Timer|{cisco.CODE_NAMES}"

READERS: dict[str, Callable[[str], list[Setting]]] = {
    "yealink": partial(_lines, r"(?:account\.\d+\.)?dialplan\.[^\s=]+|phone_setting\.dialnow_delay", "="),
    "poly": partial(_attributes, r"dialplan\.(?:\d+\.)?(?:digitmap|impossibleMatchHandling)"),
    "grandstream": _grandstream,
    "htek": _htek,
    "cisco_spa": partial(_elements, _CISCO),
    "cisco_mpp": partial(_elements, _CISCO),
    "obihai": _obihai,
    "cisco_enterprise": _enterprise,
    "snom": _snom,
    "fanvil": _fanvil,
    "aastra": partial(_quoted_lines, r"sip dial plan|sip digit timeout", ":"),
    "panasonic": partial(_quoted_lines, r"DIAL_PLAN(?:_\d+)?|DIAL_PLAN_NOT_MATCH_ENABLE(?:_\d+)?", "="),
    "digium": partial(_attributes, "dial_plan"),
    "avaya": _avaya,
    "vtech": partial(_lines, r"(?:sip_account\.\d+\.)?(?:dial_plan|inter_digit_timeout)", "="),
    "audiocodes": partial(_lines, r"voip/signalling/sip/(?:digit_map|number_rules)", "="),
    "gigaset": _nothing,
    "linphone": _linphone,
    "acrobits": _acrobits,
    "zoiper": partial(_elements, r"use_overlap_dialing|use_number_rewriting"),
    "algo": _nothing,
    "none": _nothing,
}


def settings_in(grammar: str, text: str) -> tuple[Setting, ...]:
    """The settings of the dial plan in a rendered file, as `engine.provisioning.dialplan.faults` takes them: in the
    order of the file, one that stands twice twice.
    """
    return tuple(READERS[grammar](text))
