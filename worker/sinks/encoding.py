"""Tags as S3 user metadata and back: ASCII, within S3's 2 KB, the same input always the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

SCHEMA = "tagmill-schema"
TAGS = "tagmill-tags"
LABELS = "tagmill-labels"  #: that rules gave the image, if any
RUN = "tagmill-run"
CONFIG = "tagmill-config"
REPLACES = "tagmill-replaces"  #: the run whose values this one replaced, if any
SOURCE_ETAG = "tagmill-source-etag"
SOURCE_SIZE = "tagmill-source-size"  #: tells new content where a copy changes the ETag
OWN_KEYS = frozenset({SCHEMA, TAGS, LABELS, RUN, CONFIG, REPLACES, SOURCE_ETAG, SOURCE_SIZE})
SCHEMA_VERSION = "1"

#: Bytes of all keys and values in UTF-8, the `x-amz-meta-` prefix not counted (S3 user guide, "Working with
#: object metadata").
BUDGET_BYTES = 2048

_SURROGATES = "surrogatepass"  # a label from JSON may hold half a pair; it must not stop a write


class NoRoomError(ValueError):
    """Not even the most confident label fits beside the metadata that others put there."""


@dataclass(frozen=True, slots=True)
class Encoded:
    values: dict[str, str]
    truncated: int = 0  #: labels that found no room


def encode(labels: Mapping[str, float], fixed: Mapping[str, str], foreign: Mapping[str, str]) -> Encoded:
    """Own metadata: `fixed` and as many labels as fit, the least confident cut first.

    No label gives no `tagmill-tags`, because some servers drop empty values. Raise NoRoomError.
    """
    room = BUDGET_BYTES - metadata_bytes(fixed) - metadata_bytes(foreign)
    words = [_word(label, confidence) for label, confidence in ranked(labels)]
    kept = fitting(words, room - len(TAGS))
    if room < 0 or (words and not kept):
        raise NoRoomError(f"{BUDGET_BYTES - room} of {BUDGET_BYTES} bytes of metadata are taken")
    tags = {TAGS: ",".join(kept)} if kept else {}
    return Encoded({**fixed, **tags}, truncated=len(words) - len(kept))


def encoded_labels(labels: Iterable[str]) -> dict[str, str]:
    """Own metadata for the labels of a row; nothing for none."""
    text = ",".join(_quoted(label) for label in labels)
    return {LABELS: text} if text else {}


def decode(metadata: Mapping[str, str]) -> dict[str, float] | None:
    """Labels of an object's metadata, None when we never wrote there. Raise ValueError for another form."""
    if metadata.get(SCHEMA) != SCHEMA_VERSION:
        return None
    words = filter(None, metadata.get(TAGS, "").split(","))
    return dict(_parse_word(word) for word in words)


def says(metadata: Mapping[str, str], labels: Mapping[str, float]) -> bool:
    """Return whether these are the labels, or as many of the first ones as once found room."""
    said = metadata[TAGS].split(",") if TAGS in metadata else []
    words = [_word(label, confidence) for label, confidence in ranked(labels)]
    return said == words[: len(said)] and bool(said) == bool(words)


def ranked(labels: Mapping[str, float]) -> list[tuple[str, float]]:
    """Most confident first, equals by label."""
    return sorted(labels.items(), key=lambda item: (-item[1], item[0]))


def metadata_bytes(metadata: Mapping[str, str]) -> int:
    """What S3 counts against its limit."""
    return sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items())


def fitting(words: Iterable[str], room: int) -> list[str]:
    """Return as many of the first words as fit, one byte between two."""
    kept: list[str] = []
    for word in words:
        room -= len(word) + bool(kept)
        if room < 0:
            break
        kept.append(word)
    return kept


def _word(label: str, confidence: float) -> str:
    return f"{_quoted(label)}:{number(confidence)}"


def _quoted(label: str) -> str:
    return quote(label, safe="", errors=_SURROGATES)


def number(value: float) -> str:
    """Return a confidence as short as it can be written."""
    return str(int(value)) if value == int(value) else repr(float(value))


def _parse_word(word: str) -> tuple[str, float]:
    label, _, confidence = word.rpartition(":")
    return unquote(label, errors=_SURROGATES), float(confidence)
