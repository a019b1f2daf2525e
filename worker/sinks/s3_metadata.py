"""Tags as user metadata: an S3 object copied onto itself, with everything else as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from tagmill.worker.errors import SinkConflictError
from tagmill.worker.models import ImageRef, Json, S3Object, Write, WriteStatus
from tagmill.worker.sinks import encoding
from tagmill.worker.sinks.base import Keep, Tagging
from tagmill.worker.sinks.encoding import Encoded, NoRoomError
from tagmill.worker.sinks.s3_bucket import Buckets, RefusedError
from tagmill.worker.sinks.s3_errors import PreconditionFailedError, error_code, translated
from tagmill.worker.sinks.s3_object import StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")


@dataclass(frozen=True)
class Rewrite:
    """A copy that is due."""

    stored: StoredObject
    encoded: Encoded
    arguments: Mapping[str, Any]  #: of CopyObject

    @property
    def replaces_run(self) -> str | None:
        return self.stored.own.get(encoding.RUN)

    @property
    def previous(self) -> Json:
        """What undo needs: our own former values (none: `{}`), and the object that carried them."""
        return {
            "sink": S3MetadataSink.name,
            "values": self.stored.own,
            "etag": self.stored.etag,
            "version_id": self.stored.version_id,
            "last_modified": self.stored.last_modified,
        }


class S3MetadataSink:
    """Costs a HEAD, and when something is to be written a COPY (and a GetObjectAcl where ACLs are in use).

    The client must not retry by itself (`s3_client(…, retries=0)`) and have a connection for each lane.
    """

    name = "metadata"

    def __init__(self, client: S3Client, *, lanes: int) -> None:
        self._client = client
        self._buckets = Buckets(client)
        self._threads = ThreadPoolExecutor(lanes, thread_name_prefix="s3-metadata")
        _send_expires_as_it_stands(client)

    async def write(self, ref: ImageRef, tagging: Tagging, keep: Keep) -> Write:
        """Write unless it is there already; `keep` gets what another run wrote, just before the copy."""
        if not isinstance(ref.source, S3Object):
            return _skipped("not_s3")
        try:
            return await self._look_and_write(ref.source, tagging, keep)
        except PreconditionFailedError:  # someone came between; or it was our own copy, thought lost
            return await self._look_and_write(ref.source, tagging, keep)

    async def aclose(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)

    async def _look_and_write(self, source: S3Object, tagging: Tagging, keep: Keep) -> Write:
        try:
            rewrite = await self._in_thread(self._look, source, tagging)
            if isinstance(rewrite, Write):
                return rewrite
            if rewrite.replaces_run != tagging.run_id:  # a run's own values are nothing to go back to
                await keep(rewrite.previous)
            return await self._in_thread(self._copy, rewrite)
        except RefusedError as refusal:
            return _skipped(str(refusal))

    def _look(self, source: S3Object, tagging: Tagging) -> Write | Rewrite:
        if source.etag is None and source.version_id is None:
            return _skipped("unpinned")  # nothing says which content was tagged
        stored = self._head(source)
        if not stored.holds(source):
            return Write(WriteStatus.STALE, reason="content_changed")
        encoded = _encoded(source, tagging, stored)
        if _is_written(encoded, stored):
            return _unchanged(stored, encoded)
        if stored.obstacle is not None:
            return _skipped(stored.obstacle)
        return Rewrite(stored, encoded, self._arguments(source, stored, encoded))

    def _head(self, source: S3Object) -> StoredObject:
        with translated("HeadObject"):
            try:
                answer = self._client.head_object(
                    Bucket=source.bucket, Key=source.key, ChecksumMode="ENABLED"
                )
            except ClientError as error:
                if error_code(error) == "400":
                    self._ask_why(source)
                raise
        return StoredObject(answer)

    def _ask_why(self, source: S3Object) -> None:
        """A HEAD that fails has no text. For objects with a customer's key S3 answers 400 InvalidRequest."""
        try:
            self._client.get_object(Bucket=source.bucket, Key=source.key, Range="bytes=0-0")["Body"].close()
        except ClientError as error:
            if error_code(error) == "InvalidRequest":
                raise RefusedError("sse_c") from error
            raise

    def _arguments(self, source: S3Object, stored: StoredObject, encoded: Encoded) -> Json:
        with translated("GetObjectAcl"):
            protection = self._buckets.protection(source.bucket, source.key, stored)
        version = {"VersionId": stored.version_id} if stored.version_id else {}
        return {
            **stored.resend(),
            **protection,
            "Bucket": source.bucket,
            "Key": source.key,
            "CopySource": {"Bucket": source.bucket, "Key": source.key, **version},
            "CopySourceIfMatch": stored.head["ETag"],
            "IfMatch": stored.head["ETag"],
            "MetadataDirective": "REPLACE",
            "Metadata": {**stored.foreign, **encoded.values},
            "TaggingDirective": "COPY",
        }

    def _copy(self, rewrite: Rewrite) -> Write:
        with translated("CopyObject"):
            answer = self._client.copy_object(**rewrite.arguments)
        etag = answer.get("CopyObjectResult", {}).get("ETag")
        if not etag:
            raise SinkConflictError("CopyObject answered 200 without a result", code="unavailable")
        return Write(
            WriteStatus.WRITTEN,
            etag_after=etag.strip('"'),
            version_after=answer.get("VersionId"),
            truncated=rewrite.encoded.truncated,
        )

    async def _in_thread(self, call: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *args)


def _encoded(source: S3Object, tagging: Tagging, stored: StoredObject) -> Encoded:
    fixed = {
        encoding.SCHEMA: encoding.SCHEMA_VERSION,
        encoding.RUN: tagging.run_id,
        encoding.CONFIG: tagging.engine_config,
        encoding.SOURCE_ETAG: source.etag or stored.etag,
    }
    try:
        return encoding.encode(tagging.tags.get("auto") or {}, fixed, stored.foreign)
    except NoRoomError as error:
        raise RefusedError("no_room") from error


def _is_written(encoded: Encoded, stored: StoredObject) -> bool:
    """Whether the object says all this already. Which run said it does not matter."""
    said = (encoding.SCHEMA, encoding.TAGS, encoding.CONFIG)
    same = all(stored.own.get(key) == encoded.values.get(key) for key in said)
    return same and stored.has_same_note(encoded.values[encoding.SOURCE_ETAG])


def _unchanged(stored: StoredObject, encoded: Encoded) -> Write:
    return Write(
        WriteStatus.UNCHANGED,
        etag_after=stored.etag,
        version_after=stored.version_id,
        truncated=encoded.truncated,
    )


def _skipped(reason: str) -> Write:
    return Write(WriteStatus.SKIPPED, reason=reason)


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
