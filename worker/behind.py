"""The S3 object behind a Filestack handle, where its file is kept in a bucket of one's own.

Filestack has no public call that adds anything to a stored file, so this object is the only place at which
tags can be written back (docs/write-back.md, Filestack handles).
"""

from __future__ import annotations

from collections.abc import Collection

from tagmill.worker.contents import reading
from tagmill.worker.engines.base import Engine
from tagmill.worker.models import Handle, ImageRef, S3Object
from tagmill.worker.sinks.s3_access import RefusedError, S3Access


class Behind:
    """Costs a request to the service, which it does not bill, and a HEAD for each handle."""

    def __init__(self, engine: Engine, access: S3Access, buckets: Collection[str]) -> None:
        """`buckets`: those that write-back may reach; what the service keeps elsewhere is left alone."""
        self._engine, self._access, self._buckets = engine, access, frozenset(buckets)

    async def find(self, ref: ImageRef) -> ImageRef:
        """Return the image with the object that has its bytes now, so that later content is told from it.

        Raise `ItemError`s that count no calls.
        """
        if not isinstance(ref.source, Handle):
            return ref
        place = await self._engine.whereabouts(ref.source.handle)
        if place is None or place.container not in self._buckets:
            return ref
        return ref.at(await self._pinned(S3Object(place.container, place.key)))

    async def aclose(self) -> None:
        await self._access.aclose()

    async def _pinned(self, named: S3Object) -> S3Object:
        try:
            with reading():
                stored = await self._access.head(named)
        except RefusedError:  # the sinks say why
            return named
        return S3Object(
            named.bucket,
            named.key,
            stored.etag,
            stored.size,
            stored.last_modified,
            stored.version_id,
        )
