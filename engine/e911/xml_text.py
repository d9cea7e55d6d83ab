"""Text fit to stand in an XML document that we write. Pure."""

import re

_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|\u2400")


def escaped(value: str) -> str:
    """The value for an element or a quoted attribute. What XML 1.0 §2.2 allows in no document is left out, and so is
    U+2400, which marks where a call's own values go in a document that is kept.
    """
    clean = _NOT_XML.sub("", value) if not value.isascii() or not value.isprintable() else value
    if "&" in clean or "<" in clean or ">" in clean or '"' in clean:
        clean = clean.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    return clean.replace("\r", "&#13;").replace("\n", "&#10;").replace("\t", "&#9;")
