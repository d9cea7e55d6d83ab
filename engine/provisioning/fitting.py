"""Characters that a vendor's file format cannot hold: told on the way in, replaced on the way out (pure).

Some formats have no way to write a quote within quotes, or a blank at the end of a value. Who types one is told so
while it can be corrected. Where it stands all the same (a line was moved to another make of phone, a key came from a
level of settings), the phone gets the nearest character its format takes: a name that reads a little otherwise, and
never a phone without a file, which could not dial 911.
"""

import re

# Control characters end a line, a NUL ends a C string, U+2028/9 and U+0085 end a line for some parsers, the rest XML
# cannot hold (§2.2).
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
_NEAREST = {'"': "'", "\\": "/", "{": "("}


def is_fit(text: str, refused: re.Pattern[str] | None) -> bool:
    """Whether the format can hold the text. `refused`: of the vendor's profile; None: nothing beyond `UNSAFE`."""
    return UNSAFE.search(text) is None and (refused is None or refused.search(text) is None)


def fitted(text: str, refused: re.Pattern[str] | None) -> str:
    """The text with the nearest characters that the format takes; a blank at an end, where none may be, is left out."""
    text = UNSAFE.sub(" ", text)
    if refused is None:
        return text
    for _ in range(len(text)):
        if refused.search(text) is None:
            return text
        text = refused.sub(lambda found: "".join(_NEAREST.get(one, "") for one in found[0]), text)
    return text if refused.search(text) is None else ""


def fault(title: str, text: str, refused: re.Pattern[str] | None) -> str:
    """Which character of the text that vendor's phones cannot be given, and where; empty when there is none.

    Args:
        title: The vendor as people write it.
    """
    found = refused.search(text) if refused is not None else None
    if found is None:
        return ""
    at = found.start()
    shown = "a blank" if text[at].isspace() else text[at]
    return (
        f"{title} phones cannot be given {shown} (U+{ord(text[at]):04X}) at place {at + 1}: their files have no way to "
        "write it there. Leave it out."
    )
