"""What looks at our pages sees what it is there to see."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.looking import COLOURS, violations
from tests.browser.site import Site

NewPage = Callable[..., Any]
ROWS = "".join(f"<tr><td>Row {number}</td><td class='dim'>note</td></tr>" for number in range(200))
DOCUMENT = f"""<!doctype html><html lang="en"><head><title>Rows</title><style>
body {{ color: #222; background: #fff }} .dim {{ color: #555 }} %s</style></head>
<body><main><h1>Rows</h1><table><caption>All</caption><tr><th>Name</th><th>Note</th></tr>{ROWS}</table>
<p>Read <span class="one">this</span> <a href="/">too</a>.</p>
<label>Name <input value="typed"></label></main></body></html>"""
FAULTS = {
    "one word among many": ".one { color: #bbb }",
    "every cell of a column": ".dim { color: #bbb }",
    "one row's ground": "tr:nth-child(150) { background: #777 }",
    "what somebody typed": "input { color: #ccc; background: #fff }",
    "a ground far above": "main { background: #666 }",
    "a table that fades": "table { opacity: .3 }",
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_text_that_is_hard_to_read_is_found(site: Site, new_page: NewPage, fault: str):
    """S1-01 (WCAG 2.2 SC 1.4.3): wherever it stands, though not every text is measured."""
    page = await new_page(site, signed_in=False)
    await page.set_content(DOCUMENT % "a { color: #00c; text-decoration: underline }")
    assert await violations(page, **COLOURS) == []
    assert await violations(page) == []
    await page.set_content(DOCUMENT % f"a {{ color: #00c; text-decoration: underline }} {FAULTS[fault]}")
    assert [one["id"] for one in await violations(page, **COLOURS)] == ["color-contrast"]
    assert "color-contrast" in [one["id"] for one in await violations(page)]
