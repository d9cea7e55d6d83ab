"""What the vendors' own filters (`engine.provisioning.render.filters`) may be given by an account's template (pure).

They were written for the values of a phone: `around` builds every opening of its numbers, which of one number of
200,000 digits are twenty gigabytes; `zone_among` reads a file for each zone it does not remember. In the sandbox each
takes values no larger than a phone has, so that what it makes is small too, and remembers nothing: what one account's
text hands over never stands in a cache that others are answered from.
"""

import inspect
from collections.abc import Callable
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.runtime import Undefined

from engine.provisioning.timezone import Change, ZoneRule

MAX_WORD = 1_024  # characters; a host name has 253, a user and a display name a phone takes far fewer
MAX_FILE = 256 * 1024  # characters of a file whose checksum is asked for
MAX_NUMBERS = 16
MAX_DIGITS = 15  # E.164
MAX_ZONES = 200
MAX_ZONE_NAME = 64
STEPS_A_NAME = 20  # of a list: a zone that is not remembered is read from a file
_LISTS = {"around": (MAX_NUMBERS, MAX_DIGITS), "zone_among": (MAX_ZONES, MAX_ZONE_NAME)}
_TEXTS = {"md5": MAX_FILE}


class TooMuch(SecurityError):
    """A template asked for more work, or a larger value, than any phone's file needs."""


def bounded(name: str, function: Callable[..., Any], pay: Callable[[int], None]) -> Callable[..., Any]:
    """The filter of that name for a stranger's template: it raises TooMuch before it works on more than a phone has.

    Args:
        pay: Takes steps from the rendering's budget.
    """
    plain = inspect.unwrap(function)  # without its cache
    longest = _TEXTS.get(name, MAX_WORD)
    most, each = _LISTS.get(name, (0, 0))

    def looked_at(*args: Any, **kwargs: Any) -> Any:
        for value in (*args, *kwargs.values()) if kwargs else args:
            if type(value) is int or (type(value) is str and len(value) <= longest):
                continue
            if isinstance(value, (list, tuple)):
                _refuse_list(name, value, most, each)
                pay(STEPS_A_NAME * len(value))
            elif isinstance(value, str):
                if len(value) > longest:
                    raise TooMuch(f"the filter {name!r} takes a text of at most {longest} characters")
            elif not isinstance(value, (int, ZoneRule, Change, Undefined)):
                raise TypeError(f"the filter {name!r} takes no {type(value).__name__}")
        return plain(*args, **kwargs)

    looked_at.__name__ = name
    return looked_at


def _refuse_list(name: str, items: list[Any] | tuple[Any, ...], most: int, each: int) -> None:
    if len(items) > most or not all(isinstance(item, str) and len(item) <= each for item in items):
        told = f"at most {most} texts of at most {each} characters" if most else "no list"
        raise TooMuch(f"the filter {name!r} takes {told}")
