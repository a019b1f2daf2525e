"""Labels for how a picture is laid out: format, subject, symmetry, gradients, horizon."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tagmill.sandbox.colour import Labels, rise
from tagmill.sandbox.light import steps

Array = npt.NDArray[Any]
_THIRDS = (1 / 3, 2 / 3)
_EVEN = 0.02  #: spread of brightness below which there is nothing to lay out


def composition_labels(rgb: Array, luma: Array) -> Labels:
    if float(luma.std()) < _EVEN:
        return {"plain background": 100, "solid color": 100}
    return _subject(rgb, luma) | _symmetry(luma) | _gradient(luma) | _horizon(luma) | _border(rgb)


def format_labels(width: int, height: int) -> Labels:
    ratio = width / height
    long = max(ratio, 1 / ratio)
    return {
        "landscape orientation": rise(ratio, 1.02, 1.2),
        "portrait orientation": rise(1 / ratio, 1.02, 1.2),
        "square format": rise(long, 1.2, 1.02),
        "panorama": rise(long, 1.8, 2.5),
        "high resolution": rise(width * height / 1e6, 4, 12),
        "thumbnail": rise(width * height / 1e6, 0.2, 0.03),
    }


def _subject(rgb: Array, luma: Array) -> Labels:
    """Where the eye goes: pixels unlike the picture's mean colour, and edges."""
    unlike = np.linalg.norm(rgb - rgb.mean(axis=(0, 1)), axis=2)
    weight = (unlike * (0.2 + steps(luma))) ** 1.5
    total = float(weight.sum()) or 1.0
    y, x = (np.linspace(0, 1, size) for size in luma.shape)
    centre_x, centre_y = (
        float((weight.sum(axis=0) * x).sum()) / total,
        float((weight.sum(axis=1) * y).sum()) / total,
    )
    distance = np.hypot(x[None, :] - centre_x, y[:, None] - centre_y)
    spread = float((weight * distance).sum()) / total
    focus = rise(spread, 0.45, 0.15) / 100
    off_centre = float(np.hypot(centre_x - 0.5, centre_y - 0.5))
    off_thirds = min(float(np.hypot(centre_x - a, centre_y - b)) for a in _THIRDS for b in _THIRDS)
    return {
        "centered subject": round(focus * rise(off_centre, 0.2, 0.03)),
        "rule of thirds": round(focus * rise(off_thirds, 0.18, 0.04)),
        "single subject": round(100 * focus),
        "scattered details": rise(spread, 0.25, 0.42),
    }


def _symmetry(luma: Array) -> Labels:
    return {
        "symmetrical": rise(_likeness(luma, luma[:, ::-1]), 0.5, 0.97),
        "reflection": rise(_likeness(luma, luma[::-1]), 0.6, 0.97),
    }


def _likeness(one: Array, other: Array) -> float:
    """Correlation, -1..1, of two views of the same picture."""
    centred, mirrored = one - one.mean(), other - other.mean()
    return float((centred * mirrored).mean() / (centred * centred).mean())


def _gradient(luma: Array) -> Labels:
    """How much of the picture a plain course from edge to edge explains."""
    variance = float(luma.var())
    return {
        "vertical gradient": _gradual(luma.mean(axis=1), variance),
        "horizontal gradient": _gradual(luma.mean(axis=0), variance),
    }


def _gradual(means: Array, variance: float) -> int:
    """Near 100 for a straight course without a jump."""
    if means.size < 3 or float(np.ptp(means)) == 0:  # noqa: PLR2004 - a line needs more than its ends
        return 0
    at = np.arange(means.size) - (means.size - 1) / 2
    line = at * float((at * means).sum() / (at * at).sum())
    jump = float(np.abs(np.diff(means)).max() / np.ptp(means))
    return round(rise(float(line.var()) / variance, 0.4, 0.95) * rise(jump, 0.5, 0.1) / 100)


def _horizon(luma: Array) -> Labels:
    """One row where brightness steps from edge to edge, between calmer areas."""
    height = luma.shape[0]
    if height < 8:  # noqa: PLR2004 - too few rows for two areas
        return {}
    jumps = np.abs(np.diff(luma, axis=0))
    rows = np.median(jumps, axis=1)
    inner = rows[height // 8 : -(height // 8)]
    step, usual = float(inner.max()), float(np.median(rows))
    return {"horizon": rise(step - 3 * usual, 0.02, 0.15)}


def _border(rgb: Array) -> Labels:
    edge = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])
    return {"plain background": rise(float(edge.std(axis=0).mean()), 0.12, 0.01)}
