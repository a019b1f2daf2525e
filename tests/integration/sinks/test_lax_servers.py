"""Metadata write-back where the server ignores conditions, or drops tags, as moto and Ceph do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import pytest
from servers.strict_s3 import Stored, StrictS3UnderTest, running_strict_s3
from servers.strict_s3_http import Fault

from tagmill.worker.capabilities import Capabilities
from tagmill.worker.errors import SinkRejectedError, WriteBackSafetyError
from tagmill.worker.models import ImageRef, S3Object, Write, WriteStatus
from tagmill.worker.sinks import encoding
from tagmill.worker.sinks.base import Tagging
from tagmill.worker.sinks.s3_metadata import S3MetadataSink

KEY = "photo.jpg"
TAGGING = Tagging(
    run_id="run-one",
    engine="filestack",
    engine_config="0123456789abcdef",
    policy="fedcba9876543210",
    tags={"auto": {"sky": 97}, "user": None},
    tagged_at="2026-11-22T00:00:00Z",
)


async def keep(_: Mapping[str, Any]) -> None:
    """Nobody asks."""


class LaxBucket:
    """One image in a bucket whose server was found to do less than S3."""

    def __init__(self, server: StrictS3UnderTest, found: Capabilities, **bucket: Any) -> None:
        self.server, self.client = server, server.client()
        self.bucket = server.new_bucket(**bucket)
        self.sink = S3MetadataSink(self.client, lanes=1, known=lambda _: found)

    def put(self, body: bytes = b"image", **fields: Any) -> None:
        self.client.put_object(Bucket=self.bucket, Key=KEY, Body=body, **fields)

    @property
    def stored(self) -> Stored:
        return self.server.store.current(self.bucket, KEY)

    async def write(self) -> Write:
        stored = self.stored
        ref = ImageRef(S3Object(self.bucket, KEY, stored.etag, stored.size, version_id=stored.version_id))
        return await self.sink.write(ref, TAGGING, keep)

    def requests(self) -> list[str]:
        return [name for name in self.server.store.requests if name.endswith("Object")]


Making = Callable[..., LaxBucket]


@pytest.fixture
def server() -> Iterator[StrictS3UnderTest]:
    with running_strict_s3() as server:
        yield server


@pytest.fixture
async def unconditional(server: StrictS3UnderTest) -> AsyncIterator[Making]:
    """A bucket without conditions on copies, as the probe finds it."""
    made: list[LaxBucket] = []

    def make(**bucket: Any) -> LaxBucket:
        found = Capabilities("any", copy_conditions=False, copies_tags=True)
        made.append(LaxBucket(server, found, honours_copy_conditions=False, **bucket))
        return made[-1]

    yield make
    for one in made:
        await one.sink.aclose()


async def test_a_copy_without_conditions_is_looked_at_after_it(unconditional: Making) -> None:
    bucket = unconditional()
    bucket.put(CacheControl="max-age=60", Metadata={"owner": "someone"}, Tagging="team=web")
    assert (await bucket.write()).status is WriteStatus.WRITTEN
    assert bucket.requests() == ["PutObject", "HeadObject", "CopyObject", "HeadObject"]
    assert (await bucket.write()).status is WriteStatus.UNCHANGED


async def test_a_writer_that_was_overwritten_stops_the_run(unconditional: Making) -> None:
    bucket = unconditional()
    bucket.put(CacheControl="max-age=60")
    bucket.server.faults.before("CopyObject", lambda: bucket.put(b"newer", CacheControl="no-cache"))
    with pytest.raises(WriteBackSafetyError) as caught:
        await bucket.write()
    who = f"s3://{bucket.bucket}/{KEY}: the write-back, or somebody at the same moment"
    assert str(caught.value).startswith(f"{who}, changed etag")


async def test_a_copy_that_cannot_be_looked_at_is_not_called_written(unconditional: Making) -> None:
    bucket = unconditional()
    bucket.put()
    bucket.server.faults.before("HeadObject", lambda: None)  # the look before the copy
    bucket.server.faults.once("HeadObject", Fault(503, "SlowDown"))
    with pytest.raises(SinkRejectedError) as caught:
        await bucket.write()
    assert caught.value.code == "unverified"
    assert (await bucket.write()).status is WriteStatus.UNCHANGED


async def test_older_bytes_do_not_come_back(unconditional: Making) -> None:
    bucket = unconditional(versioned=True)
    bucket.put()
    bucket.server.faults.before("CopyObject", lambda: bucket.put(b"newer"))
    with pytest.raises(WriteBackSafetyError):
        await bucket.write()
    assert bucket.stored.body == b"newer"


async def test_a_writer_who_comes_after_the_copy_is_no_reason_to_stop(unconditional: Making) -> None:
    bucket = unconditional()
    bucket.put()
    bucket.server.faults.before("HeadObject", lambda: None)  # the look before the copy
    bucket.server.faults.before("HeadObject", lambda: bucket.put(b"newer"))
    assert (await bucket.write()).status is WriteStatus.WRITTEN
    assert encoding.decode(bucket.stored.metadata) is None


async def test_where_a_copy_drops_tags_images_with_tags_are_left_alone(server: StrictS3UnderTest) -> None:
    found = Capabilities("any", copy_conditions=True, copies_tags=False)
    bucket = LaxBucket(server, found, copies_tags=False)
    bucket.put(Tagging="team=web")
    assert (await bucket.write()).reason == "tags_lost"
    assert bucket.stored.tags == {"team": "web"}
    bucket.put()
    assert (await bucket.write()).status is WriteStatus.WRITTEN
    await bucket.sink.aclose()
