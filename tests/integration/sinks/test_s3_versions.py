"""Versions of an object that are tagged one by one: which sinks reach which of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from fakes.taggings import TAGGING, keep, no_manifest
from servers.s3_library import client_of
from servers.strict_s3 import Stored, StrictS3UnderTest

from tagmill.worker.canary import Canary
from tagmill.worker.capabilities import Capabilities
from tagmill.worker.models import ImageRef, S3Object, Write, WriteStatus
from tagmill.worker.sinks.base import Sink, Written
from tagmill.worker.sinks.s3_annotation import S3AnnotationSink
from tagmill.worker.sinks.s3_metadata import S3MetadataSink
from tagmill.worker.sinks.s3_sidecar import S3SidecarSink
from tagmill.worker.sinks.s3_tags import S3TagsSink
from tagmill.worker.writeback import WriteBack

KEY = "a b/ü+%41.jpg"
LATEST_ONLY, EVERY_VERSION = ["metadata", "sidecar"], ["tags", "annotation"]


class History:
    """One object, whose oldest version is from before versioning; the newest first, as they are listed."""

    def __init__(self, server: StrictS3UnderTest, sinks: dict[str, Sink]) -> None:
        self.server, self.sinks, self.client = server, sinks, client_of(server)
        self.bucket = server.new_bucket()
        self.put(b"oldest")
        server.store.buckets[self.bucket].versioning = "Enabled"
        self.put(b"middle")
        self.put(b"newest")

    def put(self, body: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=KEY, Body=body)

    def delete(self) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=KEY)

    @property
    def versions(self) -> list[Stored]:
        return self.server.store.buckets[self.bucket].objects[KEY][::-1]

    def listed(self) -> list[ImageRef]:
        found = enumerate(self.versions)
        return [
            ImageRef(
                S3Object(self.bucket, KEY, v.etag, v.size, None, v.version_id or "null", is_latest=not n)
            )
            for n, v in found
            if not v.delete_marker
        ]

    async def write(self, name: str, ref: ImageRef, **tagging: Any) -> Write:
        return await self.sinks[name].write(ref, replace(TAGGING, **tagging), keep)

    async def undo(self, name: str, ref: ImageRef, write: Write) -> Write:
        said = Written(TAGGING.run_id, {"status": write.status}, None, no_manifest, TAGGING)
        return await self.sinks[name].undo(ref, said)

    async def marked(self, ref: ImageRef, *names: str, run_id: str = "run-next") -> bool:
        write_back = WriteBack([self.sinks[name] for name in names])
        return await write_back.marked(ref, TAGGING.engine_config, TAGGING.policy, run_id)


@pytest.fixture
async def history(server: StrictS3UnderTest) -> AsyncIterator[History]:
    client = client_of(server)
    sinks: list[Sink] = [
        S3MetadataSink(client, lanes=2),
        S3TagsSink(client, lanes=2),
        S3SidecarSink(client, lanes=2),
        S3AnnotationSink(client, lanes=2, proven=lambda _: True),
    ]
    async with AsyncExitStack() as stack:
        for sink in sinks:
            stack.push_async_callback(sink.aclose)
        yield History(server, {sink.name: sink for sink in sinks})


@pytest.mark.parametrize("name", LATEST_ONLY)
@pytest.mark.parametrize("deleted", [False, True])
async def test_a_place_of_the_object_is_not_one_of_its_earlier_versions(
    history: History, name: str, *, deleted: bool
) -> None:
    if deleted:
        history.delete()
    *_, middle, oldest = history.listed()
    before, objects = history.versions, dict(history.server.store.buckets[history.bucket].objects)
    for ref in (middle, oldest):
        write = await history.write(name, ref)
        assert (write.status, write.reason) == (WriteStatus.SKIPPED, "not_latest")
        assert (await history.undo(name, ref, write)).reason == "not_latest"
        assert not await history.marked(ref, name)
    assert history.versions == before
    assert history.server.store.buckets[history.bucket].objects == objects


@pytest.mark.parametrize("name", EVERY_VERSION)
@pytest.mark.parametrize("deleted", [False, True])
async def test_a_version_is_written_to_and_put_back_by_itself(
    history: History, name: str, *, deleted: bool
) -> None:
    """Also the one without a version id, of which a server may not say in its answer that it is `null`."""
    if deleted:
        history.delete()
    before = history.versions
    for place, ref in enumerate(history.listed(), start=int(deleted)):
        write = await history.write(name, ref)
        assert write.status is WriteStatus.WRITTEN
        after = history.versions
        assert after[place] != before[place]
        assert [*after[:place], *after[place + 1 :]] == [*before[:place], *before[place + 1 :]]
        assert await history.marked(ref, name)
        assert await history.marked(ref, name, "metadata") is not ref.source.is_latest  # type: ignore[union-attr] # of objects
        assert (await history.write(name, ref)).status is WriteStatus.UNCHANGED
        assert (await history.undo(name, ref, write)).status is WriteStatus.WRITTEN
        assert history.versions == before


async def test_a_canary_looks_at_the_version_that_is_written_to(history: History) -> None:
    canary = Canary(history.client, TAGGING.run_id, Capabilities.of_s3)
    for ref, stored in zip(history.listed(), history.versions, strict=True):
        assert isinstance(ref.source, S3Object)
        portrait = await canary.portrait(ref.source)
        assert portrait is not None
        assert portrait.facts["content"] == stored.bytes_sha256
    await canary.aclose()


@pytest.mark.parametrize("name", [*LATEST_ONLY, *EVERY_VERSION])
async def test_what_was_the_latest_and_was_replaced_since_is_left_alone(history: History, name: str) -> None:
    latest = history.listed()[0]
    history.put(b"newer")
    before = history.versions
    write = await history.write(name, latest)
    assert (write.status, write.reason) == (WriteStatus.STALE, "content_changed")
    assert history.versions == before


@pytest.mark.parametrize("name", EVERY_VERSION)
async def test_new_content_of_an_earlier_version_null_is_not_taken_for_the_old(
    history: History, name: str
) -> None:
    bucket = history.server.store.buckets[history.bucket]
    oldest = history.listed()[-1]
    bucket.versioning = "Suspended"
    history.put(b"instead")
    bucket.versioning = "Enabled"
    history.put(b"newer")
    before = history.versions
    assert (await history.write(name, oldest)).status is WriteStatus.STALE
    assert isinstance(oldest.source, S3Object)
    unpinned = ImageRef(replace(oldest.source, etag=None))
    assert (await history.write(name, unpinned)).reason == "unpinned"
    assert history.versions == before


async def test_metadata_tells_our_copies_and_what_they_were_copied_from(history: History) -> None:
    """As long as the copy is the latest; a run does not take its own copy for another's."""
    await history.write("metadata", history.listed()[0])
    copy, copied, middle, _ = history.listed()
    assert [await history.marked(ref, "metadata") for ref in (copy, copied, middle)] == [True, True, False]
    assert not await history.marked(copied, "metadata", run_id=TAGGING.run_id)
    assert not await history.marked(copied, "metadata", "tags")
    history.put(b"newer")
    newer, copy, copied, *_ = history.listed()
    assert [await history.marked(ref, "metadata") for ref in (newer, copy, copied)] == [False, True, False]
