"""Images that are compared in full before and after a write: the first of a run, and one in a hundred."""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, FlexibleChecksumError

from tagmill.worker.capabilities import Capabilities
from tagmill.worker.errors import SinkRejectedError, WriteBackSafetyError
from tagmill.worker.models import ImageRef, Json, Place, S3Object, Write, WriteStatus
from tagmill.worker.sinks.base import Sink
from tagmill.worker.sinks.s3_annotation import ANNOTATION
from tagmill.worker.sinks.s3_bucket import DENIED, UNKNOWN_TO_SERVER
from tagmill.worker.sinks.s3_compare import Headers, changed, headers_of
from tagmill.worker.sinks.s3_errors import error_code, translated
from tagmill.worker.sinks.s3_object import address
from tagmill.worker.sinks.tag_text import OWN_KEYS

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FIRST = 100  #: images of the plan, by their place, so that processes need not count together
ONE_IN = 100  #: of all images, by hash
THREADS = 8
BLOCK_BYTES = 1 << 20
TAG_COUNT = "x-amz-tagging-count"  #: ours count, too
Change = Callable[[Sink], Awaitable[Write]]


@dataclass(frozen=True, slots=True)
class Portrait:
    """An object without anything of ours."""

    headers: Headers
    facts: Mapping[str, str]  #: all that no header tells, by what people call it

    def is_newer_than(self, write: Write) -> bool:
        """Whether somebody else has replaced the content since."""
        etag = self.headers.get("etag")
        return etag is not None and write.etag_after not in {None, etag.strip('"')}


class Canary:
    """Of one run. It reads, and never writes."""

    def __init__(self, client: S3Client, run_id: str, known: Callable[[str], Capabilities]) -> None:
        self._client, self._run_id, self._known = client, run_id, known
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="canary")

    def guard(self, ref: ImageRef, place: Place | None, change: Change) -> Change:
        """Return the change with a look before and after it, if the image is one to be looked at."""
        if not isinstance(ref.source, S3Object) or not self._is_chosen(ref, place):
            return change
        return Watch(self, ref.source, change)

    async def portrait(self, source: S3Object) -> Portrait | None:
        """Return None for an object that is gone. Raise `SinkConflictError` for the moment's failures."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._portrait, source)

    async def aclose(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)

    def _is_chosen(self, ref: ImageRef, place: Place | None) -> bool:
        name = f"{self._run_id} {ref.id}".encode(errors="surrogatepass")
        return (place is not None and place < (0, FIRST)) or zlib.crc32(name) % ONE_IN == 0

    def _portrait(self, source: S3Object) -> Portrait | None:
        at: Any = address(source)
        try:
            headers, content = self._content(at)
            facts = {"content": content, **self._tags(at), **self._acl(at), **self._annotations(at)}
        except SinkRejectedError as error:  # archived, with a customer's key, not for us: the sinks say why
            return None if error.code == "missing" else Portrait({}, {"content": f"unreadable: {error.code}"})
        return Portrait(headers, facts)

    def _content(self, at: Json) -> tuple[Headers, str]:
        with translated("GetObject"):
            answer = self._client.get_object(**at, ChecksumMode="ENABLED")
            with closing(answer["Body"]) as body:
                content = _digest(body.iter_chunks(BLOCK_BYTES))
        return {name: text for name, text in headers_of(answer).items() if name != TAG_COUNT}, content

    def _tags(self, at: Json) -> dict[str, str]:
        answer = _ask("GetObjectTagging", self._client.get_object_tagging, at)
        tags = {tag["Key"]: tag["Value"] for tag in answer.get("TagSet", ())}
        return {f"tag {key}": value for key, value in tags.items() if key not in OWN_KEYS}

    def _acl(self, at: Json) -> dict[str, str]:
        answer = _ask("GetObjectAcl", self._client.get_object_acl, at)
        grants = (f"{one['Permission']} {sorted(one['Grantee'].items())}" for one in answer.get("Grants", ()))
        return {"owner": str(answer.get("Owner", {}).get("ID")), "ACL": "\n".join(sorted(grants))}

    def _annotations(self, at: Json) -> dict[str, str]:
        if not self._known(at["Bucket"]).annotations:
            return {}  # to a server that does not know them, the question is one for the image
        answer = _ask("ListObjectAnnotations", self._client.list_object_annotations, at)
        found = {one["AnnotationName"]: one["ETag"] for one in answer.get("Annotations", ())}
        return {f"annotation {name}": etag for name, etag in found.items() if name != ANNOTATION}


class Watch:
    """One change of one image, however often it is tried."""

    def __init__(self, canary: Canary, source: S3Object, change: Change) -> None:
        self._canary, self._source, self._change = canary, source, change
        self._before: Portrait | None = None

    async def __call__(self, sink: Sink) -> Write:
        """Raise `WriteBackSafetyError` when something is different afterwards that is not ours."""
        self._before = self._before or await self._canary.portrait(self._source)
        write = await self._change(sink)
        if self._before is None or write.status is WriteStatus.STALE:
            return write
        after = await self._canary.portrait(self._source)
        if after is None or after.is_newer_than(write):
            return write
        if fields := differences(self._before, after):
            raise WriteBackSafetyError(
                f"{self._source.id}: the {sink.name} write-back, or somebody at the same moment, "
                f"changed {', '.join(fields)}"
            )
        return write


def differences(before: Portrait, after: Portrait) -> list[str]:
    """Return the names of all that differs; values may be private."""
    headers = [f"header {name}" for name in changed(before.headers, after.headers)]
    facts = sorted(before.facts.keys() | after.facts.keys())
    return headers + [name for name in facts if before.facts.get(name) != after.facts.get(name)]


def _digest(blocks: Iterable[bytes]) -> str:
    content = hashlib.sha256()
    try:
        for block in blocks:
            content.update(block)
    except FlexibleChecksumError:  # botocore has compared it with the checksum that S3 keeps
        return "damaged"
    return content.hexdigest()


def _ask(operation: str, question: Callable[..., Any], at: Json) -> Mapping[str, Any]:
    """Return {} where this account may not know, or the server has no such notion."""
    with translated(operation):
        try:
            answer: Mapping[str, Any] = question(**at)
        except ClientError as error:
            if error_code(error) in DENIED | UNKNOWN_TO_SERVER:
                return {}
            raise
    return answer
