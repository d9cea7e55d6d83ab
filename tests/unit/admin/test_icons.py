"""Icons: as the package draws them, and each that a page names is there."""

import re
from pathlib import Path

import pytest
from lucide import IconDoesNotExist
from lucide.jinja import lucide

from admin.icons import icon
from admin.render import SIDEBAR

ADMIN = Path(__file__).parents[3] / "admin"
TEXTS = [path.read_text() for path in sorted(ADMIN.rglob("*")) if path.suffix in {".j2", ".py"}]
NAMED = {name for text in TEXTS for name in re.findall(r"\bicon\(\s*[\"']([a-z0-9-]+)[\"']", text)}


def test_every_icon_that_a_page_names_is_drawn_as_its_makers_draw_it():
    """No page fails for an icon."""
    assert len(NAMED) > 20
    for name in sorted(NAMED | {place[2] for place in SIDEBAR}):
        for size in (14, 18):
            assert icon(name, size) == lucide(name, size=size, **{"class": "icon", "aria-hidden": "true"}), name


def test_an_icon_that_is_not_there_is_an_error_as_the_package_has_it():
    with pytest.raises(KeyError, match="no-such-icon"):
        icon("no-such-icon")
    with pytest.raises(IconDoesNotExist):
        lucide("no-such-icon")
