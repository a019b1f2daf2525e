"""Whether an object is new, or only carries the tags that a run of ours wrote to it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tagmill.worker.errors import ItemError
from tagmill.worker.models import S3Object
from tagmill.worker.sinks.s3_metadata import S3MetadataSink

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class OwnWrites:
    """For one thread. Of all sinks only metadata changes an object in a way that S3 tells of as new.

    The settings of that run do not matter: two that differ would pay for each other's writes for ever.
    """

    def __init__(self, client: S3Client) -> None:
        self._client = client

    def tells_of(self, source: S3Object) -> bool:
        """Cost a HEAD; an object that cannot be looked at counts as new."""
        return asyncio.run(self._bears_tags(source))

    async def _bears_tags(self, source: S3Object) -> bool:
        sink = S3MetadataSink(self._client, lanes=1)
        try:
            return await sink.bears_tags(source)
        except ItemError:
            return False
        finally:
            await sink.aclose()
