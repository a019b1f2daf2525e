"""What a bucket's server really does, tried on a scratch object before anything of value is touched."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self

import structlog
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from tagmill.producer.sources.s3_errors import WRITE, translated
from tagmill.worker.capabilities import Capabilities
from tagmill.worker.errors import ConfigError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BODY = b"Tagmill tries here what this server does. It may be deleted.\n"
ANNOTATION, PAYLOAD = "tagmill-probe", b'{"tagmill": "probe"}'
THEIRS, OURS = {"probe-theirs": "kept"}, {"probe-ours": "sky:97 no-person:88"}
#: Not allowed; not known: those of the bucket itself (404, 301 …) have their own words.
REFUSALS = {
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.NOT_IMPLEMENTED,
}
NOT_THE_ETAG = '"00000000000000000000000000000000"'

log = structlog.get_logger()


def probe(client: S3Client, bucket: str, prefix: str, sinks: Collection[str]) -> Capabilities:
    """Try what `sinks` rely on, on an object below `prefix` that is gone afterwards.

    Raise `ConfigError` where the object cannot be written, or a sink could do nothing at all.
    """
    with translated(bucket, started=False, doing=WRITE):
        if _locks_new_objects(client, bucket):
            return Capabilities(bucket)
        with Scratch(client, bucket, prefix) as scratch:
            return Capabilities(
                bucket,
                # Annotations last: where they are unknown they overwrite the object.
                merges_tags=scratch.merges_tags() if "tags" in sinks else None,
                copies_tags=scratch.copies_tags() if "metadata" in sinks else None,
                copy_conditions=scratch.copy_conditions() if "metadata" in sinks else None,
                annotations=scratch.annotations() if "annotation" in sinks else None,
            )


def _locks_new_objects(client: S3Client, bucket: str) -> bool:
    """Whether nobody could take the scratch object away again."""
    try:
        answer = client.get_object_lock_configuration(Bucket=bucket)
    except (ClientError, ResponseParserError):  # without the notion, or without the permission
        return False
    return "DefaultRetention" in answer.get("ObjectLockConfiguration", {}).get("Rule", {})


class Scratch:
    """An object of our own; leaving it removes all its versions."""

    def __init__(self, client: S3Client, bucket: str, prefix: str) -> None:
        self._client, self._bucket = client, bucket
        self._key = f"{prefix}.tagmill-probe-{secrets.token_hex(8)}"
        self._at: Any = {"Bucket": bucket, "Key": self._key}
        self._versions: set[str] = set()  #: made by us

    def __enter__(self) -> Self:
        with self._needing("PutObject"):
            answer = self._client.put_object(**self._at, Body=BODY)
        self._note(answer)
        self._etag = answer["ETag"]
        return self

    def __exit__(self, *_: object) -> None:
        for version in self._versions or [None]:
            self._remove(version)

    def copy_conditions(self) -> bool:
        right = {"CopySourceIfMatch": self._etag, "IfMatch": self._etag}
        with self._needing("CopyObject"):
            self._copy(**right)
            wrong = [self._copies(**right | {name: NOT_THE_ETAG}) for name in right]
        return not any(wrong)

    def copies_tags(self) -> bool | None:
        """None: this account may not tag, so that it can copy no object with tags where that matters."""
        try:
            self._tag(THEIRS)
            self._copy()
            return self._tags() == THEIRS
        except ClientError:
            return None

    def merges_tags(self) -> bool:
        with self._needing("PutObjectTagging"):
            self._tag(THEIRS)
        with self._needing("GetObjectTagging"):
            self._tag({**self._tags(), **OURS})
            return self._tags() == {**THEIRS, **OURS}

    def annotations(self) -> bool:
        """Raise `ConfigError` where S3 knows them and this account may not write them."""
        try:
            with self._needing("PutObjectAnnotation", {HTTPStatus.FORBIDDEN}):
                self._annotate(self._etag)
            return self._untouched() and self._annotation() == PAYLOAD and not self._annotates(NOT_THE_ETAG)
        except (ClientError, BotoCoreError, ResponseParserError):
            return False

    # --- requests -----------------------------------------------------------------------------------------

    def _copy(self, **conditions: Any) -> None:
        source: Any = {"CopySource": self._at, "MetadataDirective": "REPLACE", "TaggingDirective": "COPY"}
        answer = self._client.copy_object(**self._at, **source, **conditions, Metadata={"probe": "copied"})
        self._note(answer)
        self._etag = answer["CopyObjectResult"]["ETag"]

    def _copies(self, **conditions: Any) -> bool:
        return not _refused(lambda: self._copy(**conditions))

    def _tag(self, tags: dict[str, str]) -> None:
        pairs: Any = [{"Key": key, "Value": value} for key, value in tags.items()]
        self._note(self._client.put_object_tagging(**self._at, Tagging={"TagSet": pairs}))

    def _tags(self) -> dict[str, str]:
        answer = self._client.get_object_tagging(**self._at)
        return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}

    def _annotate(self, etag: str) -> None:
        answer = self._client.put_object_annotation(
            **self._at, AnnotationName=ANNOTATION, AnnotationPayload=PAYLOAD, ObjectIfMatch=etag
        )
        self._note(answer)

    def _annotates(self, etag: str) -> bool:
        return not _refused(lambda: self._annotate(etag))

    def _annotation(self) -> bytes:
        answer = self._client.get_object_annotation(**self._at, AnnotationName=ANNOTATION)
        return answer["AnnotationPayload"].read()

    def _untouched(self) -> bool:
        answer = self._client.get_object(**self._at)
        return answer["Body"].read() == BODY and answer["ETag"] == self._etag

    def _note(self, answer: Any) -> None:
        """Whatever was asked, a server that did not understand may have made a version of it."""
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        self._versions |= {headers["x-amz-version-id"]} if "x-amz-version-id" in headers else set()

    def _remove(self, version: str | None) -> None:
        pinned: Any = {"VersionId": version} if version else {}
        try:
            self._client.delete_object(**self._at, **pinned)
        except (ClientError, BotoCoreError, ResponseParserError):
            log.warning("probe_object_left", bucket=self._bucket, key=self._key, version_id=version)

    @contextmanager
    def _needing(self, operation: str, refusals: Collection[int] = REFUSALS) -> Iterator[None]:
        """Say what to do where S3 does not let us, or does not know how."""
        try:
            yield
        except ClientError as error:
            if _status(error) not in refusals:
                raise
            code = error.response["Error"]["Code"]
            raise ConfigError(
                f"the probe of s3://{self._bucket}/{self._key} failed: {operation} answered {code}; allow it "
                "(docs/write-back.md, Permissions), choose another --write-back, or say --probe off"
            ) from None


def _refused(request: Callable[[], None]) -> bool:
    """Whether the answer is 412; other failures pass through."""
    try:
        request()
    except ClientError as error:
        if _status(error) != HTTPStatus.PRECONDITION_FAILED:
            raise
        return True
    return False


def _status(error: ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
