"""A logo that strangers sent and a colour that somebody likes, made into what pages may show."""

import struct
import zlib

import pytest

from engine.accounts.colours import CONTRAST, PALETTE, contrast, dark_shade, is_colour, light_shade, style_sheet
from engine.accounts.logo import MAX_BYTES, BadLogo, cleaned

LIGHT, DARK = ("#ffffff", "#f5f6f6", "#eef0f1"), ("#1a1e21", "#121517")
ODD = ("#000000", "#ffffff", "#ffff00", "#00ff00", "#0000ff", "#ff0000", "#808080", "#fefefe", "#010101", "#ff00ff")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int = 4, height: int = 3, *extra: bytes, pixels: bytes | None = None) -> bytes:
    """An RGBA picture."""
    rows = b"".join(b"\0" + b"\x20\x60\x60\xff" * width for _ in range(height)) if pixels is None else pixels
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (_chunk(b"IHDR", header), *extra, _chunk(b"IDAT", zlib.compress(rows)), _chunk(b"IEND", b""))
    )


def svg(inner: str, attributes: str = 'viewBox="0 0 10 10"') -> bytes:
    return f'<svg xmlns="http://www.w3.org/2000/svg" {attributes}>{inner}</svg>'.encode()


@pytest.mark.parametrize("colour", [*(colour for colour, _name in PALETTE), *ODD])
def test_every_colour_can_be_read_on_every_ground(colour: str) -> None:
    """S2-23: WCAG AA in light and dark, on the pages' grounds, on its own tint, and with text on it."""
    for shade, grounds in ((light_shade(colour), LIGHT), (dark_shade(colour), DARK)):
        assert all(contrast(shade.accent, ground) >= CONTRAST for ground in (*grounds, shade.soft))
        assert contrast(shade.text, shade.accent) >= CONTRAST


def test_a_colour_that_can_be_read_stays_as_it_is() -> None:
    """S2-23: of the palette, none is moved on light pages."""
    assert [light_shade(colour).accent for colour, _name in PALETTE] == [colour for colour, _name in PALETTE]
    assert contrast("#ffffff", "#000000") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_the_style_sheet_holds_colours_alone() -> None:
    """S2-23: whatever is asked for, nothing but colours can get into it."""
    assert not any(is_colour(text) for text in ("", "#fff", "#12345G", "#1234567", "#ABCDEF", "red;}", "#1d4ed8\n"))
    assert style_sheet("#1d4ed8").count("light-dark(#") == 3


def test_a_png_keeps_its_picture_and_nothing_else() -> None:
    """S2-25: what hides beside the pixels is left out; the same picture has the same name."""
    hidden = _chunk(b"tEXt", b"Comment\0<script>alert(1)</script>")
    kept = cleaned(png(4, 3, hidden) + b"<html>behind the end")
    assert kept.content == png()
    assert kept.media_type == "image/png"
    assert cleaned(png()).name == kept.name


@pytest.mark.parametrize(
    "data",
    [
        b"", b"GIF89a", b"<html></html>", png()[:-5], png()[:40], png().replace(b"IDAT", b"IDAX"), png(2001, 1),
        png(4, 3, pixels=b"\0" * 5), png(4, 3, pixels=b"\0" * 5000), png(0, 3), b"\x89PNG\r\n\x1a\n",
        b"a" * (MAX_BYTES + 1),
        png(4, 3, _chunk(b"EVIL", b"x")), png(2000, 2000, pixels=b"\0" * 40_000_000),
    ],
)  # fmt: skip
def test_what_is_no_small_whole_picture_is_refused_in_words(data: bytes) -> None:
    """S2-25."""
    with pytest.raises(BadLogo) as refused:
        cleaned(data)
    assert str(refused.value).endswith(".")


@pytest.mark.parametrize(
    "evil",
    [
        "<script>alert(1)</script>", "<style>@import url(https://x.example/)</style>",
        '<image href="https://x.example/a.png"/>', '<foreignObject><p xmlns="http://www.w3.org/1999/xhtml"/></foreignObject>',
        '<use href="https://x.example/#a"/>', '<a href="javascript:alert(1)"><rect/></a>',
        '<rect onclick="alert(1)" width="1"/>', '<rect style="fill:url(https://x.example/)"/>',
        '<rect fill="url(https://x.example/#a)"/>', '<rect fill="url( &#39;//x.example/&#39; )"/>',
        '<set attributeName="href" to="javascript:alert(1)"/>', '<rect xlink:href="https://x.example/" xmlns:xlink="http://www.w3.org/1999/xlink"/>',
        '<x:script xmlns:x="http://www.w3.org/2000/svg">alert(1)</x:script>',
        "<!-- alert(1) x.example -->", "<?x alert(1)?>",
        '<rect fill="u\\72l(https://x.example/)"/>', "<iframe src='https://x.example/'/>",
    ],
)  # fmt: skip
def test_an_svg_loses_what_runs_loads_or_links(evil: str) -> None:
    """S2-25: known elements and attributes are written anew; all else is gone."""
    made = cleaned(svg(f'<g id="here">{evil}<path d="M0 0h9v9z" fill="#123456"/></g>')).content.decode()
    assert 'd="M0 0h9v9z"' in made
    for word in ("script", "x.example", "alert", "href", "style", "onclick", "foreignObject", "image", "iframe"):
        assert word not in made
    assert cleaned(made.encode()).content == made.encode(), "cleaning is done once and for all"


def test_an_svg_keeps_gradients_of_its_own() -> None:
    """S2-25: what a designer's program writes is still drawn."""
    inner = '<defs><linearGradient id="a"><stop offset="0" stop-color="red"/></linearGradient></defs>'
    inner += '<rect fill="url(#a)"/>'
    made = cleaned(svg(inner)).content.decode()
    assert 'fill="url(#a)"' in made
    assert "linearGradient" in made


@pytest.mark.parametrize(
    "data",
    [
        b'<!DOCTYPE svg [<!ENTITY a "b">]>' + svg("<g/>"), svg(""), svg("<g/>", ""), svg("<g>"), svg("<script/>"),
        b"<svg><g/></svg>", svg("<g/>" * 2001), "é<svg".encode("latin-1"), svg("<g>" * 60 + "</g>" * 60),
    ],
)  # fmt: skip
def test_an_svg_that_cannot_be_shown_is_refused_in_words(data: bytes) -> None:
    """S2-25."""
    with pytest.raises(BadLogo):
        cleaned(data)
