"""What S3 tells of new objects, in each of its shapes: as it is, wrapped by SNS, or by way of EventBridge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

import orjson

from tagmill.worker.models import Json, S3Object

CREATED = "ObjectCreated:"
COPIED = "ObjectCreated:Copy"


@dataclass(frozen=True, slots=True)
class Created:
    """An object that is new, or has new content."""

    source: S3Object
    at: str  #: RFC 3339, UTC
    sequencer: str = ""  #: orders the events of one key
    copied: bool = False
    principal: str | None = None  #: who did it; EventBridge does not say


def read_message(body: str) -> list[Created]:
    """Raise ValueError for what is none of the shapes. Nothing new: a test, or an event of another kind."""
    try:
        return list(_read(orjson.loads(body)))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no event of S3: {type(error).__name__} {error}") from None


def _read(message: Json) -> Iterator[Created]:
    if "Records" in message:
        for record in message["Records"]:
            yield from _of_record(record)
    elif message.get("Type") == "Notification":
        yield from _read(orjson.loads(message["Message"]))
    elif message.get("source") == "aws.s3":
        yield from _of_event_bridge(message)
    elif message.get("Event") != "s3:TestEvent":
        raise ValueError("no event of S3")


def _of_record(record: Json) -> Iterator[Created]:
    """Keys are encoded as in a form there."""
    name = str(record["eventName"]).removeprefix("s3:")
    found, at = record["s3"]["object"], str(record["eventTime"])
    if not name.startswith(CREATED):
        return
    source = S3Object(
        _text(record["s3"]["bucket"]["name"]),
        unquote_plus(_text(found["key"]), errors="strict"),
        etag=_etag(found.get("eTag")),
        size=_size(found.get("size")),
        last_modified=at,
        version_id=_optional(found.get("versionId")),
    )
    principal = record.get("userIdentity", {}).get("principalId")
    yield Created(source, at, _optional(found.get("sequencer")) or "", name == COPIED, principal)


def _of_event_bridge(message: Json) -> Iterator[Created]:
    """Keys are as they are there."""
    detail, at = message["detail"], str(message["time"])
    if message["detail-type"] != "Object Created":
        return
    found = detail["object"]
    source = S3Object(
        _text(detail["bucket"]["name"]),
        _text(found["key"]),
        etag=_etag(found.get("etag")),
        size=_size(found.get("size")),
        last_modified=at,
        version_id=_optional(found.get("version-id")),
    )
    yield Created(source, at, _optional(found.get("sequencer")) or "", detail.get("reason") == "CopyObject")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"no event of S3: {value!r} is no name")
    return value


def _optional(value: Any) -> str | None:
    return _text(value) if value else None


def _etag(value: Any) -> str | None:
    found = _optional(value)
    return found.strip('"') if found else None


def _size(value: Any) -> int | None:
    if value is not None and (not isinstance(value, int) or value < 0):
        raise ValueError(f"no event of S3: {value!r} is no size")
    return value
