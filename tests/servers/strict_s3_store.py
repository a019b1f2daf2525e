"""What a strict S3 holds: buckets, versions of objects, and the feed of what changed."""

from __future__ import annotations

import hashlib
import itertools
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from servers.strict_s3_http import Request, Response, S3Error

OWNER = "0" * 63 + "1"
Grants = list[tuple[str, str]]
ticks = itertools.count()


@dataclass(frozen=True)
class Annotation:
    payload: bytes
    last_modified: datetime

    @property
    def etag(self) -> str:
        return hashlib.md5(self.payload, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Stored:
    """One version of one object. Tests replace fields that no request can set."""

    body: bytes
    etag: str
    headers: dict[str, str] = field(default_factory=dict)  #: Content-Type and its like, names in lower case
    metadata: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, Annotation] = field(default_factory=dict)
    owner: str = OWNER
    grants: Grants = field(default_factory=list)
    storage_class: str = "STANDARD"
    encryption: dict[str, str] = field(default_factory=dict)  #: `x-amz-server-side-encryption…` headers
    redirect: str | None = None
    checksum: tuple[str, str, str] | None = None  #: algorithm, value, FULL_OBJECT or COMPOSITE
    size: int = 0
    version_id: str | None = None
    last_modified: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    extra: dict[str, str] = field(default_factory=dict)  #: headers of lock, replication, missing metadata …
    customer_key: bool = False  #: SSE-C
    delete_marker: bool = False

    @property
    def bytes_sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


@dataclass
class Bucket:
    """Its settings and what lies in it. The last five say how strict the server is with this bucket."""

    versioning: str | None = None  #: None: never; Enabled or Suspended
    acls_enabled: bool = False
    owner: str = OWNER
    encryption: dict[str, str] = field(default_factory=lambda: {"x-amz-server-side-encryption": "AES256"})
    configuration: dict[str, bytes] = field(default_factory=dict)  #: sub-resource, such as `lifecycle` -> XML
    objects: dict[str, list[Stored]] = field(default_factory=dict)  #: newest last
    knows_annotations: bool = True  #: False: `?annotation` is overlooked, as moto and Ceph do
    honours_put_conditions: bool = True  #: False: as some servers that know no conditions at all
    honours_copy_conditions: bool = True  #: False: a copy is never refused for an ETag, as with moto and Ceph
    copies_tags: bool = True  #: False: a copy loses the tags, as with Ceph 16.2
    spoil_copy: Callable[[Stored], Stored] = lambda copy: copy  #: what a server that does harm makes of one


#: Operation -> the event that S3 sends for it.
EVENT_NAMES = {
    "PutObject": "ObjectCreated:Put",
    "CopyObject": "ObjectCreated:Copy",
    "DeleteObject": "ObjectRemoved:Delete",
    "PutObjectTagging": "ObjectTagging:Put",
    "DeleteObjectTagging": "ObjectTagging:Delete",
    "PutObjectAnnotation": "ObjectAnnotation:Put",
    "DeleteObjectAnnotation": "ObjectAnnotation:Delete",
}


@dataclass(frozen=True)
class Event:
    """One request that changed something."""

    operation: str
    bucket: str
    key: str
    version_id: str | None = None

    @property
    def name(self) -> str:
        """As S3 calls it in a notification."""
        return EVENT_NAMES[self.operation]


class Store:
    """The state, and the few rules that several operations share."""

    def __init__(self) -> None:
        self.buckets: dict[str, Bucket] = {}
        self.events: list[Event] = []

    def bucket(self, name: str) -> Bucket:
        if name not in self.buckets:
            raise S3Error(404, "NoSuchBucket")
        return self.buckets[name]

    def find(self, bucket: str, key: str, version_id: str | None = None) -> Stored:
        versions = self.bucket(bucket).objects.get(key, [])
        if version_id is None:
            if not versions or versions[-1].delete_marker:
                raise S3Error(404, "NoSuchKey")
            return versions[-1]
        found = [stored for stored in versions if version_id == (stored.version_id or "null")]
        if not found:
            raise S3Error(404, "NoSuchVersion")
        if found[-1].delete_marker:
            raise S3Error(405, "MethodNotAllowed")
        return found[-1]

    def asked_for(self, request: Request) -> Stored:
        return self.find(request.bucket, request.key, request.query.get("versionId"))

    def add(self, request: Request, stored: Stored, operation: str) -> Stored:
        """A new version, or the only one."""
        bucket = self.bucket(request.bucket)
        stored = replace(stored, version_id=_new_version_id(bucket.versioning))
        versions = bucket.objects.get(request.key, []) if bucket.versioning else []
        kept = [earlier for earlier in versions if stored.version_id != (earlier.version_id or "null")]
        bucket.objects[request.key] = [*kept, stored]
        self.events.append(Event(operation, request.bucket, request.key, stored.version_id))
        return stored

    def change(self, request: Request, stored: Stored, operation: str, **fields: Any) -> Stored:
        """The same version with other fields: what tags and annotations do."""
        changed = replace(stored, **fields)
        versions = self.bucket(request.bucket).objects[request.key]
        versions[versions.index(stored)] = changed
        self.events.append(Event(operation, request.bucket, request.key, stored.version_id))
        return changed

    # --- what tests look at and set -----------------------------------------------------------------------

    def current(self, bucket: str, key: str) -> Stored:
        return self.find(bucket, key)

    def edit(self, bucket: str, key: str, **fields: Any) -> None:
        """Set what no request can, such as `extra={"x-amz-replication-status": "REPLICA"}`."""
        versions = self.buckets[bucket].objects[key]
        versions[-1] = replace(versions[-1], **fields)


Operation = Callable[[Store, Request], Response]


def now() -> datetime:
    """Later than ever before, and the same in every test run."""
    return datetime.fromtimestamp(1_800_000_000 + next(ticks), UTC)


def version_header(stored: Stored, name: str = "x-amz-version-id") -> dict[str, str]:
    return {name: stored.version_id} if stored.version_id else {}


def quoted(etag: str) -> str:
    return f'"{etag}"'


def is_met(condition: str | None, etag: str) -> bool:
    """Whether an `If-Match` holds; S3 takes ETags with and without quotes."""
    return condition is None or condition == "*" or condition.strip('"') == etag


def _new_version_id(versioning: str | None) -> str | None:
    return {None: None, "Suspended": "null"}.get(versioning, uuid.uuid4().hex)
