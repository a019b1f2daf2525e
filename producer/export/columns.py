"""The columns of a table: one line for an image, or one for each of its tags."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tagmill.producer.export.selection import Selection
from tagmill.worker.models import Json


class Kind(StrEnum):
    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    TIME = "time"  #: RFC 3339, UTC
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    kind: Kind
    value: Callable[[Json], Any]  #: of a row; None: nothing


def _field(name: str, kind: Kind) -> Column:
    return Column(name, kind, lambda row: row[name])


def _inner(name: str, kind: Kind, field: str, key: str) -> Column:
    return Column(name, kind, lambda row: row[field] and row[field].get(key))


TEXT, INTEGER, NUMBER, TIME, JSON = Kind

#: All that a row says.
OF_IMAGES = (
    _field("id", TEXT),
    _field("status", TEXT),
    _inner("tags", JSON, "tags", "auto"),
    _inner("user_tags", JSON, "tags", "user"),
    _inner("raw_tags", JSON, "raw_tags", "auto"),
    _field("flags", JSON),
    _field("duplicate_of", TEXT),
    _inner("error_class", TEXT, "error", "class"),
    _inner("error_code", TEXT, "error", "code"),
    _inner("error_message", TEXT, "error", "message"),
    _field("results", JSON),
    _field("labels", JSON),
    _field("writes", JSON),
    _field("tagged_at", TIME),
    _field("source", JSON),
    _field("policy", TEXT),
    _field("engine", TEXT),
    _field("engine_version", TEXT),
    _field("engine_config", TEXT),
    _field("transfer", TEXT),
    _field("attempts", INTEGER),
    _field("calls", INTEGER),
    _field("maybe_charged", INTEGER),
    _field("cost", NUMBER),
    _field("latency_ms", INTEGER),
    _field("http_status", INTEGER),
    _field("run_id", TEXT),
    _field("pass", INTEGER),
    _field("shard", INTEGER),
    _field("index", INTEGER),
)
#: `id` joins them to the columns of the image.
OF_TAGS = (
    _field("id", TEXT),
    _field("tag", TEXT),
    _field("confidence", NUMBER),
    _field("tagged_at", TIME),
    _field("policy", TEXT),
    _field("engine", TEXT),
    _field("run_id", TEXT),
    _field("pass", INTEGER),
    _field("shard", INTEGER),
    _field("index", INTEGER),
)


def exploded(rows: Iterable[Json], selection: Selection) -> Iterator[Json]:
    """Yield the image's row with `tag` and `confidence`, for each tag that fits."""
    for row in rows:
        for tag, confidence in selection.fitting(row).items():
            yield {**row, "tag": tag, "confidence": confidence}
