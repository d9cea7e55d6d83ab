"""Whether an account's own template made a file that differs from the shipped one in plain places alone (pure).

Theory of operation. Reading both files setting by setting (`engine.provisioning.override_proof`) costs more than making
them, and most templates of an account's own add a few lines that no proof is about. So both files are laid side by side
line by line first. Where they hold the same lines in the same order but for some that are whole in themselves, every
other setting stands in the same place in both; when the settings of those lines are none that the proof looks at, it
would find nothing, and the shipped file's dial plan is the one that holds. A line is whole when nothing before or
behind it is read otherwise for its sake: any line of a text file; in XML a comment, an element or an element of
elements that begins and ends on it, between two others and not within text.

This is a shortcut for the proof and never a judgement of its own: whatever is not plain to see here is looked at there.
"""

import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET  # what a phone parses with is no stronger

from engine.provisioning import dialplan, formats
from engine.provisioning.override_proof import OTHER_CHARACTERS, lines_read
from engine.provisioning.setting_names import Named
from engine.provisioning.vendors import Profile

MOST_LINES = 40  # that differ: with more of them the proof is the shorter way
_NAME = r"[A-Za-z_][\w.-]*"
_INSIDE = r"(?:\s[^<>]*)?"
_LEAF = rf"<(?P<{{0}}>{_NAME}){_INSIDE}(?:/>|(?<!/)>[^<]*</(?P={{0}})>)"
_WHOLE = re.compile(
    rf"(?:{_LEAF.format('leaf')}|<(?P<group>{_NAME}){_INSIDE}(?<!/)>(?:{_LEAF.format('part')})*</(?P=group)>)\Z",
    re.ASCII,
)
_COMMENT = re.compile(r"<!--(?:[^-<&]|-(?!-))*-->\Z")
_OPENING = re.compile(rf"<(?P<tag>{_NAME}){_INSIDE}(?<!/)>(?:<N>[^<]*</N>)?\Z", re.ASCII)
_CLOSING = re.compile(rf"</{_NAME}\s*>\Z", re.ASCII)
_NAMESPACE = re.compile(r"xmlns|\s[\w.-]+:")
_STEMS = frozenset({"N", "V"})  # parts that name what stands beside them

Lines = Sequence[str]


def plain_differences(profile: Profile, own: str, shipped: str) -> Sequence[Named] | None:
    """What the lines set that stand in one of the two files alone; None: the proof has to look, since one of them is
    not whole, or sets what the proof is about.

    Args:
        own, shipped: The texts of one file with a dial plan, by the account's own template and by the shipped one.
    """
    ours, theirs = own.split("\n"), shipped.split("\n")
    added, missing = _differences(ours, theirs)
    if added is None or missing is None or len(added) + len(missing) > MOST_LINES:
        return None
    is_xml = profile.escape == "xml"
    if any(OTHER_CHARACTERS.search(ours[at]) or not (is_xml or ours[at].isascii()) for at in added):
        return None
    if is_xml:
        found = _elements(profile, [(ours, at) for at in added] + [(theirs, at) for at in missing])
    else:
        found = _settings(profile, [ours[at] for at in added] + [theirs[at] for at in missing])
    return None if found is None or any(one.is_notable for one in found) else found


def _differences(ours: Lines, theirs: Lines) -> tuple[Sequence[int] | None, Sequence[int] | None]:
    """Which lines stand in one alone; None: those of both do not follow one another in the same order."""
    here, there = frozenset(ours), frozenset(theirs)
    added = [at for at, line in enumerate(ours) if line not in there]
    missing = [at for at, line in enumerate(theirs) if line not in here]
    kept = ours if not added else [line for line in ours if line in there]
    if kept != (theirs if not missing else [line for line in theirs if line in here]):
        return None, None
    return added, missing


def _settings(profile: Profile, lines: Lines) -> Sequence[Named] | None:
    """What the lines of a text file set; None: one of them is of the dial plan."""
    text = "\n".join(lines)
    if any(_is_of_a_plan(profile, one) for one in (text, text.lower(), text.upper())):
        return None
    names = profile.names
    return [names[name] for name, _ in lines_read(profile, text)]


def _elements(profile: Profile, places: Sequence[tuple[Lines, int]]) -> Sequence[Named] | None:
    """What the lines of an XML file set, each inside the element it stands in; None: that cannot be told."""
    parts = []
    for lines, at in places:
        part = _in_its_element(lines, at)
        if part is None:
            return None
        parts.append(part)
    if not any(parts):
        return ()
    text = f"<z>{''.join(parts)}</z>"
    try:
        root = ET.fromstring(text)  # noqa: S314  # of whole elements, without a document type
    except ET.ParseError:
        return None
    holders = profile.containers
    if holders is not None and any(len(one) and not holders.fullmatch(one.tag) for one in list(root.iter())[1:]):
        return None
    if profile.dial_names is None and _is_of_a_plan(profile, text):
        return None
    names = profile.names
    return [names[name] for name, _ in formats.settings_of(root)]


def _in_its_element(lines: Lines, at: int) -> str | None:
    """That line inside the element it stands in, empty for a comment; None: it cannot be told, or is not whole."""
    line = lines[at].strip()
    if not line or _COMMENT.match(line):
        return None if line and not _is_between(lines, at, is_element=False) else ""
    whole = _WHOLE.match(line)
    if whole is None or whole["leaf"] in _STEMS or not _is_between(lines, at, is_element=True):
        return None
    parent = _parent(lines, at)
    if parent is None or _NAMESPACE.search(f"{parent[0]}{line}") is not None:
        return None
    return f"{parent[0]}{line}</{parent[1]}>"


def _is_of_a_plan(profile: Profile, text: str) -> bool:
    """Whether the dial plan's reader finds anything there."""
    if profile.dial_setting is not None:
        return profile.dial_setting.search(text) is not None
    return bool(dialplan.settings_in(profile.dial_plan, text))


def _is_between(lines: Lines, at: int, *, is_element: bool) -> bool:
    """Whether the line stands where elements follow one another: behind the end of a tag and before the begin of one,
    and an element not where there was none before.
    """
    before, behind = _beside(lines, range(at - 1, -1, -1)), _beside(lines, range(at + 1, len(lines)))
    if not is_element:
        return before.endswith(">") and (behind.startswith("<") or not behind)
    has_sibling = before.endswith("/>") or _CLOSING.search(before) is not None or not behind.startswith("</")
    return before.endswith(">") and behind.startswith("<") and has_sibling


def _beside(lines: Lines, places: range) -> str:
    """The next line that holds an element's begin or end."""
    for at in places:
        line = lines[at].strip()
        if line and not _COMMENT.match(line):
            return line
    return ""


def _parent(lines: Lines, at: int) -> tuple[str, str] | None:
    """The line that opens the element which that one stands in, and its tag; None: none on a line of its own."""
    depth = 0
    for place in range(at - 1, -1, -1):
        line = lines[place].strip()
        if not line or _COMMENT.match(line) or _WHOLE.match(line):
            continue
        if _CLOSING.match(line):
            depth += 1
            continue
        opening = _OPENING.match(line)
        if opening is None:
            return None
        if depth == 0:
            return line, opening["tag"]
        depth -= 1
    return None
