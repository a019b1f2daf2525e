"""Annotations: what they say, and above all where none may ever be sent."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from fakes.taggings import TAGGING, keep, no_manifest
from servers.s3 import S3UnderTest
from servers.s3_library import at
from servers.strict_s3 import StrictS3UnderTest

from tagmill.worker.models import ImageRef, S3Object, WriteStatus
from tagmill.worker.sinks.base import Written
from tagmill.worker.sinks.s3_annotation import ANNOTATION, S3AnnotationSink

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

IMAGE = b"\xff\xd8 an image of some size"
_keys = itertools.count()


def put(client: S3Client, bucket: str, body: bytes = IMAGE) -> ImageRef:
    key = f"photo {next(_keys)}.jpg"
    etag = client.put_object(Bucket=bucket, Key=key, Body=body)["ETag"].strip('"')
    return ImageRef(S3Object(bucket, key, etag, len(body)))


def body_of(client: S3Client, ref: ImageRef) -> bytes:
    return client.get_object(**at(ref))["Body"].read()


async def all_that_a_sink_does(sink: S3AnnotationSink, ref: ImageRef) -> list[Any]:
    written = Written("run-one", {"status": "written"}, None, no_manifest, TAGGING)
    write, undo = await sink.write(ref, TAGGING, keep), await sink.undo(ref, written)
    marked = await sink.marked(ref, TAGGING.engine_config, TAGGING.policy, "run-next")
    await sink.aclose()
    return [write.status, write.reason, undo.status, undo.reason, marked]


@pytest.fixture
async def sink(client: S3Client) -> AsyncIterator[S3AnnotationSink]:
    sink = S3AnnotationSink(client, lanes=2, proven=lambda _: True)
    yield sink
    await sink.aclose()


async def test_the_whole_result_is_under_one_name(
    server: StrictS3UnderTest, client: S3Client, sink: S3AnnotationSink
) -> None:
    ref = put(client, server.new_bucket())
    write = await sink.write(ref, TAGGING, keep)
    answer = client.get_object_annotation(**at(ref), AnnotationName=ANNOTATION)
    said = json.loads(answer["AnnotationPayload"].read())
    assert isinstance(ref.source, S3Object)
    assert said["tags"] == TAGGING.tags
    assert said["source"] == {"size": ref.source.size, "etag": ref.source.etag}
    assert (said["run"], said["replaces"]) == ("run-one", None)
    assert write.etag_after == ref.source.etag


async def test_a_bucket_that_was_not_proven_gets_no_request(
    server: StrictS3UnderTest, client: S3Client
) -> None:
    ref = put(client, server.new_bucket())
    server.store.requests.clear()
    sink = S3AnnotationSink(client, lanes=1, proven=lambda _: False)
    did = await all_that_a_sink_does(sink, ref)
    unproven = [WriteStatus.SKIPPED, "annotations_unproven"]
    assert did == [*unproven, *unproven, False]
    assert server.store.requests == []


async def test_proof_is_of_one_bucket_only(server: StrictS3UnderTest, client: S3Client) -> None:
    proven, other = put(client, server.new_bucket()), put(client, server.new_bucket())
    sink = S3AnnotationSink(client, lanes=1, proven=lambda bucket: bucket == at(proven)["Bucket"])
    assert (await sink.write(proven, TAGGING, keep)).status is WriteStatus.WRITTEN
    assert (await sink.write(other, TAGGING, keep)).reason == "annotations_unproven"
    await sink.aclose()


@pytest.mark.parametrize("body", [IMAGE, b"text, not an image", b"x" * (2 * 1024 * 1024)])
@pytest.mark.parametrize("where", ["strict", "moto"])
async def test_a_false_proof_does_not_cost_the_image_either(
    server: StrictS3UnderTest, client: S3Client, s3_server: S3UnderTest, where: str, body: bytes
) -> None:
    """A server that does not know annotations answers the read before each write with the image itself."""
    moto = where == "moto"
    there = s3_server.client() if moto else client
    ref = put(there, s3_server.bucket() if moto else server.new_bucket(knows_annotations=False), body)
    sink = S3AnnotationSink(there, lanes=1, proven=lambda _: True)
    did = await all_that_a_sink_does(sink, ref)
    assert did[:2] == [WriteStatus.SKIPPED, "foreign_annotation"]
    assert did[-1] is False
    assert body_of(there, ref) == body


async def test_such_a_server_would_have_replaced_the_image(s3_server: S3UnderTest) -> None:
    """Without this, the test before would prove nothing about moto."""
    client = s3_server.client()
    ref = put(client, s3_server.bucket())
    client.put_object_annotation(**at(ref), AnnotationName=ANNOTATION, AnnotationPayload=b"{}")
    assert body_of(client, ref) != IMAGE


async def test_new_content_is_not_annotated_with_what_was_said_of_the_old(
    server: StrictS3UnderTest, client: S3Client, sink: S3AnnotationSink
) -> None:
    ref = put(client, server.new_bucket())
    server.faults.before("PutObjectAnnotation", lambda: client.put_object(**at(ref), Body=b"newer") and None)
    assert (await sink.write(ref, TAGGING, keep)).status is WriteStatus.STALE
    assert client.list_object_annotations(**at(ref))["Annotations"] == []


async def test_somebody_elses_annotation_of_that_name_is_left_alone(
    server: StrictS3UnderTest, client: S3Client, sink: S3AnnotationSink
) -> None:
    ref = put(client, server.new_bucket())
    client.put_object_annotation(**at(ref), AnnotationName=ANNOTATION, AnnotationPayload=b"mine")
    assert (await sink.write(ref, TAGGING, keep)).reason == "foreign_annotation"
    answer = client.get_object_annotation(**at(ref), AnnotationName=ANNOTATION)
    assert answer["AnnotationPayload"].read() == b"mine"


async def test_more_than_an_annotation_holds_is_not_sent(
    server: StrictS3UnderTest, client: S3Client, sink: S3AnnotationSink
) -> None:
    ref = put(client, server.new_bucket())
    tagging = replace(TAGGING, tags={"auto": {}, "user": "x" * 1024 * 1024})
    assert (await sink.write(ref, tagging, keep)).reason == "no_room"
