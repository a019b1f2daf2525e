"""Somebody else writes to the same object at the same time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from servers.strict_s3 import Stored, StrictS3UnderTest, running_strict_s3

from tagmill.worker.models import ImageRef, S3Object, WriteStatus
from tagmill.worker.sinks.base import Tagging
from tagmill.worker.sinks.s3_metadata import S3MetadataSink

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

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


@pytest.fixture(scope="module")
def server() -> Iterator[StrictS3UnderTest]:
    with running_strict_s3() as server:
        yield server


class Contested:
    """An image that somebody else keeps replacing; every content is another, and numbered."""

    def __init__(self, server: StrictS3UnderTest, *, versioned: bool) -> None:
        self.server, self.bucket = server, server.new_bucket(versioned=versioned)
        self.client: S3Client = server.client()
        self.put: list[bytes] = []
        self.replace_content()

    def replace_content(self) -> None:
        """Also the metadata that came with the content before."""
        number = len(self.put)
        body = f"image {number}".encode()
        self.client.put_object(Bucket=self.bucket, Key=KEY, Body=body, Metadata={"number": str(number)})
        self.put.append(body)

    @property
    def stored(self) -> Stored:
        return self.server.store.current(self.bucket, KEY)

    @property
    def listed(self) -> ImageRef:
        stored = self.stored
        return ImageRef(S3Object(self.bucket, KEY, stored.etag, stored.size, version_id=stored.version_id))

    def bodies(self) -> list[bytes]:
        """Oldest first; one in a bucket without versions."""
        return [stored.body for stored in self.server.store.buckets[self.bucket].objects[KEY]]


@pytest.mark.parametrize("rounds", [100, pytest.param(1000, marks=pytest.mark.long)])
@pytest.mark.parametrize("versioned", [False, True])
async def test_no_update_of_a_racing_writer_is_lost(
    server: StrictS3UnderTest, *, versioned: bool, rounds: int
) -> None:
    """Half of the rounds are free races; in the others somebody is sure to come between look and copy."""
    image, sink = Contested(server, versioned=versioned), S3MetadataSink(server.client(), lanes=1)
    ended: Counter[str] = Counter()
    for number in range(rounds):
        tagging = replace(TAGGING, run_id=f"run-{number}", tags={"auto": {"sky": number}})
        write = sink.write(image.listed, tagging, keep)
        if number % 2:
            server.faults.before("CopyObject", image.replace_content)
            ended[(await write).status] += 1
        else:
            ended[(await asyncio.gather(write, asyncio.to_thread(image.replace_content)))[0].status] += 1
        newest = len(image.put) - 1
        assert (image.stored.body, image.stored.metadata["number"]) == (image.put[newest], str(newest))
    await sink.aclose()
    assert ended[WriteStatus.STALE] >= rounds / 2
    assert ended.keys() <= {WriteStatus.WRITTEN, WriteStatus.STALE}
    order = [image.put.index(body) for body in image.bodies()]
    assert order == sorted(order), "older bytes came back"
    assert len(set(order)) == (len(image.put) if versioned else 1)
