"""Where a server does less than S3, nothing is lost all the same."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.taggings import TAGGING, keep
from servers.real_s3 import RealBucket

from tagmill.worker.models import ImageRef, S3Object, Write, WriteStatus
from tagmill.worker.sinks.base import Sink
from tagmill.worker.sinks.s3_annotation import S3AnnotationSink
from tagmill.worker.sinks.s3_metadata import S3MetadataSink

IMAGE = b"\xff\xd8 image"


class Image:
    """With tags, which some servers drop in a copy."""

    def __init__(self, real: RealBucket, name: str) -> None:
        self.client = real.client
        self.at: Any = {"Bucket": real.bucket, "Key": f"{real.prefix}{name} +%41ü.jpg"}
        etag = self.client.put_object(**self.at, Body=IMAGE, Tagging="team=web")["ETag"].strip('"')
        self.ref = ImageRef(S3Object(real.bucket, self.at["Key"], etag, len(IMAGE)))

    async def written(self, sink: Sink) -> Write:
        write = await sink.write(self.ref, TAGGING, keep)
        await sink.aclose()
        return write

    def is_whole(self) -> bool:
        tags = self.client.get_object_tagging(**self.at)["TagSet"]
        body = self.client.get_object(**self.at)["Body"].read()
        return (body, tags) == (IMAGE, [{"Key": "team", "Value": "web"}])


async def test_an_annotation_never_costs_an_image(real: RealBucket) -> None:
    image, proven = Image(real, "annotated"), bool(real.found.annotations)
    write = await image.written(S3AnnotationSink(real.client, lanes=1, proven=lambda _: proven))
    assert write.status is (WriteStatus.WRITTEN if proven else WriteStatus.SKIPPED)
    assert image.is_whole()


@pytest.mark.parametrize("proven", [True, False])
async def test_not_even_a_false_proof_costs_an_image(real: RealBucket, *, proven: bool) -> None:
    image = Image(real, f"falsely proven {proven}")
    await image.written(S3AnnotationSink(real.client, lanes=1, proven=lambda _: proven))
    assert image.is_whole()


async def test_metadata_never_costs_an_image_its_tags(real: RealBucket) -> None:
    image = Image(real, "with tags")
    write = await image.written(S3MetadataSink(real.client, lanes=1, known=lambda _: real.found))
    expected = (
        (WriteStatus.SKIPPED, "tags_lost") if real.found.copies_tags is False else (WriteStatus.WRITTEN, None)
    )
    assert (write.status, write.reason) == expected
    assert image.is_whole()
