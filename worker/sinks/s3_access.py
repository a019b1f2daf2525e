"""What all sinks of S3 objects need: boto3 in threads, a look at the image, a second look after a 412."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from botocore.exceptions import ClientError

from tagmill.worker.errors import SinkRejectedError
from tagmill.worker.models import ImageRef, S3Object, Write
from tagmill.worker.sinks.base import skipped
from tagmill.worker.sinks.s3_errors import PreconditionFailedError, error_code, translated
from tagmill.worker.sinks.s3_object import StoredObject, address

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")


class RefusedError(Exception):
    """A write could lose something; `str()` is the `reason` of the skipped write."""


class NotLatestError(RefusedError):
    """A write to the object would not reach this version."""


class S3Access:
    """The client must not retry by itself (`s3_client(…, retries=0)`) and have a connection for each lane."""

    def __init__(self, client: S3Client, *, lanes: int) -> None:
        self.client = client
        self._threads = ThreadPoolExecutor(lanes, thread_name_prefix="s3-sink")

    async def in_thread(self, call: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *args)

    async def head(self, source: S3Object) -> StoredObject:
        """Raise `RefusedError` for an object that nobody can look at without its key."""
        return await self.in_thread(self._head, source)

    async def head_unless_gone(self, source: S3Object) -> StoredObject | None:
        try:
            return await self.head(source)
        except SinkRejectedError as error:
            if error.code == "missing":
                return None
            raise

    async def aclose(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)

    def _head(self, source: S3Object) -> StoredObject:
        with translated("HeadObject"):
            try:
                answer = self.client.head_object(**address(source), ChecksumMode="ENABLED")
            except ClientError as error:
                if error_code(error) == "400":
                    self._ask_why(source)
                raise
        return StoredObject(answer)

    def _ask_why(self, source: S3Object) -> None:
        """A HEAD that fails has no text. For objects with a customer's key S3 answers 400 InvalidRequest."""
        try:
            self.client.get_object(**address(source), Range="bytes=0-0")["Body"].close()
        except ClientError as error:
            if error_code(error) == "InvalidRequest":
                raise RefusedError("sse_c") from error
            raise


async def looking_twice(ref: ImageRef, act: Callable[[S3Object], Awaitable[Write]]) -> Write:
    """Look again after a 412: someone came between, or it was our own write, thought lost."""
    if not isinstance(ref.source, S3Object):
        return skipped("not_s3")
    try:
        try:
            return await act(ref.source)
        except PreconditionFailedError:
            return await act(ref.source)
    except RefusedError as refusal:
        return skipped(str(refusal))


def refuse_earlier(source: S3Object) -> None:
    if source.is_earlier:
        raise NotLatestError("not_latest")


def is_pinned(source: S3Object) -> bool:
    """Whether anything says which content was tagged: a version `null` may be given another."""
    return source.etag is not None or source.version_id not in {None, "null"}
