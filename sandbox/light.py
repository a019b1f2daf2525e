"""Labels for light and detail: tone, contrast, sharpness, texture."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tagmill.sandbox.colour import Labels, rise

Array = npt.NDArray[Any]
_BLOCK = 8  #: pixels of the side of a square that counts as flat or busy
_FLAT = 0.02  #: mean brightness step inside a flat block
_BUSY = 0.06


def to_luma(rgb: Array) -> Array:
    """Brightness as ITU-R BT.601 weighs it, 0..1."""
    luma: Array = 0.299 * rgb[..., 0] + 0.587 * rgb[..., 1] + 0.114 * rgb[..., 2]
    return luma


def light_labels(luma: Array) -> Labels:
    return _tone(luma) | _contrast(luma) | _detail(luma)


def steps(luma: Array) -> Array:
    """How much brightness changes at each pixel, down and to the right."""
    down = np.abs(np.diff(luma, axis=0, append=luma[-1:]))
    right = np.abs(np.diff(luma, axis=1, append=luma[:, -1:]))
    return down + right


def _tone(luma: Array) -> Labels:
    mean = float(luma.mean())
    lights, shadows = float((luma > 0.75).mean()), float((luma < 0.25).mean())  # noqa: PLR2004 - quarters
    return {
        "bright": rise(mean, 0.4, 0.8),
        "dark": rise(mean, 0.5, 0.15),
        "high key": rise(lights, 0.5, 0.95),
        "low key": rise(shadows, 0.5, 0.95),
        "mid tones": rise(lights + shadows, 0.6, 0.0),
    }


def _contrast(luma: Array) -> Labels:
    spread = float(luma.std())
    return {"high contrast": rise(spread, 0.15, 0.38), "low contrast": rise(spread, 0.2, 0.03)}


def _detail(luma: Array) -> Labels:
    change = steps(luma)
    blocks = _block_means(change)
    return {
        **_focus(luma),
        "busy": rise(float((blocks > _BUSY).mean()), 0.3, 0.9),
        "minimal": rise(float((blocks < _FLAT).mean()), 0.4, 0.95),
        "textured": rise(float(np.median(change)), 0.02, 0.12),
        "smooth": rise(float(np.percentile(change, 90)), 0.12, 0.01),
    }


def _focus(luma: Array) -> Labels:
    """Sharp edges bend within a pixel, blurred ones over many: the strongest bend against the range."""
    if min(luma.shape) < 3:  # noqa: PLR2004 - a bend needs a pixel on both sides
        return {}
    middle = luma[1:-1, 1:-1]
    bend = np.abs(4 * middle - luma[:-2, 1:-1] - luma[2:, 1:-1] - luma[1:-1, :-2] - luma[1:-1, 2:])
    contrast = float(np.percentile(luma, 99) - np.percentile(luma, 1))
    if contrast < 0.05:  # noqa: PLR2004 - an even surface is neither sharp nor blurred
        return {}
    bent = float(np.percentile(bend, 99.5)) / contrast
    return {"sharp": rise(bent, 0.1, 0.8), "blurry": rise(bent, 0.3, 0.02)}


def _block_means(values: Array) -> Array:
    rows, columns = (max(1, size // _BLOCK) for size in values.shape)
    cut = values[: rows * (values.shape[0] // rows), : columns * (values.shape[1] // columns)]
    blocks = cut.reshape(rows, cut.shape[0] // rows, columns, cut.shape[1] // columns)
    means: Array = blocks.mean(axis=(1, 3))
    return means
