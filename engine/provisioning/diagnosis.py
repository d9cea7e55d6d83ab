"""What people get wrong when they point a phone at its URL, said in a sentence for the fetch log (pure).

The asker never sees any of it: every such request gets the one 404.
"""

import re
from collections.abc import Mapping
from urllib.parse import unquote

# As they were seen: {mac}, {MAC}, {Ma}, $mac, $MA, $MAC, [MAC], [PHONE_MAC_ADDRESS], <MAC>, %mac%
_VARIABLE = r"(?:\{[A-Za-z_]{2,20}\}|\$[A-Za-z_]{2,20}|\[[A-Za-z_]{2,20}\]|<[A-Za-z_]{2,20}>|%[A-Za-z_]{2,20}%)"
# Short on both sides: a token is 43 characters long and fits nowhere.
_NAME = re.compile(rf"[A-Za-z0-9._-]{{0,30}}({_VARIABLE})[A-Za-z0-9._-]{{0,30}}\Z")

_IN_FOLDERS = re.compile(r"(?:[A-Za-z0-9._-]{1,30}/){1,5}(?P<file>[A-Za-z0-9._-]{1,40})\Z")  # nor here
_NO_FOLDERS = (
    "it was asked for in a folder below the provisioning URL, where there is none: take out of the URL on the phone "
    "what stands behind the token and its slash"
)


def unfilled(name: str) -> str | None:
    """The variable that stands in a file name as it was typed, its escapes undone (`%7Bmac%7D.cfg`); None: there is
    none.
    """
    found = _NAME.match(name) or (_NAME.match(unquote(name)) if "%" in name else None)
    return found[1] if found is not None else None


def legible(name: str) -> str:
    """The name to judge of a request that is not well formed: one with an unfilled variable, the last part of one in
    folders, else nothing.
    """
    if found := _IN_FOLDERS.match(name):
        return found["file"]
    return unquote(name) if "%" in name and unfilled(name) is not None else ""


def in_folders(name: str) -> tuple[str, ...]:
    """The sentence for a file asked for in a folder (`yealink/T46U/001565aabbcc.cfg`), as other servers have them."""
    return (_NO_FOLDERS,) if _IN_FOLDERS.match(name) else ()


def placeholder(name: str, title: str | None, variable: str, variables: Mapping[str, str]) -> str:
    """The sentence for a file name with a variable that no phone filled in.

    Args:
        title: The family asking, where it is known.
        variable: The one its phones fill in ("": they add the name of their file to the URL themselves).
        variables: Of every family that has one, by title.
    """
    typed = unfilled(name) or name[:60]
    told = (
        f"{name[:60]} was asked for as it stands: the URL on the phone holds {typed}, which this phone does not fill in"
    )
    if title is not None and variable and variable != typed:
        return f"{told}; a {title} fills in {variable}"
    if title is not None:
        return f"{told}; a {title} wants the provisioning URL alone and adds its file by itself"
    known = ", ".join(f"{of} {one}" for of, one in variables.items())
    return f"{told}; end the URL with a slash, or write what the vendor's phones fill in ({known})"


def local_address(mac: str, title: str) -> str:
    """The sentence for an address that no factory gives."""
    return f"{mac} is a locally administered address, and no {title} phone is made with one: look for a typing error"
