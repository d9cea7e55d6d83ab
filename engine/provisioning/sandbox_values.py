"""The values that an account's own template handles: how large they are, how deep, and what of them may be written
(pure); `engine.provisioning.sandbox` says why.

To write a value, to compare two and to tell one in a sentence takes as long as it is large *and deep*: a value that
holds the one before it twice, thirty times over, is small to make and without end to read. So nothing that holds others
is deeper than a list of lists, and a namespace shows nothing of what it holds.
"""

import re
import types
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import utils
from jinja2.runtime import Undefined
from markupsafe import Markup

from engine.provisioning.sandbox_compiler import CHARACTERS_A_STEP
from engine.provisioning.sandbox_filters import TooMuch

MAX_ITEMS = 2_000
MAX_NEEDLE = 64  # characters that are looked for from the right, or taken off: Python compares each with each
SCALARS = frozenset({str, int, bool, float, Markup, types.NoneType})
_NOTHING: dict[Any, Any] = {}
_VIEWS = (type(_NOTHING.items()), type(_NOTHING.keys()), type(_NOTHING.values()))
CONTAINERS = (list, tuple, dict, set, frozenset, *_VIEWS)
# Possessive: `%0d` could be read in three ways, and forty of them before a fault in 3 to the power of 40
_FORMAT = re.compile(r"(?:[^%]|%%|%[+0]?+\d?+\d?+[dsxX])*+\Z", re.DOTALL)


class Namespace(utils.Namespace):
    """What `namespace()` makes. Jinja's own would write whatever it holds, namespaces among it."""

    def __repr__(self) -> str:
        return "<namespace>"


def weight_of(value: Any) -> int:
    """How many steps it takes to read a value once."""
    if isinstance(value, str):
        return 1 + len(value) // CHARACTERS_A_STEP
    if isinstance(value, dict):
        return 1 + sum(map(weight_of, value.values()))
    if isinstance(value, CONTAINERS):
        return 1 + sum(map(weight_of, value))
    return 1 + (len(value) if isinstance(value, range) else 0)


def refuse_deep(items: Any) -> None:
    """Raise TooMuch for what stands in a list and holds lists itself."""
    if len(items) > MAX_ITEMS or any(
        isinstance(one, CONTAINERS) for one in (items.values() if isinstance(items, dict) else items)
    ):
        raise TooMuch("lists in lists in lists")


def refuse_unwritable(value: Any) -> None:
    """Raise TypeError for what is neither text nor number, nor nothing. Python's spelling of it is no setting, and can
    tell where in memory it lies.
    """
    if not isinstance(value, (str, int, float, Undefined)) and value is not None:
        raise TypeError(f"a {type(value).__name__} cannot be written into a file; name one of its values")


def refuse_long_needles(args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise TooMuch for a text that is looked for or taken off, and is longer than any such text of a phone's file."""
    for value in (*args, *kwargs.values()) if kwargs else args:
        if isinstance(value, str) and len(value) > MAX_NEEDLE:
            raise TooMuch(f"what is looked for in a text, or taken off it, has at most {MAX_NEEDLE} characters")


@lru_cache(maxsize=256)
def is_plain_format(text: str) -> bool:
    """Whether its fields are of the few kinds that are known, each at most two digits wide."""
    return _FORMAT.match(text) is not None


def are_short(values: Iterable[Any]) -> bool:
    """Whether all of them are numbers and texts that cost nothing to write."""
    for one in values:  # noqa: SIM110  # a generator costs more than the few values
        if type(one) is not int and (type(one) is not str or len(one) > CHARACTERS_A_STEP):
            return False
    return True
