"""Whether an object is new, or only carries the tags that a run with these settings wrote to it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tagmill.worker.errors import ItemError
from tagmill.worker.models import ImageRef, S3Object
from tagmill.worker.policy import TagPolicy
from tagmill.worker.sinks.s3_metadata import S3MetadataSink
from tagmill.worker.store.runs import RunSpec

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ANY_RUN = ""


class OwnWrites:
    """For one thread. Of all sinks only metadata changes an object in a way that S3 tells of as new."""

    def __init__(self, client: S3Client, spec: RunSpec) -> None:
        self._client = client
        self._config = spec.engine_config
        self._policy = TagPolicy.from_json(spec.policy).hash
        self._writes = S3MetadataSink.name in spec.write_back

    def tells_of(self, source: S3Object) -> bool:
        """Cost a HEAD; an object that cannot be looked at counts as new."""
        return self._writes and asyncio.run(self._marked(source))

    async def _marked(self, source: S3Object) -> bool:
        sink = S3MetadataSink(self._client, lanes=1)
        try:
            return bool(await sink.marked(ImageRef(source), self._config, self._policy, ANY_RUN))
        except ItemError:
            return False
        finally:
            await sink.aclose()
