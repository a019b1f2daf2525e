"""Tags as object tags: no copy, no new version, no new ETag; but S3 takes no condition for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tagmill.worker.errors import SinkConflictError
from tagmill.worker.models import ImageRef, Json, S3Object, Write, WriteStatus
from tagmill.worker.sinks.base import Keep, Tagging, Written, marker, skipped
from tagmill.worker.sinks.encoding import LABELS, RUN, TAGS, NoRoomError
from tagmill.worker.sinks.s3_access import RefusedError, S3Access, is_pinned, looking_twice
from tagmill.worker.sinks.s3_errors import translated
from tagmill.worker.sinks.s3_object import StoredObject, address
from tagmill.worker.sinks.tag_text import MAX_TAGS, OWN_KEYS, Note, content_mark, encode, encode_labels

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Tags = Mapping[str, str]


@dataclass(frozen=True)
class Standing:
    """One object's whole tag set, and the object that carries it."""

    source: S3Object
    stored: StoredObject
    tags: Tags

    @property
    def own(self) -> dict[str, str]:
        return {key: value for key, value in self.tags.items() if key in OWN_KEYS}

    @property
    def foreign(self) -> dict[str, str]:
        return {key: value for key, value in self.tags.items() if key not in OWN_KEYS}

    @cached_property
    def note(self) -> Note | None:
        return Note.parse(self.tags.get(RUN))

    @property
    def run(self) -> str | None:
        return self.note.run if self.note else None

    @property
    def replaces(self) -> str | None:
        return self.note.replaces if self.note else None

    @property
    def content(self) -> str:
        return content_mark(self.stored.content_etag)

    @property
    def is_about_content(self) -> bool:
        """Whether our tags were written for what the object holds."""
        return self.note is not None and self.note.content == self.content

    @property
    def is_fixed(self) -> bool:
        """Whether the version that requests name can have no other content: `null` can."""
        return self.stored.version_id not in {None, "null"}

    @property
    def at(self) -> dict[str, Any]:
        """Names the object in a request, and its version where it has one."""
        return address(self.source, self.stored)


class S3TagsSink:
    """Costs a HEAD and a read of the tags; when something is to be changed also a write and another look."""

    name = "tags"

    def __init__(self, client: S3Client, *, lanes: int) -> None:
        self._access = S3Access(client, lanes=lanes)

    async def write(self, ref: ImageRef, tagging: Tagging, keep: Keep) -> Write:
        """Write unless it is there already; `keep` gets what another run wrote, just before."""
        return await looking_twice(ref, lambda source: self._write(source, tagging, keep))

    async def undo(self, ref: ImageRef, written: Written) -> Write:
        return await looking_twice(ref, lambda source: self._undo(source, written))

    async def marked(self, ref: ImageRef, engine_config: str, policy: str, run_id: str) -> bool:
        if not isinstance(ref.source, S3Object):
            return False
        try:
            standing = await self._look(ref.source)
        except RefusedError:
            return False
        if standing.note is None or standing.run == run_id or not standing.stored.holds(ref.source):
            return False
        same_settings = standing.note.marker == marker(engine_config, policy)
        return TAGS in standing.tags and same_settings and standing.is_about_content

    async def aclose(self) -> None:
        await self._access.aclose()

    async def _write(self, source: S3Object, tagging: Tagging, keep: Keep) -> Write:
        if not is_pinned(source):
            return skipped("unpinned")
        standing = await self._look(source)
        if not standing.stored.holds(source):
            return await self._take_out_of_new_content(standing, tagging)
        own, truncated = _own(tagging, standing)
        if _is_written(own, standing):
            return _done(WriteStatus.UNCHANGED, standing, truncated)
        _check(standing, own)
        if standing.run != tagging.run_id:  # a run's own values are nothing to go back to
            await keep(_previous(standing))
        await self._replace(standing, own)
        return _done(WriteStatus.WRITTEN, standing, truncated)

    async def _take_out_of_new_content(self, standing: Standing, tagging: Tagging) -> Write:
        """Where no version pins a write, the image may be replaced between our look and our write."""
        if standing.run == tagging.run_id and not (standing.is_fixed or standing.is_about_content):
            await self._replace(standing, {})
        return Write(WriteStatus.STALE, reason="content_changed")

    async def _undo(self, source: S3Object, written: Written) -> Write:
        stored = await self._access.head_unless_gone(source)
        if stored is None:
            return Write(WriteStatus.UNCHANGED)
        standing = await self._access.in_thread(self._read, source, stored)
        if not standing.own or _is_put_back(standing, written):
            return Write(WriteStatus.UNCHANGED)
        if not _is_as_written(standing, written):
            return written.not_ours()
        await self._replace(standing, await _values_before(standing, written))
        return _done(WriteStatus.WRITTEN, standing)

    async def _look(self, source: S3Object) -> Standing:
        stored = await self._access.head(source)
        return await self._access.in_thread(self._read, source, stored)

    def _read(self, source: S3Object, stored: StoredObject) -> Standing:
        bare = Standing(source, stored, {})
        with translated("GetObjectTagging"):
            answer = self._access.client.get_object_tagging(**bare.at)
        tags = {tag["Key"]: tag["Value"] for tag in answer.get("TagSet", [])}  # Ceph leaves an empty set out
        return Standing(source, stored, tags)

    async def _replace(self, standing: Standing, own: Tags) -> None:
        """Our tags anew, the others as they were read; then look whether it came out so."""
        await self._access.in_thread(self._put, standing, {**standing.foreign, **own})
        after = await self._access.in_thread(self._read, standing.source, standing.stored)
        if (after.foreign, after.own) != (standing.foreign, own):
            raise SinkConflictError("the object's tags were changed by somebody else at the same time")
        if not standing.is_fixed:
            await self._check_content(standing)

    def _put(self, standing: Standing, tags: Tags) -> None:
        if not tags:  # an empty set is not the same everywhere: Ceph counts its tags in a header of its own
            with translated("DeleteObjectTagging"):
                self._access.client.delete_object_tagging(**standing.at)
            return
        tag_set: Any = [{"Key": key, "Value": value} for key, value in tags.items()]
        with translated("PutObjectTagging"):
            self._access.client.put_object_tagging(**standing.at, Tagging={"TagSet": tag_set})

    async def _check_content(self, standing: Standing) -> None:
        now = await self._access.head_unless_gone(standing.source)
        if now is not None and now.etag != standing.stored.etag:
            raise SinkConflictError("the image was replaced while it was tagged")


