"""Tags as user metadata of an S3 object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from tagmill.worker.capabilities import Capabilities
from tagmill.worker.models import ImageRef, Json, S3Object, Write, WriteStatus
from tagmill.worker.sinks import encoding
from tagmill.worker.sinks.base import Keep, Tagging, Written, marker, skipped
from tagmill.worker.sinks.encoding import Encoded, NoRoomError
from tagmill.worker.sinks.s3_access import RefusedError, S3Access, is_pinned, looking_twice, refuse_earlier
from tagmill.worker.sinks.s3_copy import SelfCopies
from tagmill.worker.sinks.s3_object import StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class S3MetadataSink:
    """Costs a HEAD, and when something is to be changed a COPY (and a GetObjectAcl where ACLs are in use)."""

    name = "metadata"

    def __init__(
        self,
        client: S3Client,
        *,
        lanes: int,
        known: Callable[[str], Capabilities] = Capabilities.of_s3,
    ) -> None:
        """`known`: what a bucket's server does; where it may ignore conditions, a write costs two HEADs."""
        self._access = S3Access(client, lanes=lanes)
        self._copies = SelfCopies(client, known)

    async def write(self, ref: ImageRef, tagging: Tagging, keep: Keep) -> Write:
        """Write unless it is there already; `keep` gets what another run wrote, just before the copy."""
        return await looking_twice(ref, lambda source: self._write(source, tagging, keep))

    async def undo(self, ref: ImageRef, written: Written) -> Write:
        return await looking_twice(ref, lambda source: self._undo(source, written))

    async def marked(self, ref: ImageRef, engine_config: str, policy: str, run_id: str) -> bool | None:
        """Costs a HEAD, of an earlier version two: it may be our copy of an image, or that of the latest."""
        if not isinstance(ref.source, S3Object):
            return False
        for place in _where_marks_may_be(ref.source):
            if await self._is_marked(place, marker(engine_config, policy), run_id):
                return True
        return None if ref.source.is_earlier else False

    async def bears_tags(self, source: S3Object) -> bool:
        """Whether it carries tags of ours for its content, whatever their run's settings. Costs a HEAD."""
        return await self._bearing(source) is not None

    async def aclose(self) -> None:
        await self._access.aclose()

    async def _is_marked(self, place: S3Object, settings: str, run_id: str) -> bool:
        stored = await self._bearing(place)
        if stored is None or stored.own[encoding.RUN] == run_id:
            return False
        return stored.own.get(encoding.CONFIG) == settings

    async def _bearing(self, place: S3Object) -> StoredObject | None:
        """Return None for what does not carry tags for its content, or cannot be looked at."""
        try:
            stored = await self._access.head_unless_gone(place)
        except RefusedError:
            return None
        tagged = stored is not None and encoding.RUN in stored.own and _tells_of(place, stored)
        return stored if tagged else None

    async def _write(self, source: S3Object, tagging: Tagging, keep: Keep) -> Write:
        refuse_earlier(source)
        if not is_pinned(source):
            return skipped("unpinned")
        stored = await self._access.head(source)
        if not stored.holds(source):
            return Write(WriteStatus.STALE, reason="content_changed")
        encoded = _encoded(source, tagging, stored, replaces=_replaced_by(tagging.run_id, stored))
        if _is_written(encoded, source, stored):
            return _unchanged(stored, encoded)
        copy = await self._access.in_thread(self._copies.prepare, source, stored, encoded.values)
        if stored.own.get(encoding.RUN) != tagging.run_id:  # a run's own values are nothing to go back to
            await keep(_previous(stored))
        write = await self._access.in_thread(self._copies.copy, stored, copy)
        return replace(write, truncated=encoded.truncated)

    async def _undo(self, source: S3Object, written: Written) -> Write:
        refuse_earlier(source)
        stored = await self._access.head_unless_gone(source)
        if stored is None or not stored.own or _is_put_back(stored, written):
            return Write(WriteStatus.UNCHANGED)
        if not _is_as_written(source, stored, written):
            return written.not_ours()
        before = await _values_before(stored, written)
        copy = await self._access.in_thread(self._copies.prepare, source, stored, before)
        return await self._access.in_thread(self._copies.copy, stored, copy)


