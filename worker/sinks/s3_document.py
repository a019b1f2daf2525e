"""A sidecar's JSON that S3 keeps: the same steps, whether it is an object of its own or an annotation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tagmill.worker.models import ImageRef, Json, S3Object, Write, WriteStatus
from tagmill.worker.sinks.base import Keep, Tagging, Written, marker, skipped
from tagmill.worker.sinks.s3_access import (
    NotLatestError,
    RefusedError,
    S3Access,
    is_pinned,
    looking_twice,
)
from tagmill.worker.sinks.s3_object import StoredObject
from tagmill.worker.sinks.sidecar_json import (
    ForeignFileError,
    PreviousLostError,
    Sidecar,
    is_as_written,
    is_put_back,
    new_text,
    previous,
    text_before,
)

if TYPE_CHECKING:
    from botocore.response import StreamingBody

#: What is longer was not written by us, and is not read into memory to find out.
MAX_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Image:
    """The image that a document is about, as it was looked at; `stored` is None when it is gone."""

    source: S3Object
    stored: StoredObject | None


@dataclass(frozen=True, slots=True)
class Found:
    """A document of ours, and what S3 calls this state of it."""

    sidecar: Sidecar
    etag: str  #: without quotes, which Ceph takes for a part of it


class Documents(Protocol):
    """Where S3 keeps them. All methods block."""

    foreign: str  #: the reason of a write that would replace somebody else's

    def check(self, source: S3Object) -> None:
        """Raise `RefusedError` where nothing may be sent at all."""
        ...

    def read(self, image: Image) -> Found | None:
        """Raise `ForeignFileError` for what we never wrote."""
        ...

    def put(self, image: Image, text: str, found: Found | None) -> None:
        """Raise `PreconditionFailedError` when something else stands there than was found."""
        ...

    def remove(self, image: Image, found: Found) -> None: ...


class S3DocumentSink:
    """Costs a HEAD and a GET; when something is to be changed also a PUT."""

    def __init__(self, name: str, documents: Documents, access: S3Access) -> None:
        self.name = name
        self._documents, self._access = documents, access

    async def write(self, ref: ImageRef, tagging: Tagging, keep: Keep) -> Write:
        """Write unless it says so already; `keep` gets what another run wrote, just before."""
        try:
            return await looking_twice(ref, lambda source: self._write(source, tagging, keep))
        except ForeignFileError:
            return skipped(self._documents.foreign)

    async def undo(self, ref: ImageRef, written: Written) -> Write:
        try:
            return await looking_twice(ref, lambda source: self._undo(source, written))
        except ForeignFileError:
            return written.not_ours()
        except PreviousLostError:
            return skipped("previous_lost")

    async def marked(self, ref: ImageRef, engine_config: str, policy: str, run_id: str) -> bool | None:
        if not isinstance(ref.source, S3Object):
            return False
        try:
            self._documents.check(ref.source)
            stored = await self._access.head(ref.source)
            found = await self._read(Image(ref.source, stored))
        except NotLatestError:
            return None
        except (RefusedError, ForeignFileError):
            return False
        if found is None or found.sidecar.run == run_id or not stored.holds(ref.source):
            return False
        return found.sidecar.marker == marker(engine_config, policy) and found.sidecar.tells_of(
            _content(stored)
        )

    async def aclose(self) -> None:
        await self._access.aclose()

    async def _write(self, source: S3Object, tagging: Tagging, keep: Keep) -> Write:
        self._documents.check(source)
        if not is_pinned(source):
            return skipped("unpinned")
        stored = await self._access.head(source)
        if not stored.holds(source):
            return Write(WriteStatus.STALE, reason="content_changed")
        image, content = Image(source, stored), _content(stored)
        found = await self._read(image)
        standing = found.sidecar if found else None
        if standing is not None and standing.says(tagging, content):
            return _done(WriteStatus.UNCHANGED, image)
        text = new_text(tagging, content, standing)
        if len(text) > MAX_BYTES:
            return skipped("no_room")
        if standing is None or standing.run != tagging.run_id:
            await keep(previous(self.name, standing))
        await self._access.in_thread(self._documents.put, image, text, found)
        return _done(WriteStatus.WRITTEN, image)

    async def _undo(self, source: S3Object, written: Written) -> Write:
        self._documents.check(source)
        image = Image(source, await self._access.head_unless_gone(source))
        found = await self._read(image)
        if found is None or is_put_back(found.sidecar, written):
            return Write(WriteStatus.UNCHANGED)
        if not is_as_written(found.sidecar, written, found.sidecar.content.get("source", {})):
            return written.not_ours()
        text = await text_before(found.sidecar, written)
        if text is None:
            await self._access.in_thread(self._documents.remove, image, found)
        else:
            await self._access.in_thread(self._documents.put, image, text, found)
        return _done(WriteStatus.WRITTEN, image)

    async def _read(self, image: Image) -> Found | None:
        return await self._access.in_thread(self._documents.read, image)


def _content(stored: StoredObject) -> Json:
    """What the document says of the image: the same before and after our own copies."""
    return {"size": stored.size, "etag": stored.content_etag}


def parsed(body: StreamingBody, length: int, etag: str) -> Found:
    """Read a document that S3 answers with. Raise `ForeignFileError` for what we never wrote."""
    if length > MAX_BYTES:
        raise ForeignFileError
    return Found(Sidecar.parse(body.read()), etag.strip('"'))


def _done(status: WriteStatus, image: Image) -> Write:
    stored = image.stored
    return Write(status, stored.etag, stored.version_id) if stored else Write(status)
