"""An S3 object copied onto itself: other metadata of ours, everything else as it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tagmill.worker.capabilities import Capabilities
from tagmill.worker.errors import SinkConflictError, SinkRejectedError, WriteBackSafetyError
from tagmill.worker.models import Json, S3Object, Write, WriteStatus
from tagmill.worker.sinks import encoding
from tagmill.worker.sinks.s3_access import RefusedError
from tagmill.worker.sinks.s3_bucket import Buckets
from tagmill.worker.sinks.s3_compare import changed, headers_of
from tagmill.worker.sinks.s3_errors import translated
from tagmill.worker.sinks.s3_object import StoredObject, is_own

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class SelfCopies:
    """Prepare, copy: each is for a thread. Preparing raises `RefusedError` where something could be lost."""

    def __init__(self, client: S3Client, known: Callable[[str], Capabilities]) -> None:
        self._client, self._known = client, known
        self._buckets = Buckets(client)
        _send_expires_as_it_stands(client)

    def prepare(self, source: S3Object, stored: StoredObject, own: Mapping[str, str]) -> Json:
        """Return the arguments of a CopyObject that leaves `own` as our metadata."""
        metadata = {**stored.foreign, **own}
        if encoding.metadata_bytes(metadata) > encoding.BUDGET_BYTES:
            raise RefusedError("no_room")
        if stored.obstacle is not None:
            raise RefusedError(stored.obstacle)
        self._refuse_lost_tags(source)
        with translated("GetObjectAcl"):
            protection = self._buckets.protection(source.bucket, source.key, stored)
        # Unless conditions hold, a pinned version could bring older bytes back.
        pinned = stored.version_id and self._known(source.bucket).copy_conditions
        version = {"VersionId": stored.version_id} if pinned else {}
        return {
            **stored.resend(),
            **protection,
            "Bucket": source.bucket,
            "Key": source.key,
            "CopySource": {"Bucket": source.bucket, "Key": source.key, **version},
            "CopySourceIfMatch": stored.head["ETag"],
            "IfMatch": stored.head["ETag"],
            "MetadataDirective": "REPLACE",
            "Metadata": metadata,
            "TaggingDirective": "COPY",
        }

    def _refuse_lost_tags(self, source: S3Object) -> None:
        if self._known(source.bucket).copies_tags is not False:
            return
        with translated("GetObjectTagging"):
            if self._client.get_object_tagging(Bucket=source.bucket, Key=source.key)["TagSet"]:
                raise RefusedError("tags_lost")

    def copy(self, stored: StoredObject, arguments: Mapping[str, Any]) -> Write:
        """Raise `PreconditionFailedError` when the object is no longer the one that was looked at."""
        with translated("CopyObject"):
            answer = self._client.copy_object(**arguments)
        etag = answer.get("CopyObjectResult", {}).get("ETag")
        if not etag:
            raise SinkConflictError("CopyObject answered 200 without a result", code="unavailable")
        if not self._known(arguments["Bucket"]).copy_conditions:
            self._verify(stored, arguments)
        return Write(WriteStatus.WRITTEN, etag_after=etag.strip('"'), version_after=answer.get("VersionId"))

    def _verify(self, before: StoredObject, arguments: Mapping[str, Any]) -> None:
        """Raise `WriteBackSafetyError` when the copy, where it still stands, took something with it."""
        source = S3Object(arguments["Bucket"], arguments["Key"])
        after = self._look_again(source)
        if after.own != {key: value for key, value in arguments["Metadata"].items() if is_own(key)}:
            return  # somebody wrote after us, and what was there before him is not known
        if fields := changed(headers_of(before.head), headers_of(after.head)):
            raise WriteBackSafetyError(
                f"{source.id}: the write-back, or somebody at the same moment, changed {', '.join(fields)}"
            )

    def _look_again(self, source: S3Object) -> StoredObject:
        """Raise `SinkRejectedError`: another try would find the work done, and no longer what it did."""
        try:
            with translated("HeadObject"):
                return StoredObject(
                    self._client.head_object(Bucket=source.bucket, Key=source.key, ChecksumMode="ENABLED")
                )
        except SinkConflictError as error:
            raise SinkRejectedError(
                f"written, but not looked at again: {error}", code="unverified"
            ) from error


def _send_expires_as_it_stands(client: S3Client) -> None:
    """Let CopyObject take HEAD's `ExpiresString`: botocore would parse `Expires` and write it anew."""

    def take(params: Json, context: Json, **_: Any) -> Json:
        context["expires_string"] = params.get("ExpiresString")
        return {name: value for name, value in params.items() if name != "ExpiresString"}

    def send(params: Json, context: Json, **_: Any) -> None:
        if context.get("expires_string"):
            params["headers"]["Expires"] = context["expires_string"]

    events = client.meta.events
    events.register("provide-client-params.s3.CopyObject", take, unique_id="tagmill-take-expires")  # type: ignore[arg-type] # its result replaces the parameters
    events.register("before-call.s3.CopyObject", send, unique_id="tagmill-send-expires")