# --- what is written --------------------------------------------------------------------------------------


def _encoded(source: S3Object, tagging: Tagging, stored: StoredObject, replaces: str | None) -> Encoded:
    size = stored.size if source.size is None else source.size
    fixed = {
        encoding.SCHEMA: encoding.SCHEMA_VERSION,
        encoding.RUN: tagging.run_id,
        encoding.CONFIG: tagging.marker,
        encoding.SOURCE_ETAG: source.etag or stored.etag,
        encoding.SOURCE_SIZE: str(size),
        **({encoding.REPLACES: replaces} if replaces else {}),
        **encoding.encoded_labels(tagging.labels),
    }
    try:
        return encoding.encode(tagging.tags.get("auto") or {}, fixed, stored.foreign)
    except NoRoomError as error:
        raise RefusedError("no_room") from error


def _replaced_by(run_id: str, stored: StoredObject) -> str | None:
    """Return whose values stood there before the run's first write."""
    standing = stored.own.get(encoding.RUN)
    return stored.own.get(encoding.REPLACES) if standing == run_id else standing


def _is_written(encoded: Encoded, source: S3Object, stored: StoredObject) -> bool:
    """Whether the object says all this already. Which run said it does not matter."""
    said = (encoding.SCHEMA, encoding.TAGS, encoding.LABELS, encoding.CONFIG)
    same = all(stored.own.get(key) == encoded.values.get(key) for key in said)
    return same and _tells_of(source, stored)


def _where_marks_may_be(source: S3Object) -> list[S3Object]:
    """The image, and of an earlier version also the object: that may be a copy of it."""
    return [source, replace(source, is_latest=None)] if source.is_earlier else [source]


def _tells_of(source: S3Object, stored: StoredObject) -> bool:
    """Whether our metadata was written for the planned content, and the object still has it."""
    return stored.holds(source) and stored.has_same_note(source.etag or stored.etag)


def _unchanged(stored: StoredObject, encoded: Encoded) -> Write:
    return Write(
        WriteStatus.UNCHANGED,
        etag_after=stored.etag,
        version_after=stored.version_id,
        truncated=encoded.truncated,
    )


# --- what stood there before ------------------------------------------------------------------------------


def _previous(stored: StoredObject) -> Json:
    """What undo needs: our own former values (none: `{}`), and the object that carried them."""
    return {
        "sink": S3MetadataSink.name,
        "run": stored.own.get(encoding.RUN),
        "values": stored.own,
        "etag": stored.etag,
        "version_id": stored.version_id,
        "last_modified": stored.last_modified,
    }


def _is_put_back(stored: StoredObject, written: Written) -> bool:
    return written.previous is not None and stored.own == written.previous["values"]


def _is_as_written(source: S3Object, stored: StoredObject, written: Written) -> bool:
    """Whether our metadata is the run's, whole, and still on the content that it tagged."""
    if stored.own.get(encoding.RUN) != written.run_id:
        return False
    same_content = stored.holds(source) or stored.etag == (written.write or {}).get("etag_after")
    return same_content and (written.as_written is None or _says(stored, written.as_written))


def _says(stored: StoredObject, tagging: Tagging) -> bool:
    tags, labels = tagging.tags.get("auto") or {}, encoding.encoded_labels(tagging.labels)
    same_labels = stored.own.get(encoding.LABELS) == labels.get(encoding.LABELS)
    return (
        stored.own.get(encoding.CONFIG) == tagging.marker and same_labels and encoding.says(stored.own, tags)
    )


async def _values_before(stored: StoredObject, written: Written) -> dict[str, str]:
    """Return our metadata as it was before the run, from what was kept or else from the earlier manifest."""
    replaced = stored.own.get(encoding.REPLACES)
    kept = written.kept(replaced)
    if kept is not None:
        return dict(kept["values"])
    if replaced is None:
        return {}
    earlier = await written.earlier(replaced)
    if earlier is None or not isinstance(earlier.ref.source, S3Object):
        raise RefusedError("previous_lost")
    return _encoded(earlier.ref.source, earlier.tagging, stored, replaces=None).values
