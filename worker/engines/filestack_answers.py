"""The tags in a Filestack answer: nothing is rescaled, translated or ranked here."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

import orjson

from tagmill.worker.engines.exchange import MAX_BODY_BYTES
from tagmill.worker.errors import BadResponseError
from tagmill.worker.models import PARTIAL, TagSets

NO_TAGS = "no_tags"  #: flag: the service found nothing to name
MAX_LABELS = 1_000
MAX_LABEL_LENGTH = 256
_MAX_INTEGER_DIGITS = 18  # what every JSON reader can hold
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def parse_tags(body: bytes) -> tuple[TagSets, tuple[str, ...]]:
    """Tags and flags. Raise `BadResponseError`, and nothing else, for what is no tagging answer."""
    root, doubled = decoded(body)
    tags = root.get("tags") if isinstance(root, dict) else None
    if not isinstance(tags, dict):
        raise BadResponseError("no `tags` object")
    return tags_of(tags, partial=doubled)


def tags_of(tags: Mapping[str, Any], *, partial: bool = False) -> tuple[TagSets, tuple[str, ...]]:
    """What is usable of a `tags` object, and flags; `partial`: something was lost before.

    Raise `BadResponseError`, and nothing else.
    """
    auto = tags.get("auto")
    if not isinstance(auto, dict | None):
        raise BadResponseError("`tags.auto` is no object")
    labels = _labels(auto or {})
    given = {name: value for name, value in tags.items() if name != "auto"}
    others = {name: value for name, value in given.items() if storable({name: value})}
    partial = partial or len(labels) < len(auto or {}) or len(others) < len(given)
    flags = [PARTIAL] * partial + [NO_TAGS] * (not labels)
    return {"auto": labels, "user": None, **others}, tuple(flags)


def decoded(body: bytes) -> tuple[Any, bool]:
    """JSON without what other readers choke on, and whether a key was given twice (the last one counts).

    Raise `BadResponseError`, and nothing else.
    """
    if len(body) > MAX_BODY_BYTES:
        raise BadResponseError("more than 1 MiB")
    doubled = False

    def merge(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal doubled
        merged = dict(pairs)
        doubled = doubled or len(merged) < len(pairs)
        return merged

    try:
        root = json.loads(
            body.decode(),
            object_pairs_hook=merge,
            parse_constant=lambda _: None,  # NaN and the infinities: no confidence, and null anywhere else
            parse_float=_finite,
            parse_int=_integer,
        )
    except (ValueError, RecursionError):
        raise BadResponseError("no JSON") from None
    return root, doubled


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _integer(text: str) -> int | None:
    return int(text) if len(text) <= _MAX_INTEGER_DIGITS else None


def _labels(auto: dict[str, Any]) -> dict[str, float]:
    """The usable ones; two spellings of one label count once, with the higher confidence."""
    usable: dict[str, float] = {}
    for label, confidence in auto.items():
        if _is_label(label) and is_confidence(confidence):
            name = unicodedata.normalize("NFC", label)
            usable[name] = max(confidence, usable.get(name, confidence))
    if len(usable) <= MAX_LABELS:
        return usable
    return dict(sorted(usable.items(), key=lambda pair: -pair[1])[:MAX_LABELS])


def _is_label(label: str) -> bool:
    return 0 < len(label) <= MAX_LABEL_LENGTH and not label.isspace() and not _CONTROL.search(label)


def is_confidence(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100  # noqa: PLR2004 - the scale


def storable(value: Any) -> bool:
    """Whether the journal and the manifest can hold it: no lone surrogates, no bottomless nesting."""
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True
