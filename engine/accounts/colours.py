"""An account's colour as the pages can use it: readable on every ground, in light and in dark (pure).

WCAG 2.2 §1.4.3 asks for a contrast of 4.5 between text and what it stands on. Whatever colour is chosen, its lightness
is moved, and nothing else, until that holds on the page's grounds and on the colour's own soft tint.
"""

import colorsys
import re
from dataclasses import dataclass

CONTRAST = 4.5
PALETTE = (
    ("#0f5f63", "Teal, as Callpoint comes"), ("#1d4ed8", "Blue"), ("#4338ca", "Indigo"), ("#7e22ce", "Violet"),
    ("#be185d", "Raspberry"), ("#b91c1c", "Red"), ("#9a3412", "Rust"), ("#3f6212", "Olive"), ("#166534", "Green"),
    ("#334155", "Slate"),
)  # fmt: skip
_HEX = re.compile(r"#[0-9a-f]{6}")
_LIGHT = ("#ffffff", "#f5f6f6", "#eef0f1")  # surface, ground and sunken of the style sheet
_DARK = ("#1a1e21", "#121517", "#121517")
_STEPS = 200
_Rgb = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Shade:
    """A colour in one of the two schemes. `text` stands on it; `soft` is its tint, which it stands on."""

    accent: str
    text: str
    soft: str


def is_colour(text: str) -> bool:
    """`#rrggbb` in lower case."""
    return _HEX.fullmatch(text) is not None


def contrast(first: str, second: str) -> float:
    """The ratio of WCAG 2.2, from 1 to 21."""
    dark, light = sorted((_luminance(_rgb(first)), _luminance(_rgb(second))))
    return (light + 0.05) / (dark + 0.05)


def light_shade(colour: str) -> Shade:
    """The colour for light pages: as it is, or darker."""
    return _shade(colour, _LIGHT, "#ffffff", 0.1, -1)


def dark_shade(colour: str) -> Shade:
    """The colour for dark pages: as it is, or lighter."""
    return _shade(colour, _DARK, "#0b1012", 0.15, 1)


def style_sheet(colour: str) -> str:
    """What goes over the pages' own style sheet."""
    light, dark = light_shade(colour), dark_shade(colour)
    pairs = (
        ("accent", light.accent, dark.accent), ("accent-text", light.text, dark.text),
        ("accent-soft", light.soft, dark.soft),
    )  # fmt: skip
    return ":root {\n" + "".join(f"  --{name}: light-dark({a}, {b});\n" for name, a, b in pairs) + "}\n"


def _shade(colour: str, grounds: tuple[str, ...], text: str, tint: float, direction: int) -> Shade:
    hue, lightness, saturation = colorsys.rgb_to_hls(*_rgb(colour))
    for step in range(_STEPS + 1):
        moved = min(1.0, max(0.0, lightness + direction * step / _STEPS))
        accent = _hex(colorsys.hls_to_rgb(hue, moved, saturation))
        soft = _mixed(accent, grounds[0], tint)
        if all(contrast(accent, ground) >= CONTRAST for ground in (*grounds, soft, text)):
            return Shade(accent, text, soft)
    raise AssertionError("black on white and white on black are readable")  # the loop ends at one of them


def _mixed(colour: str, ground: str, share: float) -> str:
    red, green, blue = (a * share + b * (1 - share) for a, b in zip(_rgb(colour), _rgb(ground), strict=True))
    return _hex((red, green, blue))


def _rgb(colour: str) -> _Rgb:
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return red, green, blue


def _hex(rgb: _Rgb) -> str:
    return "#" + "".join(f"{round(part * 255):02x}" for part in rgb)


def _luminance(rgb: _Rgb) -> float:
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in rgb)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
