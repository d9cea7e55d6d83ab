"""Where in a rendered XML file the settings of the dial plan stand, found once for all files of the same build (pure).

Theory of operation. The proof of a dial plan reads its settings back out of the finished file as the phone would, with
a parser, which takes as long as making the file. The files of one model differ in their values and seldom in their
elements. So the texts between the tags are taken out of a file, and what the parser says of the rest (between which
tags a setting of the dial plan stands) is kept by that rest itself, the whole of it. A file with another tag, attribute
or name is parsed like the first of its kind; so is one whose texts hold anything that is not plain.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from engine.provisioning import formats

Setting = tuple[str, str]
MAX_KEPT = 512  # builds; some 3 kB each
# What is taken out: a line's text behind a tag; of an OBi's file the element V, whose neighbour N holds its name.
_TEXT, _VALUE = re.compile(r">[^<\n]+"), re.compile(r"<V>[^<\n]+")
_ENTITIES = (("&lt;", "<"), ("&gt;", ">"), ("&#34;", '"'), ("&#39;", "'"), ("&amp;", "&"))  # as templates write them
_OTHER_ENTITY = re.compile("&(?!(?:lt|gt|#34|#39|amp);)")
_PLAIN = bytes([0x09, 0x0A, *range(0x20, 0x100)])  # of UTF-8: all but the control characters that XML cannot hold
_ODD = ("\ue000", "\ue001", "\ufffe", "\uffff")  # the marks; what XML cannot hold either
_MARK, _ONE_MARK = "\ue000{}\ue001", re.compile("\ue000([0-9]+)\ue001")


def dialed_in(names: re.Pattern[str], text: str) -> tuple[Setting, ...]:
    """The settings of the dial plan in an XML file, by the names that `engine.provisioning.formats` gives them and in
    their order; none in a file that is no XML, as on the phone.

    Args:
        names: Which settings are of the dial plan.
    """
    tags = _VALUE.sub("<V>", text) if "<V>" in text else _TEXT.sub(">", text)
    if _is_plain(text, tags):
        found = _places(names, tags)
        if found is not None:
            parts = text.split("<")  # each a tag and the text behind it
            if not "".join([part.partition(">")[2] for part in (*parts[: found.root], parts[-1])]).strip():
                return tuple([(name, _read(parts[at].partition(">")[2]) if at else "") for name, at in found.settings])
    return tuple([one for one in formats.pairs(text.encode()) if names.fullmatch(one[0])])


def _is_plain(text: str, tags: str) -> bool:
    """Whether each text means what stands there, and nothing in it means anything else to a parser."""
    if text.count(">") != tags.count(">") or text.encode().translate(None, _PLAIN):
        return False
    if "<!--" in text and text.count("--") != tags.count("--"):  # inside a comment it would break the file
        return False
    return _OTHER_ENTITY.search(text) is None and (text.isascii() or not any(odd in text for odd in _ODD))


def _read(value: str) -> str:
    if "&" in value:
        for entity, plain in _ENTITIES:
            value = value.replace(entity, plain)
    return value


@dataclass(frozen=True, slots=True)
class _Places:
    """`root`: the number of the document's first element among the tags; before it stands nothing but white space.
    `settings`: each setting of the dial plan and the number of the tag that its value stands behind, 0: it is empty.
    """

    root: int
    settings: tuple[tuple[str, int], ...]


@lru_cache(maxsize=MAX_KEPT)
def _places(names: re.Pattern[str], tags: str) -> _Places | None:
    """Where the settings are between those tags; None: that cannot be told from the tags alone. The parser is asked,
    with a number of its own in place of each text.
    """
    parts = tags.split("<")
    root = next((at for at, part in enumerate(parts) if at and not part.startswith(("?", "!"))), len(parts))
    is_taken_out = _is_value if "<V>" in tags else _ends_a_tag
    made = [
        part + _MARK.format(at) if root <= at < len(parts) - 1 and is_taken_out(part) else part
        for at, part in enumerate(parts)
    ]
    found = []
    for name, value in formats.pairs("<".join(made).encode()):
        if names.fullmatch(name) is None:
            continue
        mark = _ONE_MARK.fullmatch(value)
        if mark is None and value:
            return None  # a comment or the like stands in the middle of it
        found.append((name, int(mark[1]) if mark is not None else 0))
    return _Places(root, tuple(found)) if found else None  # broken XML has none either


def _ends_a_tag(part: str) -> bool:
    return part.endswith(">")


def _is_value(part: str) -> bool:
    return part == "V>"
