"""Colours of the map: levels, shares, absence of data. Configurable, and never the only sign."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_HEX = re.compile(r"#[0-9a-fA-F]{6}")

DARK_INK = "#101828"
LIGHT_INK = "#ffffff"


def _levels() -> dict[int, str]:
    return {1: "#c8142f", 2: "#e8720c", 3: "#f0c000", 4: "#1e6fd2"}


@dataclass(frozen=True, slots=True)
class Style:
    """The colour table. `levels` is 1 (gravest) to 4; `shares` runs from a small share to a full
    one and is a single hue of falling lightness, so that it also reads without colour vision."""

    levels: Mapping[int, str] = field(default_factory=_levels)
    shares: tuple[str, ...] = ("#dccdea", "#b897d3", "#8a5db3", "#5a3187")
    nothing_down: str = "#f3f6f9"
    no_data: str = "#a9b4c2"

    def __post_init__(self) -> None:
        if set(self.levels) != {1, 2, 3, 4}:
            raise ValueError("a colour is needed for each of the levels 1, 2, 3 and 4")
        for colour in (*self.levels.values(), *self.shares, self.nothing_down, self.no_data):
            if not _HEX.fullmatch(colour):
                raise ValueError(f"{colour!r} is no colour of the form #rrggbb")

    def share_colours(self, bins: int) -> tuple[str, ...]:
        """Colours of `bins` classes above zero, lightest first."""
        if bins < 1:
            return ()
        last = len(self.shares) - 1
        if bins == 1:
            return (self.shares[last // 2],)
        if bins > len(self.shares):
            raise ValueError(f"{bins} classes, but the style has only {len(self.shares)} colours")
        return tuple(self.shares[round(i * last / (bins - 1))] for i in range(bins))

    def css_variables(self) -> str:
        """A `:root` rule with level colours and the ink that can be read on them."""
        rules = [
            f"--level-{level}:{colour};--on-level-{level}:{ink_on(colour)}"
            for level, colour in sorted(self.levels.items())
        ]
        return ":root{" + ";".join(rules) + "}"

    def as_json(self) -> dict[str, object]:
        """What the page's script needs to paint."""
        return {
            "levels": {str(level): colour for level, colour in self.levels.items()},
            "ink": {str(level): ink_on(colour) for level, colour in self.levels.items()},
            "nothing_down": self.nothing_down,
            "no_data": self.no_data,
        }


def ink_on(background: str) -> str:
    """Black-blue or white, whichever has the higher WCAG contrast on `background`."""
    return max((DARK_INK, LIGHT_INK), key=lambda ink: contrast(ink, background))


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast ratio of two colours, 1 to 21."""
    bright, dim = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
