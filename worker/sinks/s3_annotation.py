"""The full result as an S3 annotation of the image: no copy, no new version, guarded by the image's ETag.

A server that does not know annotations takes `PUT key?annotation` for a new image. So nothing is sent to a
bucket for which they were not proven; and what a read answers that is not ours is never written over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tagmill.worker.models import S3Object
from tagmill.worker.sinks.s3_access import RefusedError, S3Access
from tagmill.worker.sinks.s3_document import Found, Image, S3DocumentSink, parsed
from tagmill.worker.sinks.s3_errors import error_code, translated
from tagmill.worker.sinks.s3_object import address

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: The annotation's name: at most 512 bytes, not beginning with `aws` or `s3` (PutObjectAnnotation).
ANNOTATION = "tagmill"
Proven = Callable[[str], bool]  #: bucket -> whether its server was seen to know annotations


class S3AnnotationSink(S3DocumentSink):
    def __init__(self, client: S3Client, *, lanes: int, proven: Proven) -> None:
        super().__init__("annotation", _Annotations(client, proven), S3Access(client, lanes=lanes))


class _Annotations:
    foreign = "foreign_annotation"

    def __init__(self, client: S3Client, proven: Proven) -> None:
        self._client, self._proven = client, proven

    def check(self, source: S3Object) -> None:
        if not self._proven(source.bucket):
            raise RefusedError("annotations_unproven")

    def read(self, image: Image) -> Found | None:
        if image.stored is None:
            return None
        if image.stored.is_replica:
            raise RefusedError("replica")
        with translated("GetObjectAnnotation"):
            try:
                answer = self._client.get_object_annotation(**_at(image))
            except ClientError as error:
                if error_code(error) == "NoSuchAnnotation":
                    return None
                raise
            with answer["AnnotationPayload"] as body:
                return parsed(body, answer["ContentLength"], answer["ETag"])

    def put(self, image: Image, text: str, _: Found | None) -> None:
        with translated("PutObjectAnnotation"):
            self._client.put_object_annotation(**_at(image), **_guard(image), AnnotationPayload=text.encode())

    def remove(self, image: Image, _: Found) -> None:
        with translated("DeleteObjectAnnotation"):
            self._client.delete_object_annotation(**_at(image), **_guard(image))


def _at(image: Image) -> dict[str, Any]:
    return {**address(image.source, image.stored), "AnnotationName": ANNOTATION}


def _guard(image: Image) -> dict[str, Any]:
    """New content is not annotated with what was said of the old."""
    return {"ObjectIfMatch": image.stored.head["ETag"]} if image.stored else {}
