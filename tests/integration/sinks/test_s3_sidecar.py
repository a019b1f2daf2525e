"""Sidecars of S3 images: where they lie, and that nothing else under their name is lost."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import pytest
from fakes.taggings import OTHER_ANSWER, TAGGING, keep, no_manifest
from servers.strict_s3 import StrictS3UnderTest
from servers.strict_s3_http import Fault

from tagmill.worker.errors import ConfigError, SinkConflictError, SinkRejectedError
from tagmill.worker.models import ImageRef, S3Object, WriteStatus
from tagmill.worker.sidecar_prefix import SidecarPrefix
from tagmill.worker.sinks.base import Written
from tagmill.worker.sinks.s3_sidecar import S3SidecarSink

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_keys = itertools.count()


Sinks = Callable[[str | None], S3SidecarSink]


@pytest.fixture
async def sink_under(client: S3Client) -> AsyncIterator[Sinks]:
    sinks: list[S3SidecarSink] = []

    def make(prefix: str | None) -> S3SidecarSink:
        sinks.append(S3SidecarSink(client, lanes=2, prefix=SidecarPrefix.parse(prefix)))
        return sinks[-1]

    yield make
    for sink in sinks:
        await sink.aclose()


def put(client: S3Client, bucket: str, key: str = "a b/photo.jpg") -> ImageRef:
    etag = client.put_object(Bucket=bucket, Key=key, Body=b"image")["ETag"].strip('"')
    return ImageRef(S3Object(bucket, key, etag, 5))


def keys(client: S3Client, bucket: str) -> list[str]:
    return [item["Key"] for item in client.list_objects_v2(Bucket=bucket).get("Contents", [])]


def text_of(client: S3Client, bucket: str, key: str) -> str:
    return client.get_object(Bucket=bucket, Key=key)["Body"].read().decode()


@pytest.mark.parametrize(
    ("prefix", "key"),
    [
        (None, "a b/photo.jpg.tags.json"),
        ("tags", "tags/a b/photo.jpg.tags.json"),
        ("/tags/deep/", "tags/deep/a b/photo.jpg.tags.json"),
    ],
)
async def test_a_sidecar_lies_beside_its_image_or_under_the_prefix(
    server: StrictS3UnderTest, client: S3Client, sink_under: Sinks, prefix: str | None, key: str
) -> None:
    bucket = server.new_bucket()
    ref = put(client, bucket)
    assert (await sink_under(prefix).write(ref, TAGGING, keep)).status is WriteStatus.WRITTEN
    assert sorted(keys(client, bucket)) == sorted(["a b/photo.jpg", key])
    assert client.head_object(Bucket=bucket, Key=key)["ContentType"] == "application/json"


@pytest.mark.parametrize("prefix", ["", "/tags/"])
async def test_in_another_bucket_images_of_two_buckets_stay_apart(
    server: StrictS3UnderTest, client: S3Client, sink_under: Sinks, prefix: str
) -> None:
    first, second, other = server.new_bucket(), server.new_bucket(), server.new_bucket()
    sink = sink_under(f"s3://{other}{prefix}")
    for bucket in (first, second):
        await sink.write(put(client, bucket, "photo.jpg"), TAGGING, keep)
        assert keys(client, bucket) == ["photo.jpg"]
    folder = "tags/" if prefix else ""
    assert keys(client, other) == sorted(
        f"{folder}{bucket}/photo.jpg.tags.json" for bucket in (first, second)
    )


def test_a_prefix_without_a_bucket_is_refused() -> None:
    with pytest.raises(ConfigError, match="s3://bucket/prefix"):
        SidecarPrefix.parse("s3:///prefix")


async def test_a_bucket_for_sidecars_that_is_not_there_is_named(
    server: StrictS3UnderTest, client: S3Client, sink_under: Sinks
) -> None:
    ref = put(client, server.new_bucket())
    with pytest.raises(SinkRejectedError, match="no bucket 'not-there' for sidecars") as caught:
        await sink_under("s3://not-there").write(ref, TAGGING, keep)
    assert caught.value.code == "no_bucket"


async def test_a_key_that_grows_too_long_is_skipped(
    server: StrictS3UnderTest, client: S3Client, sink_under: Sinks
) -> None:
    ref = put(client, server.new_bucket(), "ü" * 510)
    assert (await sink_under(None).write(ref, TAGGING, keep)).reason == "key_too_long"


async def test_the_image_is_not_touched_and_its_content_is_named(
    server: StrictS3UnderTest, client: S3Client, sink_under: Sinks
) -> None:
    bucket = server.new_bucket()
    ref = put(client, bucket)
    before = server.store.current(bucket, "a b/photo.jpg")
    await sink_under(None).write(ref, TAGGING, keep)
    assert server.store.current(bucket, "a b/photo.jpg") is before
    said = json.loads(text_of(client, bucket, "a b/photo.jpg.tags.json"))
    assert said["source"] == {"size": 5, "etag": before.etag}


@pytest.mark.parametrize(
    "text", ["mine", '{"generator": "somebody else"}', '["tagmill"]', "\xff", " " * (1024 * 1024 + 1)]
)
async def test_a_foreign_object_of_that_name_is_left_alone(
    server: StrictS3UnderTest, client: S3Client, sink_under: Sinks, text: str
) -> None:
    bucket, key = server.new_bucket(), "a b/photo.jpg.tags.json"
    ref, body = put(client, bucket), text.encode("latin-1")
    client.put_object(Bucket=bucket, Key=key, Body=body)
    sink = sink_under(None)
    written = Written("run-one", {"status": "written"}, None, no_manifest, TAGGING)
    assert (await sink.write(ref, TAGGING, keep)).reason == "foreign_file"
    assert (await sink.undo(ref, written)).reason == "changed_since"
    assert not await sink.marked(ref, TAGGING.engine_config, TAGGING.policy, "run-next")
    assert server.store.current(bucket, key).body == body


async def test_a_file_that_somebody_puts_there_meanwhile_is_left_alone(
    server: StrictS3UnderTest, client: S3Client, sink_under: Sinks
) -> None:
    bucket, key = server.new_bucket(), "a b/photo.jpg.tags.json"
    ref = put(client, bucket)

    def somebody() -> None:
        client.put_object(Bucket=bucket, Key=key, Body=b"mine")

    server.faults.before("PutObject", somebody)
    assert (await sink_under(None).write(ref, TAGGING, keep)).reason == "foreign_file"
    assert text_of(client, bucket, key) == "mine"


async def test_a_sidecar_that_somebody_deletes_meanwhile_is_written_anew(
    server: StrictS3UnderTest, client: S3Client, sink_under: Sinks
) -> None:
    bucket, key = server.new_bucket(), "a b/photo.jpg.tags.json"
    ref, sink = put(client, bucket), sink_under(None)
    await sink.write(ref, TAGGING, keep)

    def somebody() -> None:
        client.delete_object(Bucket=bucket, Key=key)

    server.faults.before("PutObject", somebody)
    with pytest.raises(SinkConflictError):
        await sink.write(ref, OTHER_ANSWER, keep)
    assert (await sink.write(ref, OTHER_ANSWER, keep)).status is WriteStatus.WRITTEN
    assert json.loads(text_of(client, bucket, key))["tags"] == OTHER_ANSWER.tags


@pytest.mark.parametrize("fault", [Fault(), Fault(409, "ConditionalRequestConflict"), Fault(hangs_up=True)])
@pytest.mark.parametrize("operation", ["HeadObject", "GetObject", "PutObject"])
async def test_a_bad_moment_asks_for_another_try(
    server: StrictS3UnderTest, client: S3Client, sink_under: Sinks, operation: str, fault: Fault
) -> None:
    ref, sink = put(client, server.new_bucket()), sink_under(None)
    server.faults.once(operation, fault)
    with pytest.raises(SinkConflictError):
        await sink.write(ref, TAGGING, keep)
    assert (await sink.write(ref, TAGGING, keep)).status is WriteStatus.WRITTEN


async def test_a_sidecar_whose_image_is_gone_is_undone_all_the_same(
    server: StrictS3UnderTest, client: S3Client, sink_under: Sinks
) -> None:
    bucket = server.new_bucket()
    ref, sink = put(client, bucket), sink_under(None)
    write = await sink.write(ref, TAGGING, keep)
    client.delete_object(Bucket=bucket, Key="a b/photo.jpg")
    written = Written("run-one", {"status": write.status.value}, None, no_manifest, TAGGING)
    assert (await sink.undo(ref, written)).status is WriteStatus.WRITTEN
    assert keys(client, bucket) == []


async def test_a_sidecar_outlives_our_own_copies_of_its_image(
    server: StrictS3UnderTest, client: S3Client, sink_under: Sinks
) -> None:
    """The metadata sink changes the ETag of an image uploaded in parts; its content is the same."""
    bucket, etag = server.new_bucket(), "1" * 32 + "-2"
    put(client, bucket)
    server.store.edit(bucket, "a b/photo.jpg", etag=etag)
    ref, sink = ImageRef(S3Object(bucket, "a b/photo.jpg", etag, 5)), sink_under(None)
    await sink.write(ref, TAGGING, keep)
    note = {"tagmill-source-etag": etag, "tagmill-source-size": "5"}
    server.store.edit(bucket, "a b/photo.jpg", etag="2" * 32, metadata=note)
    listed = ImageRef(S3Object(bucket, "a b/photo.jpg", "2" * 32, 5))
    assert await sink.marked(listed, TAGGING.engine_config, TAGGING.policy, "run-next")
    assert (await sink.write(listed, TAGGING, keep)).status is WriteStatus.UNCHANGED
