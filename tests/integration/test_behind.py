"""Which object is behind a handle, and that its content is pinned."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from fakes.engine import FakeEngine
from servers.strict_s3 import StrictS3UnderTest, running_strict_s3
from servers.strict_s3_http import Fault

from tagmill.worker.behind import Behind
from tagmill.worker.engines.base import Whereabouts
from tagmill.worker.errors import AccessDeniedError, ImageNotFoundError, RetryableError
from tagmill.worker.models import Handle, ImageRef, S3Object
from tagmill.worker.sinks.s3_access import S3Access

HANDLE, KEY = "AbCdEfGhIjKlMnOpQr01", "a b/ü.jpg"


class Upload:
    """One handle whose file lies in a bucket of one's own."""

    def __init__(self, server: StrictS3UnderTest, *, versioned: bool = False) -> None:
        self.server, self.bucket = server, server.new_bucket(versioned=versioned)
        self.client = server.client()
        self.client.put_object(Bucket=self.bucket, Key=KEY, Body=b"image")
        self.engine = FakeEngine(places={HANDLE: Whereabouts(self.bucket, KEY)})
        self.behind = Behind(self.engine, S3Access(self.client, lanes=1), [self.bucket])
        self.ref = ImageRef(Handle(HANDLE, line=3), fresh=True)

    async def found(self) -> S3Object | None:
        return (await self.behind.find(self.ref)).behind


@pytest.fixture(scope="module")
def server() -> Iterator[StrictS3UnderTest]:
    with running_strict_s3() as server:
        yield server


@pytest.fixture
async def upload(server: StrictS3UnderTest) -> AsyncIterator[Upload]:
    upload = Upload(server)
    yield upload
    await upload.behind.aclose()


async def test_the_object_is_pinned_as_it_is_now(upload: Upload) -> None:
    stored = upload.server.store.current(upload.bucket, KEY)
    found = await upload.behind.find(upload.ref)
    when = stored.last_modified.isoformat()
    assert found.behind == S3Object(upload.bucket, KEY, stored.etag, 5, when, None)
    assert (found.id, found.fresh, found.target.id) == (
        f"filestack:{HANDLE}",
        True,
        f"s3://{upload.bucket}/{KEY}",
    )


async def test_its_version_is_pinned_too(server: StrictS3UnderTest) -> None:
    upload = Upload(server, versioned=True)
    found = await upload.found()
    await upload.behind.aclose()
    assert found is not None
    assert found.version_id == server.store.current(upload.bucket, KEY).version_id is not None


async def test_other_images_are_as_they_are(upload: Upload) -> None:
    ref = ImageRef(S3Object(upload.bucket, KEY))
    upload.server.store.requests.clear()
    assert await upload.behind.find(ref) is ref
    assert upload.server.store.requests == []


@pytest.mark.parametrize("place", [None, Whereabouts("somebody-elses", KEY)])
async def test_what_lies_elsewhere_is_not_looked_at(upload: Upload, place: Whereabouts | None) -> None:
    upload.engine.places = {HANDLE: place} if place else {}
    upload.server.store.requests.clear()
    assert await upload.found() is None
    assert upload.server.store.requests == []


async def test_an_object_with_a_customers_key_is_named_without_a_pin(upload: Upload) -> None:
    upload.server.store.edit(upload.bucket, KEY, customer_key=True)
    assert await upload.found() == S3Object(upload.bucket, KEY)


@pytest.mark.parametrize(
    ("fault", "error_class"),
    [
        (Fault(404, "NoSuchKey"), ImageNotFoundError),
        (Fault(403, "AccessDenied"), AccessDeniedError),
        (Fault(503, "SlowDown"), RetryableError),
        (Fault(hangs_up=True), RetryableError),
    ],
)
async def test_an_object_that_cannot_be_looked_at_costs_no_call(
    upload: Upload, fault: Fault, error_class: type[Exception]
) -> None:
    upload.server.faults.once("HeadObject", fault)
    with pytest.raises(error_class) as raised:
        await upload.found()
    assert type(raised.value) is error_class
    assert getattr(raised.value, "calls", None) == 0


async def test_a_handle_that_is_gone_is_missing(upload: Upload) -> None:
    upload.engine.gone.add(HANDLE)
    with pytest.raises(ImageNotFoundError):
        await upload.found()


def test_a_plan_line_and_a_row_keep_what_was_found() -> None:
    ref = ImageRef(Handle(HANDLE)).at(S3Object("bucket", KEY, "etag", 5))
    line = ref.to_json()
    assert ImageRef.from_json(line) == ref
    plain = {
        "kind": "handle",
        "source": {"handle": HANDLE, "behind": {"bucket": "bucket", "key": KEY, "etag": "etag", "size": 5}},
    }
    assert ImageRef.from_json(plain) == ref
