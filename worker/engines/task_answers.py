"""What the intelligence tasks beside `tags` answer, each in the one shape that is documented.

https://stage.filestack.com/docs/transformations/intelligence/ and the pages below it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tagmill.worker.engines.filestack_answers import decoded, is_confidence, parse_tags, storable
from tagmill.worker.errors import BadResponseError
from tagmill.worker.models import PARTIAL, Json
from tagmill.worker.task_list import TAGS

Flags = tuple[str, ...]


def parse_answer(kind: str, body: bytes) -> tuple[Json, Flags]:
    """Return a result's `data`, and flags. Raise `BadResponseError`, and nothing else, for another shape."""
    if kind == TAGS:
        tags, flags = parse_tags(body)
        return {"tags": tags}, flags
    data, doubled = decoded(body)
    if not isinstance(data, dict) or not _SHAPES[kind](data):
        raise BadResponseError(f"no answer of `{kind}`")
    if not storable(data):
        raise BadResponseError(f"what `{kind}` answers cannot be kept")
    dropped = kind == "image_sentiment" and _drop_odd_emotions(data)
    return data, (PARTIAL,) if doubled or dropped else ()


def _is_ocr(data: Json) -> bool:
    document = data.get("document")
    return isinstance(document, dict) and isinstance(document.get("text_areas"), list)


def _is_copyright(data: Json) -> bool:
    return isinstance(data.get("copyright"), bool) and isinstance(data.get("licenses", []), list)


def _is_doc_detection(data: Json) -> bool:
    """A box, or as in older documentation its four corners."""
    coords = data.get("coords")
    if isinstance(coords, dict):
        return all(_is_number(coords.get(name)) for name in ("x", "y", "width", "height"))
    return isinstance(coords, list)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _drop_odd_emotions(data: Json) -> bool:
    emotions = data["emotions"]
    data["emotions"] = {name: value for name, value in emotions.items() if is_confidence(value)}
    return len(data["emotions"]) < len(emotions)


_SHAPES: Mapping[str, Callable[[Json], bool]] = {
    "sfw": lambda data: isinstance(data.get("sfw"), bool),
    "caption": lambda data: isinstance(data.get("caption"), str),
    "ocr": _is_ocr,
    "copyright": _is_copyright,
    "image_sentiment": lambda data: isinstance(data.get("emotions"), dict),
    "doc_detection": _is_doc_detection,
}
