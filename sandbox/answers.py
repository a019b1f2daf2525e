"""What each intelligence task answers for a picture, in the documented shapes.

Pixels say what `tags`, `caption`, `sfw` and `doc_detection` answer, each by a plain rule. The sandbox sees no
text, no faces and no licences, so `ocr`, `image_sentiment` and `copyright` always find nothing.
Shapes: https://stage.filestack.com/docs/transformations/intelligence/ and the pages below it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tagmill.sandbox.colour import NAMES, colour_labels
from tagmill.sandbox.composition import format_labels
from tagmill.sandbox.light import light_labels, to_luma
from tagmill.sandbox.pictures import Picture
from tagmill.sandbox.pixels import CONFIDENT, tag_picture
from tagmill.sandbox.urls import Task

UNSAFE = "magenta"  #: the colour that stands for what is not safe
_HALF = 71  #: a colour's confidence when half of the pixels have it
_UNLIKE = 0.2  #: of a pixel's colour from the border's, when it is no border
_MOST_COLOURS = 3  #: in a caption

_VERSION_1_LABELS = 10  #: as many as old samples show

Answer = dict[str, Any]
Params = Mapping[str, str]


def answer(task: Task, picture: Picture) -> Answer:
    """`task` is one of ANSWERS, its parameters are checked."""
    return ANSWERS[task.name](picture, task.params)


def _tags(picture: Picture, params: Params) -> Answer:
    labels = list(tag_picture(picture).items())
    old = "1" in params.values()
    return {"tags": {"auto": dict(labels[:_VERSION_1_LABELS] if old else labels), "user": None}}


def _sfw(picture: Picture, _: Params) -> Answer:
    return {"sfw": colour_labels(picture.rgb)[UNSAFE] < _HALF}


def _caption(picture: Picture, _: Params) -> Answer:
    colours = {name: colour_labels(picture.rgb)[name] for name in NAMES}
    named = sorted((name for name in NAMES if colours[name] >= CONFIDENT), key=lambda name: -colours[name])
    light = light_labels(to_luma(picture.rgb))
    tone = "bright " if light["bright"] >= CONFIDENT else "dark " if light["dark"] >= CONFIDENT else ""
    return {"caption": f"a {tone}{_format(picture)} picture in {_listed(named[:_MOST_COLOURS])}"}


def _doc_detection(picture: Picture, _: Params) -> Answer:
    """The box around everything that is unlike the border; of an even picture, all of it."""
    rgb = picture.rgb
    border = np.median(np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]]), axis=0)
    inside = np.linalg.norm(rgb - border, axis=2) > _UNLIKE
    if not inside.any():
        inside[:] = True
    top, bottom = _extent(inside.any(axis=1), picture.height)
    left, right = _extent(inside.any(axis=0), picture.width)
    return {"coords": {"x": left, "y": top, "width": right - left, "height": bottom - top}}


ANSWERS: Mapping[str, Callable[[Picture, Params], Answer]] = {
    "tags": _tags,
    "sfw": _sfw,
    "caption": _caption,
    "doc_detection": _doc_detection,
    "ocr": lambda *_: {"document": {"text_areas": []}},
    "image_sentiment": lambda *_: {"emotions": {}},
    "copyright": lambda *_: {"copyright": False, "licenses": []},
}


def _format(picture: Picture) -> str:
    shape = format_labels(picture.width, picture.height)
    names = ("landscape", "portrait")
    return next((name for name in names if shape[f"{name} orientation"] >= CONFIDENT), "square")


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]])) or "many colors"


def _extent(marked: npt.NDArray[np.bool_], pixels: int) -> tuple[int, int]:
    """Where the marked part begins and ends, in pixels of the file."""
    first, last = np.flatnonzero(marked)[[0, -1]]
    scale = pixels / marked.size
    return int(first * scale), round((int(last) + 1) * scale)