def _own(tagging: Tagging, standing: Standing) -> tuple[dict[str, str], int]:
    replaces = standing.replaces if standing.run == tagging.run_id else standing.run
    return _encoded(tagging, standing, replaces)


def _encoded(tagging: Tagging, standing: Standing, replaces: str | None) -> tuple[dict[str, str], int]:
    try:
        tags, truncated = encode(tagging.tags.get("auto") or {})
    except NoRoomError as error:
        raise RefusedError("no_room") from error
    note = Note(tagging.run_id, tagging.marker, standing.content, replaces)
    labels, more = encode_labels(tagging.labels)
    return {TAGS: tags, **labels, RUN: note.text}, truncated + more


def _is_written(own: Tags, standing: Standing) -> bool:
    """Whether the tags say all this already. Which run said it does not matter."""
    new = Note.parse(own[RUN])
    if standing.note is None or new is None:
        return False
    said = (standing.tags.get(TAGS), standing.tags.get(LABELS), standing.note.marker, standing.note.content)
    return said == (own[TAGS], own.get(LABELS), new.marker, new.content)


def _check(standing: Standing, own: Tags) -> None:
    if standing.stored.is_replica:
        raise RefusedError("replica")
    if len(standing.foreign) > MAX_TAGS - len(own):
        raise RefusedError("no_room")


def _done(status: WriteStatus, standing: Standing, truncated: int = 0) -> Write:
    stored = standing.stored
    return Write(status, etag_after=stored.etag, version_after=stored.version_id, truncated=truncated)


# --- what stood there before ------------------------------------------------------------------------------


def _previous(standing: Standing) -> Json:
    """What undo needs: our own former values (none: `{}`), and the object that carried them."""
    return {
        "sink": S3TagsSink.name,
        "run": standing.run,
        "values": standing.own,
        "etag": standing.stored.etag,
        "version_id": standing.stored.version_id,
    }


def _is_put_back(standing: Standing, written: Written) -> bool:
    return written.previous is not None and standing.own == written.previous["values"]


def _is_as_written(standing: Standing, written: Written) -> bool:
    """Whether our tags are the run's, whole, and still on the content that it tagged."""
    if standing.run != written.run_id or not standing.is_about_content:
        return False
    tagging = written.as_written
    return tagging is None or _is_written(_encoded(tagging, standing, None)[0], standing)


async def _values_before(standing: Standing, written: Written) -> dict[str, str]:
    """Return our tags as they were before the run, from what was kept or else from the earlier manifest."""
    kept = written.kept(standing.replaces)
    if kept is not None:
        return dict(kept["values"])
    if standing.replaces is None:
        return {}
    earlier = await written.earlier(standing.replaces)
    if earlier is None:
        raise RefusedError("previous_lost")
    return _encoded(earlier.tagging, standing, None)[0]
