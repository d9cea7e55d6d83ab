"""The written guides in `docs/`, as pages: the same words as in the repository, so that neither can fall behind.

Markdown is turned into HTML once and kept. HTML inside a guide is shown as text, never taken as markup; a link to
another guide leads to its page, and one to any other file of the repository is only its words.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup, escape

DOCS = Path(__file__).resolve().parent.parent / "docs"


@dataclass(frozen=True, slots=True)
class Guide:
    """One guide. `name`: of its file, without `.md`."""

    name: str
    title: str
    body: Markup

    @property
    def address(self) -> str:
        return f"/help/guides/{self.name}"


@lru_cache(maxsize=1)
def written_guides() -> dict[str, Guide]:
    """Every guide by its name, in the order of their titles; none where the program stands without its `docs/`."""
    texts = {file.stem: file.read_text(encoding="utf-8") for file in DOCS.glob("*.md")}
    parser = _parser(frozenset(texts))
    titles = {f"{name}.md": _title(text, name) for name, text in texts.items()}
    made = [Guide(name, _title(text, name), Markup(_html(parser, text, titles))) for name, text in texts.items()]  # noqa: S704  # its own HTML is escaped
    return {guide.name: guide for guide in sorted(made, key=lambda guide: guide.title.lower())}


def _title(text: str, name: str) -> str:
    first = text.partition("\n")[0]
    return first.removeprefix("# ").strip() if first.startswith("# ") else name.replace("-", " ").capitalize()


def _html(parser: MarkdownIt, text: str, titles: Mapping[str, str]) -> str:
    """The guide as HTML with one first heading, whatever it has: a page has one. `titles`: of all guides, by file."""
    tokens = parser.parse(text)
    heads = [token for token in tokens if token.type in {"heading_open", "heading_close"} and token.tag == "h1"]
    for token in heads[2:]:
        token.tag = "h2"
    for token in tokens:
        _name_links(token.children or [], titles)
        token.attrs.pop("style", None)  # of a table's aligned columns: no style may stand in a page
    return str(parser.renderer.render(tokens, parser.options, {}))


def _name_links(inline: Sequence[Token], titles: Mapping[str, str]) -> None:
    """A link whose words are a guide's file name gets its title for words."""
    for link, words in itertools.pairwise(inline):
        if link.type == "link_open" and words.type == "text":
            words.content = titles.get(words.content.removeprefix("docs/"), words.content)


def _parser(names: frozenset[str]) -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")

    def link_open(_renderer: RendererHTML, tokens: list[Token], at: int, *_rest: Any) -> str:
        return _link(str(tokens[at].attrGet("href") or ""), names)

    parser.add_render_rule("link_open", link_open)
    parser.add_render_rule("link_close", _link_close)
    parser.add_render_rule("table_open", _table_open)
    parser.add_render_rule("table_close", _table_close)
    parser.add_render_rule("fence", _code)
    parser.add_render_rule("code_block", _code)
    return parser


def _link(href: str, names: frozenset[str]) -> str:
    file, _, _anchor = href.partition("#")
    if file.endswith(".md") and file.removesuffix(".md") in names:
        return f'<a href="/help/guides/{file.removesuffix(".md")}">'
    if href.startswith(("https://", "http://")):
        return f'<a href="{escape(href)}" rel="noreferrer">'
    return '<a class="plain">'  # no href: words of a file that is no page


def _link_close(*_rendered: Any) -> str:
    return "</a>"


def _table_open(*_rendered: Any) -> str:
    return '<div class="scroll" tabindex="0" role="group" aria-label="Table, scrolls sideways"><table>'


def _table_close(*_rendered: Any) -> str:
    return "</table></div>"


def _code(_renderer: RendererHTML, tokens: list[Token], at: int, *_rest: Any) -> str:
    return f'<pre tabindex="0"><code>{escape(tokens[at].content)}</code></pre>\n'
