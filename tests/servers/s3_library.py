"""A bucket of the strict S3 with images in it, and a sink that writes to them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fakes.taggings import TAGGING, keep
from servers.strict_s3 import Stored, StrictS3UnderTest

from tagmill.worker.models import ImageRef, S3Object, Write
from tagmill.worker.sinks.base import Sink, Tagging

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

AnySink = TypeVar("AnySink", bound=Sink)
_keys = itertools.count()


@cache
def client_of(server: StrictS3UnderTest) -> S3Client:
    """Making a client costs more than a whole test."""
    return server.client()


class Library(Generic[AnySink]):
    def __init__(self, server: StrictS3UnderTest, sink: AnySink, **bucket: Any) -> None:
        """`bucket`: fields of the server's `Bucket`, and `versioned`."""
        self.server, self.sink, self.client = server, sink, client_of(server)
        self.bucket = server.new_bucket(**bucket)

    def put(self, **fields: Any) -> ImageRef:
        """A new image as a listing would name it."""
        key = f"a b/photo {next(_keys)}+%41ü.jpg"
        self.client.put_object(**{"Bucket": self.bucket, "Key": key, "Body": b"image", **fields})
        return self.listed(fields.get("Key", key))

    def listed(self, key: str) -> ImageRef:
        stored = self.server.store.current(self.bucket, key)
        return ImageRef(S3Object(self.bucket, key, stored.etag, stored.size))

    def edit(self, ref: ImageRef, **fields: Any) -> ImageRef:
        """Set what no request can."""
        self.server.store.edit(self.bucket, key_of(ref), **fields)
        return self.listed(key_of(ref))

    def overwrite(self, ref: ImageRef, body: bytes = b"newer") -> None:
        self.client.put_object(**at(ref), Body=body)

    def stored(self, ref: ImageRef) -> Stored:
        return self.server.store.current(self.bucket, key_of(ref))

    def keys(self) -> list[str]:
        return sorted(self.server.store.buckets[self.bucket].objects)

    async def write(self, ref: ImageRef, tagging: Tagging = TAGGING) -> Write:
        return await self.sink.write(ref, tagging, keep)

    async def marked(self, ref: ImageRef, tagging: Tagging = TAGGING) -> bool | None:
        return await self.sink.marked(ref, tagging.engine_config, tagging.policy, "run-next")


def key_of(ref: ImageRef) -> str:
    assert isinstance(ref.source, S3Object)
    return ref.source.key


def at(ref: ImageRef) -> Any:
    """Names the image in a request."""
    assert isinstance(ref.source, S3Object)
    return {"Bucket": ref.source.bucket, "Key": ref.source.key}


def tag_set(tags: Mapping[str, str]) -> Any:
    return {"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]}
