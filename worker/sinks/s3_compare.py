"""What a rewrite may change of an S3 object, and what it must not, by the headers of HEAD and GET."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tagmill.worker.sinks import encoding

Headers = Mapping[str, str]  #: names in lower case

METADATA = "x-amz-meta-"
CHECKSUM = "x-amz-checksum-"
TAG_COUNT = "x-amz-tagging-count"
ENCRYPTION = "x-amz-server-side-encryption"
NAMES = frozenset({"cache-control", "etag", "expires"})
PREFIXES = ("content-", "x-amz-")
#: They tell of the answer, or of what every rewrite changes: time, version, and what depends on them. Some
#: servers (moto) also keep headers of the request that wrote the object.
PASSING = frozenset(
    {
        "x-amz-content-sha256",
        "x-amz-sdk-checksum-algorithm",
        "content-range",
        "x-amz-delete-marker",
        "x-amz-expiration",
        "x-amz-id-2",
        "x-amz-replication-status",
        "x-amz-request-charged",
        "x-amz-request-id",
        "x-amz-version-id",
    }
)


def headers_of(answer: Mapping[str, Any]) -> Headers:
    """Return the headers of an answer of botocore as they came."""
    headers: Headers = answer["ResponseMetadata"]["HTTPHeaders"]
    return headers


def changed(before: Headers, after: Headers) -> list[str]:
    """Return the names of all headers that a rewrite by us must have left as they were, and did not."""
    before, after = _lasting(before), _lasting(after)
    names = sorted(before.keys() | after.keys())
    return [name for name in names if before.get(name) != after.get(name) and not _may(name, before, after)]


def _lasting(headers: Headers) -> Headers:
    lasting = {name: value for name, value in headers.items() if _describes_the_object(name)}
    if lasting.get(TAG_COUNT) == "0":  # Ceph, of an object that once had tags
        del lasting[TAG_COUNT]
    return lasting


def _describes_the_object(name: str) -> bool:
    if name.removeprefix(METADATA) in encoding.OWN_KEYS or name in PASSING:
        return False
    return name in NAMES or name.startswith(PREFIXES)


def _may(name: str, before: Headers, after: Headers) -> bool:
    """What S3 itself changes in a copy: see docs/write-back.md, "What S3 cannot keep"."""
    if name == "etag":
        return not _is_digest(before)
    if name.startswith(CHECKSUM):  # S3 adds one where there was none, and makes a new one of parts' checksums
        return name not in before or "-" in before.get("etag", "")
    return name == ENCRYPTION and name not in before and after[name] == "AES256"


def _is_digest(headers: Headers) -> bool:
    """Whether the ETag is the MD5 of the content, so that a copy has it, too."""
    return "-" not in headers.get("etag", "") and not headers.get(ENCRYPTION, "").startswith("aws:")
