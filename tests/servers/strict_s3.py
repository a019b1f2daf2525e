"""An S3 server that is as strict as the S3 API reference says, where test servers are usually kind.

Path-style, in memory, signatures not checked. What an operation does not know it refuses (501), because a
server that ignores an unknown sub-resource overwrites images; a bucket can be made to show just that.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from servers import (
    strict_s3_annotations,
    strict_s3_bucket_config,
    strict_s3_objects,
    strict_s3_tagging,
)
from servers.s3 import S3UnderTest
from servers.strict_s3_fields import MAX_METADATA_BYTES
from servers.strict_s3_http import Faults, Request, Response, S3Error, refusal, serving, spoiled
from servers.strict_s3_store import Bucket, Event, Operation, Store, Stored, ticks

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["MAX_METADATA_BYTES", "Event", "Stored", "StrictS3", "StrictS3UnderTest", "running_strict_s3"]

OPERATIONS: Mapping[str, Operation] = {
    **strict_s3_objects.OPERATIONS,
    **strict_s3_tagging.OPERATIONS,
    **strict_s3_annotations.OPERATIONS,
    **strict_s3_bucket_config.OPERATIONS,
}
#: Query parameters that do not say which operation it is.
DETAILS = {
    "x-id",
    "versionId",
    "prefix",
    "start-after",
    "key-marker",
    "version-id-marker",
    "continuation-token",
    "max-keys",
    "encoding-type",
    "annotationName",
    "annotation-prefix",
    "max-annotation-results",
}


class StrictS3(Store):
    """The store behind a door that counts, serialises and spoils requests."""

    def __init__(self) -> None:
        super().__init__()
        self.faults = Faults()
        self.requests: list[str] = []  #: every operation, in order of arrival
        self._lock = threading.RLock()

    def answer(self, request: Request) -> Response:
        operation = operation_of(self._as_understood(request))
        self.requests.append(operation)
        fault = self.faults.take(operation)
        if fault and not fault.applied:
            return spoiled(fault)
        try:
            with self._lock:
                response = OPERATIONS.get(operation, not_implemented)(self, request)
        except S3Error as error:
            response = refusal(error.status, error.code)
        return spoiled(fault) if fault else response

    def _as_understood(self, request: Request) -> Request:
        """A server that does not know annotations sees the object's own path."""
        bucket = self.buckets.get(request.bucket)
        if bucket is not None and not bucket.knows_annotations:
            request.query.pop("annotation", None)
        return request


def not_implemented(_: Store, __: Request) -> Response:
    raise S3Error(501, "NotImplemented")


def operation_of(request: Request) -> str:
    """The operation's name in the API reference; a sub-resource that is not listed here is refused."""
    signed_link = {name for name in request.query if name.startswith("X-Amz-")}
    method, extra = request.method.capitalize(), "".join(sorted(set(request.query) - DETAILS - signed_link))
    if not request.key:
        return _bucket_operation(method, extra)
    if extra == "annotation":
        named = method != "Get" or "annotationName" in request.query
        return f"{method}ObjectAnnotation" if named else "ListObjectAnnotations"
    if not extra and request.header("x-amz-copy-source"):
        return "CopyObject"
    return f"{method}Object{ {'': '', 'acl': 'Acl', 'tagging': 'Tagging'}.get(extra, '?') }"


def _bucket_operation(method: str, extra: str) -> str:
    lists = {"list-type": "ListObjectsV2", "versions": "ListObjectVersions"}
    if not extra:
        return "CreateBucket" if method == "Put" else f"{method}Bucket"
    return lists.get(extra, method + strict_s3_bucket_config.SUB_RESOURCES.get(extra, "?"))


@dataclass(frozen=True)
class StrictS3UnderTest:
    """A running server: `store` is its inside, `client()` its outside."""

    url: str
    store: StrictS3

    @property
    def faults(self) -> Faults:
        return self.store.faults

    @property
    def events(self) -> list[Event]:
        return self.store.events

    def client(self) -> S3Client:
        """A client of its own, with one attempt a request."""
        return S3UnderTest(self.url).client(attempts=1, connections=32)

    def new_bucket(self, *, versioned: bool = False, **fields: Any) -> str:
        """An empty bucket that no other test knows; `fields` are `Bucket`'s."""
        name = f"bucket-{next(ticks)}"
        self.store.buckets[name] = Bucket(versioning="Enabled" if versioned else None, **fields)
        return name


@contextmanager
def running_strict_s3() -> Iterator[StrictS3UnderTest]:
    store = StrictS3()
    with serving(store.answer) as url:
        yield StrictS3UnderTest(url, store)
