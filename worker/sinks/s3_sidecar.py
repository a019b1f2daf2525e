"""Tags of an S3 image in an object beside it, `photo.jpg.tags.json`, or under a prefix of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tagmill.worker.errors import SinkConflictError, SinkRejectedError
from tagmill.worker.models import S3Object
from tagmill.worker.sidecar_prefix import SidecarPrefix
from tagmill.worker.sinks.s3_access import RefusedError, S3Access, refuse_earlier
from tagmill.worker.sinks.s3_document import Found, Image, S3DocumentSink, parsed
from tagmill.worker.sinks.s3_errors import error_code, translated

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_KEY_BYTES = 1024
_NOT_THERE = frozenset({"NoSuchKey", "404"})


class S3SidecarSink(S3DocumentSink):
    def __init__(self, client: S3Client, *, lanes: int, prefix: SidecarPrefix | None = None) -> None:
        objects = _Objects(client, prefix or SidecarPrefix())
        super().__init__("sidecar", objects, S3Access(client, lanes=lanes))


class _Objects:
    foreign = "foreign_file"

    def __init__(self, client: S3Client, prefix: SidecarPrefix) -> None:
        self._client, self._prefix = client, prefix

    def check(self, source: S3Object) -> None:
        refuse_earlier(source)
        if len(self._prefix.place(source)["Key"].encode(errors="surrogatepass")) > MAX_KEY_BYTES:
            raise RefusedError("key_too_long")

    def read(self, image: Image) -> Found | None:
        place = self._prefix.place(image.source)
        with translated("GetObject"):
            try:
                answer = self._client.get_object(**place)  # type: ignore[arg-type] # place names an object
            except ClientError as error:
                if error_code(error) in _NOT_THERE:
                    return None
                if error_code(error) == "NoSuchBucket":
                    says = f"there is no bucket {place['Bucket']!r} for sidecars; create it"
                    raise SinkRejectedError(says, code="no_bucket") from error
                raise
            with answer["Body"] as body:
                return parsed(body, answer["ContentLength"], answer["ETag"])

    def put(self, image: Image, text: str, found: Found | None) -> None:
        condition: Any = {"IfMatch": found.etag} if found else {"IfNoneMatch": "*"}
        place: Any = self._prefix.place(image.source)
        with _still_there(found), translated("PutObject"):
            self._client.put_object(**place, **condition, Body=text.encode(), ContentType="application/json")

    def remove(self, image: Image, found: Found) -> None:
        place: Any = self._prefix.place(image.source)
        with _still_there(found), translated("DeleteObject"):
            self._client.delete_object(**place, IfMatch=found.etag)


@contextmanager
def _still_there(found: Found | None) -> Iterator[None]:
    """S3 answers 404, not 412, when the object of an `If-Match` is gone."""
    try:
        yield
    except SinkRejectedError as error:
        if found is None or error.code != "missing":
            raise
        raise SinkConflictError("the sidecar was deleted meanwhile") from error
