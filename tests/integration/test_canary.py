"""A write that does harm is noticed at one of the first images of a run, and nothing else stops a run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from servers.strict_s3 import StrictS3UnderTest, running_strict_s3
from servers.strict_s3_http import Fault

from tagmill.worker.canary import Canary
from tagmill.worker.capabilities import Capabilities
from tagmill.worker.errors import WriteBackSafetyError
from tagmill.worker.models import ImageRef, LocalFile, Place, S3Object, Write, WriteStatus
from tagmill.worker.sidecar_prefix import SidecarPrefix
from tagmill.worker.sinks.base import Tagged, Tagging, Written
from tagmill.worker.sinks.s3_annotation import S3AnnotationSink
from tagmill.worker.sinks.s3_metadata import S3MetadataSink
from tagmill.worker.sinks.s3_sidecar import S3SidecarSink
from tagmill.worker.sinks.s3_tags import S3TagsSink
from tagmill.worker.writeback import WriteBack

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEY = "photo.jpg"
FIRST: Place = (0, 0)
KMS = {
    "x-amz-server-side-encryption": "aws:kms",
    "x-amz-server-side-encryption-aws-kms-key-id": "arn:aws:kms:us-east-1:1:key/one",
}
TAGGING = Tagging(
    run_id="run-one",
    engine="filestack",
    engine_config="0123456789abcdef",
    policy="fedcba9876543210",
    tags={"auto": {"sky": 97}, "user": None},
    tagged_at="2026-11-22T00:00:00Z",
)


async def keep(_: str, __: Mapping[str, Any]) -> None:
    """Nobody asks."""


async def no_wait(_: float) -> None:
    """Time is not what is tested."""


async def nothing_earlier(_: str) -> Tagged | None:
    return None


@cache
def client_of(server: StrictS3UnderTest) -> S3Client:
    return server.client()


class Library:
    """A bucket with one image that has one of everything, and a write-back with a canary."""

    def __init__(self, server: StrictS3UnderTest, sink: str = "metadata") -> None:
        self.server, self.client = server, client_of(server)
        self.bucket = server.new_bucket(acls_enabled=True)
        self.canary = Canary(self.client, TAGGING.run_id, Capabilities.of_s3)
        self.sink = _sink(self.client, sink)
        self.write_back = WriteBack([self.sink], no_wait, self.canary)
        self.at: Any = {"Bucket": self.bucket, "Key": KEY}
        self.client.put_object(
            **self.at,
            Body=b"image",
            ContentType="image/jpeg",
            CacheControl="max-age=60",
            Metadata={"owner": "someone"},
            Tagging="team=web",
            StorageClass="STANDARD_IA",
            WebsiteRedirectLocation="/else",
            ACL="public-read",
        )
        self.client.put_object_annotation(**self.at, AnnotationName="theirs", AnnotationPayload=b"{}")
        stored = self.server.store.current(self.bucket, KEY)
        self.ref = ImageRef(S3Object(self.bucket, KEY, stored.etag, stored.size))

    def spoil(self, **fields: Any) -> None:
        """Let every copy do this harm."""
        self.server.store.buckets[self.bucket].spoil_copy = lambda copy: replace(copy, **fields)

    async def write(self, place: Place | None = FIRST) -> Write:
        (write,) = (await self.write_back.write(self.ref, TAGGING, keep, place)).values()
        return write

    async def undo(self, write: Write) -> Write:
        found = {"status": write.status, "etag_after": write.etag_after}
        written = Written(TAGGING.run_id, found, None, nothing_earlier, TAGGING)
        (undone,) = (await self.write_back.undo(self.ref, {self.sink.name: written}, FIRST)).values()
        return undone

    async def aclose(self) -> None:
        await self.sink.aclose()
        await self.canary.aclose()


def _sink(client: S3Client, name: str) -> Any:
    match name:
        case "metadata":
            return S3MetadataSink(client, lanes=1)
        case "tags":
            return S3TagsSink(client, lanes=1)
        case "annotation":
            return S3AnnotationSink(client, lanes=1, proven=lambda _: True)
        case _:
            return S3SidecarSink(client, lanes=1, prefix=SidecarPrefix.parse(None))


@pytest.fixture(scope="module")
def shared() -> Iterator[StrictS3UnderTest]:
    with running_strict_s3() as server:
        yield server


@pytest.fixture
def server(shared: StrictS3UnderTest) -> Iterator[StrictS3UnderTest]:
    yield shared
    shared.faults.clear()
    shared.store.requests.clear()


@pytest.fixture
async def library(server: StrictS3UnderTest) -> AsyncIterator[Library]:
    library = Library(server)
    yield library
    await library.aclose()


# --- harm is noticed --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        ({"headers": {"content-type": "image/jpeg"}}, "header cache-control"),
        ({"headers": {"content-type": "text/html", "cache-control": "max-age=60"}}, "header content-type"),
        ({"metadata": {}}, "header x-amz-meta-owner"),
        ({"storage_class": "STANDARD"}, "header x-amz-storage-class"),
        ({"redirect": None}, "header x-amz-website-redirect-location"),
        ({"encryption": {"x-amz-server-side-encryption": "aws:kms"}}, "header x-amz-server-side-encryption"),
        ({"extra": {"x-amz-object-lock-mode": "COMPLIANCE"}}, "header x-amz-object-lock-mode"),
        ({"tags": {}}, "tag team"),
        ({"grants": []}, "ACL"),
        ({"owner": "9" * 64}, "owner"),
        ({"annotations": {}}, "annotation theirs"),
        ({"body": b"other"}, "content"),
    ],
)
async def test_harm_stops_the_run_and_is_named(library: Library, harm: dict[str, Any], named: str) -> None:
    library.spoil(**harm)
    with pytest.raises(WriteBackSafetyError) as caught:
        await library.write()
    who = f"s3://{library.bucket}/{KEY}: the metadata write-back, or somebody at the same moment, changed "
    assert str(caught.value) == who + named


async def test_a_bucket_that_drops_tags_is_noticed_even_if_the_probe_was_not_asked(library: Library) -> None:
    library.server.store.buckets[library.bucket].copies_tags = False
    with pytest.raises(WriteBackSafetyError, match="changed tag team"):
        await library.write()


async def test_an_image_that_can_no_longer_be_read_is_noticed(library: Library) -> None:
    library.spoil(customer_key=True)
    with pytest.raises(WriteBackSafetyError, match=r"changed .*content"):
        await library.write()


async def test_values_are_not_told(library: Library) -> None:
    library.spoil(metadata={"owner": "secret"})
    with pytest.raises(WriteBackSafetyError) as caught:
        await library.write()
    assert "secret" not in str(caught.value)
    assert "someone" not in str(caught.value)


async def test_harm_is_noticed_also_by_the_try_that_finds_the_work_done(library: Library) -> None:
    library.spoil(tags={})
    library.server.faults.once("CopyObject", Fault(hangs_up=True, applied=True))
    with pytest.raises(WriteBackSafetyError, match="changed tag team"):
        await library.write()


# --- nothing else stops a run -----------------------------------------------------------------------------


@pytest.mark.parametrize("sink", ["metadata", "tags", "annotation", "sidecar"])
async def test_what_every_sink_writes_and_takes_back_is_ours(server: StrictS3UnderTest, sink: str) -> None:
    library = Library(server, sink)
    write = await library.write()
    again = await library.write()
    undone = await library.undo(write)
    await library.aclose()
    statuses = [write.status, again.status, undone.status]
    assert statuses == [WriteStatus.WRITTEN, WriteStatus.UNCHANGED, WriteStatus.WRITTEN]


@pytest.mark.parametrize(
    "fields",
    [
        {"etag": "1" * 32 + "-2"},
        {"etag": "1" * 32 + "-2", "checksum": ("SHA256", "abc=-2", "COMPOSITE")},
        {"encryption": {}},
        {"encryption": KMS, "etag": "0" * 32},
        {
            "extra": {
                "x-amz-replication-status": "COMPLETED",
                "x-amz-expiration": 'expiry-date="a", rule-id="b"',
            }
        },
    ],
)
async def test_what_s3_itself_changes_in_a_copy_is_no_harm(library: Library, fields: dict[str, Any]) -> None:
    library.server.store.edit(library.bucket, KEY, **fields)
    stored = library.server.store.current(library.bucket, KEY)
    library.ref = ImageRef(S3Object(library.bucket, KEY, stored.etag, stored.size))
    assert (await library.write()).status is WriteStatus.WRITTEN


async def test_new_content_from_somebody_else_is_no_harm(library: Library) -> None:
    def overwrite() -> None:
        library.client.put_object(**library.at, Body=b"newer")

    library.server.faults.before("CopyObject", overwrite)
    assert (await library.write()).status is WriteStatus.STALE


async def test_new_content_after_the_write_is_no_harm(library: Library) -> None:
    library.server.faults.before("GetObject", lambda: None)  # before the write
    library.server.faults.before(
        "GetObject", lambda: library.client.put_object(**library.at, Body=b"newer") and None
    )
    assert (await library.write()).status is WriteStatus.WRITTEN


@pytest.mark.parametrize("operation", ["GetObjectAcl", "GetObjectTagging", "ListObjectAnnotations"])
async def test_what_may_not_be_read_is_not_compared(library: Library, operation: str) -> None:
    library.server.faults.always(operation, lambda: Fault(403, "AccessDenied"))
    write = await library.write()
    assert write.status is (WriteStatus.SKIPPED if operation == "GetObjectAcl" else WriteStatus.WRITTEN)


async def test_an_image_that_cannot_be_read_is_left_to_the_sink(library: Library) -> None:
    library.server.store.edit(library.bucket, KEY, customer_key=True)
    assert (await library.write()).reason == "sse_c"


async def test_a_bad_moment_of_the_server_is_sat_out(library: Library) -> None:
    for _ in range(2):
        library.server.faults.once("GetObject", Fault(503, "SlowDown"))
    assert (await library.write()).status is WriteStatus.WRITTEN


# --- who is looked at -------------------------------------------------------------------------------------


async def test_others_than_the_first_cost_nothing_more(library: Library) -> None:
    library.server.store.requests.clear()
    library.spoil(tags={})
    assert (await library.write(place=(0, 100))).status is WriteStatus.WRITTEN
    assert "GetObject" not in library.server.store.requests


@pytest.mark.parametrize(
    ("place", "chosen"), [((0, 0), True), ((0, 99), True), ((0, 100), False), ((1, 0), False), (None, False)]
)
async def test_the_first_hundred_of_the_plan_are_looked_at(
    library: Library, place: Place | None, *, chosen: bool
) -> None:
    assert (await _looked_at(library, library.ref, place)) is chosen


async def test_one_in_a_hundred_of_the_others_is_looked_at(library: Library) -> None:
    refs = [ImageRef(S3Object("b", f"{number}.jpg")) for number in range(10_000)]
    looked_at = [ref for ref in refs if await _looked_at(library, ref, (7, 7))]
    assert 60 <= len(looked_at) <= 140
    assert looked_at == [ref for ref in refs if await _looked_at(library, ref, (7, 7))]


async def test_files_are_not_looked_at(library: Library) -> None:
    assert not await _looked_at(library, ImageRef(LocalFile("file:///a.jpg", "a.jpg", 1, 1)), FIRST)


async def _looked_at(library: Library, ref: ImageRef, place: Place | None) -> bool:
    async def change(_: Any) -> Write:
        return Write(WriteStatus.WRITTEN)

    return library.canary.guard(ref, place, change) is not change
