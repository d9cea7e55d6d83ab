"""Lucide's icons as inline SVG, out of the package's archive.

The package opens its archive anew for each icon, and reading the names of 1,700 takes 16 ms: a first page with twenty
icons held everybody else up for a third of a second. Here it is opened once.
"""

import io
import threading
from functools import cache, lru_cache
from importlib import resources
from xml.etree import ElementTree as ET
from zipfile import ZipFile

from markupsafe import Markup

_reading = threading.Lock()  # one archive has one place where it is read


@lru_cache(maxsize=512)  # drawing one takes a quarter of a millisecond, and a list has hundreds
def icon(name: str, size: int = 18) -> Markup:
    """The icon of that name in CSS px, hidden from screen readers: the words beside it speak.

    Raises:
        KeyError: there is no icon of that name.
    """
    with _reading:
        drawn = _archive().read(f"{name}.svg")
    svg = ET.fromstring(drawn)  # noqa: S314 - a file of the package
    for node in svg.iter():
        node.tag = node.tag.partition("}")[2]  # inline SVG has no namespace of its own
    svg.attrib |= {"width": str(size), "height": str(size), "class": "icon", "aria-hidden": "true"}
    return Markup(ET.tostring(svg, encoding="unicode"))  # noqa: S704 - a file of the package


@cache
def _archive() -> ZipFile:
    return ZipFile(io.BytesIO(resources.files("lucide").joinpath("lucide.zip").read_bytes()))
