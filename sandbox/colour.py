"""Labels for the colours of a picture: which there are, how strong, how warm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Labels = dict[str, int]

NAMES = [
    *("black", "white", "gray", "brown", "pink", "red", "orange", "yellow"),
    *("lime", "green", "teal", "cyan", "blue", "purple", "magenta"),
]  #: the index is what `_named` answers
#: Colours that are more than a hue, the first that fits decides: first hue and width in degrees, then the
#: most saturation, the least and the most value.
_SHADES = {
    "black": (0, 360, 1, 0, 0.16),
    "white": (0, 360, 0.1, 0.88, 1),
    "gray": (0, 360, 0.14, 0, 1),
    "brown": (8, 37, 1, 0, 0.62),
    "pink": (315, 57, 0.62, 0.7, 1),
}
_HUE_ENDS = (15, 42, 70, 90, 155, 177, 200, 255, 290, 330, 360)  #: degrees at which a hue's name ends
_HUE_NAMES = ("red", "orange", "yellow", "lime", "green", "teal", "cyan", "blue", "purple", "magenta", "red")
_HUE_INDEX = np.array([NAMES.index(name) for name in _HUE_NAMES])
_MIN_CHROMA = 0.04  #: below it a hue is noise


@dataclass(frozen=True, slots=True, eq=False)
class Hsv:
    hue: Array  #: degrees
    saturation: Array
    value: Array
    chroma: Array


def rise(value: float, low: float, high: float) -> int:
    """Confidence 0 at `low`, 100 at `high`, straight between; falls when `low` is the larger."""
    return round(100 * float(np.clip((value - low) / (high - low), 0, 1)))


def to_hsv(rgb: Array) -> Hsv:
    red, green, blue = np.ascontiguousarray(np.moveaxis(rgb, 2, 0))
    value = np.maximum(np.maximum(red, green), blue)  # several times as fast as `max` along the last axis
    chroma = value - np.minimum(np.minimum(red, green), blue)
    divisor = np.where(chroma > 0, chroma, 1)
    sector = np.select(
        [value == red, value == green],
        [(green - blue) / divisor % 6, (blue - red) / divisor + 2],
        (red - green) / divisor + 4,
    )
    saturation = np.where(value > 0, chroma / np.where(value > 0, value, 1), 0)
    return Hsv(sector * 60 % 360, saturation, value, chroma)


def colour_labels(rgb: Array) -> Labels:
    hsv = to_hsv(rgb)
    shares = np.bincount(_named(hsv).ravel(), minlength=len(NAMES)) / hsv.hue.size
    named = {name: round(100 * float(share) ** 0.5) for name, share in zip(NAMES, shares, strict=True)}
    return named | _strength(hsv, shares) | _warmth(hsv)


def _named(hsv: Hsv) -> Array:
    """The index in NAMES of each pixel's colour."""
    fits = [
        ((hsv.hue - first) % 360 <= width)
        & (hsv.saturation <= most)
        & (hsv.value >= low)
        & (hsv.value <= high)
        for first, width, most, low, high in _SHADES.values()
    ]
    by_hue = _HUE_INDEX[np.searchsorted(_HUE_ENDS, hsv.hue, side="right")]
    return np.select(fits, [NAMES.index(name) for name in _SHADES], by_hue)


def _strength(hsv: Hsv, shares: Array) -> Labels:
    chroma = float(hsv.chroma.mean())
    present = shares[shares > 0]
    variety = float(-(present * np.log2(present)).sum())
    return {
        "vivid": rise(chroma, 0.2, 0.55),
        "muted colors": rise(chroma, 0.3, 0.12) if chroma > _MIN_CHROMA else 0,
        "monochrome": rise(float(np.percentile(hsv.chroma, 95)), 0.2, 0.03),
        "many colors": rise(variety, 1.2, 2.8),
    }


def _warmth(hsv: Hsv) -> Labels:
    weight = float(hsv.chroma.sum())
    if weight / hsv.chroma.size < _MIN_CHROMA:
        return {}
    warm = (hsv.hue < 70) | (hsv.hue > 330)  # noqa: PLR2004 - degrees
    cool = (hsv.hue > 160) & (hsv.hue < 280)  # noqa: PLR2004 - degrees
    return {
        "warm colors": rise(float(hsv.chroma[warm].sum()) / weight, 0.3, 0.95),
        "cool colors": rise(float(hsv.chroma[cool].sum()) / weight, 0.3, 0.95),
    }
