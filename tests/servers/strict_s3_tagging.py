"""A strict S3's object tags: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from urllib.parse import parse_qsl
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from servers.strict_s3_fields import check_body_checksum
from servers.strict_s3_http import Request, Response, S3Error, xml
from servers.strict_s3_store import Operation, Store, version_header

MAX_TAGS = 10
MAX_KEY, MAX_VALUE = 128, 256
Tags = list[tuple[str, str]]


def get_object_tagging(store: Store, request: Request) -> Response:
    stored = store.asked_for(request)
    tags = (f"<Tag><Key>{escape(k)}</Key><Value>{escape(v)}</Value></Tag>" for k, v in stored.tags.items())
    return xml(f"<Tagging><TagSet>{''.join(tags)}</TagSet></Tagging>", version_header(stored))


def put_object_tagging(store: Store, request: Request) -> Response:
    """The whole set is replaced; there is no condition that S3 would look at."""
    check_body_checksum(request)
    tags = valid(_parsed(request.body))
    stored = store.change(request, store.asked_for(request), "PutObjectTagging", tags=tags)
    return Response(headers=version_header(stored))


def delete_object_tagging(store: Store, request: Request) -> Response:
    stored = store.change(request, store.asked_for(request), "DeleteObjectTagging", tags={})
    return Response(204, version_header(stored))


def tags_in_header(request: Request) -> dict[str, str]:
    return valid(parse_qsl(request.header("x-amz-tagging") or "", keep_blank_values=True))


def valid(tags: Tags) -> dict[str, str]:
    """Raise S3Error for a set that breaks a rule."""
    if len(tags) > MAX_TAGS:
        raise S3Error(400, "BadRequest")
    if len(dict(tags)) < len(tags) or not all(_is_valid(key, value) for key, value in tags):
        raise S3Error(400, "InvalidTag")
    return dict(tags)


def _is_valid(key: str, value: str) -> bool:
    lengths = 0 < len(key) <= MAX_KEY and len(value) <= MAX_VALUE
    reserved = key.lower().startswith("aws:")
    return lengths and not reserved and all(map(_is_allowed, key + value))


def _is_allowed(character: str) -> bool:
    r"""`[\p{L}\p{Z}\p{N}_.:/=+\-@]`, the pattern of S3Tag in the API reference."""
    return unicodedata.category(character)[0] in "LZN" or character in "_.:/=+-@"


def _parsed(body: bytes) -> Tags:
    try:
        root = ET.fromstring(body)  # noqa: S314 - the tests' own client wrote it
        rows = [row for row in root.iter() if row.tag.endswith("}Tag")]
        return [(_text(row, "Key"), _text(row, "Value")) for row in rows]
    except (ET.ParseError, StopIteration) as error:
        raise S3Error(400, "MalformedXML") from error


def _text(row: ET.Element, name: str) -> str:
    return next(child.text or "" for child in row if child.tag.endswith(f"}}{name}"))


OPERATIONS: Mapping[str, Operation] = {
    "GetObjectTagging": get_object_tagging,
    "PutObjectTagging": put_object_tagging,
    "DeleteObjectTagging": delete_object_tagging,
}
