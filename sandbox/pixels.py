"""What the pixels of an image file honestly show, as labels with confidences.

Colour, light and layout only: it does not know a dog from a car.
"""

from __future__ import annotations

from tagmill.sandbox.colour import Labels, colour_labels, rise
from tagmill.sandbox.composition import composition_labels, format_labels
from tagmill.sandbox.light import light_labels, to_luma
from tagmill.sandbox.pictures import Picture

MOST = 20
LEAST = 10
CONFIDENT = 40  #: below it a label only fills up to LEAST


def tag_picture(picture: Picture) -> Labels:
    """10 to 20 labels, most confident first; the same for the same pixels."""
    luma = to_luma(picture.rgb)
    return best(
        colour_labels(picture.rgb)
        | light_labels(luma)
        | composition_labels(picture.rgb, luma)
        | format_labels(picture.width, picture.height)
        | {"transparent background": rise(picture.transparent, 0.02, 0.3)}
    )


def best(labels: Labels) -> Labels:
    ranked = sorted(labels.items(), key=lambda pair: (-pair[1], pair[0]))
    confident = sum(confidence >= CONFIDENT for confidence in labels.values())
    return dict(ranked[: min(MOST, max(LEAST, confident))])
