"""Object tags against a server that holds to S3's rules for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import pytest
from fakes.taggings import TAGGING, no_manifest
from hypothesis import given, settings
from hypothesis import strategies as st
from servers.s3_library import Library, at, client_of, key_of, tag_set
from servers.strict_s3 import Stored, StrictS3UnderTest
from servers.strict_s3_http import Fault

from tagmill.worker.errors import SinkConflictError, SinkRejectedError
from tagmill.worker.models import ImageRef, S3Object, WriteStatus
from tagmill.worker.sinks.base import Tagging, Written
from tagmill.worker.sinks.s3_tags import S3TagsSink
from tagmill.worker.sinks.tag_text import slug

TagLibrary = Library[S3TagsSink]


def library_in(server: StrictS3UnderTest, *, versioned: bool = False) -> TagLibrary:
    return Library(server, S3TagsSink(client_of(server), lanes=4), versioned=versioned)


def tag(library: TagLibrary, ref: ImageRef, tags: Mapping[str, str]) -> None:
    """As somebody else does it."""
    library.client.put_object_tagging(**at(ref), Tagging=tag_set(tags))


def foreign(stored: Stored) -> dict[str, str]:
    return {key: value for key, value in stored.tags.items() if not key.startswith("tagmill-")}


@pytest.fixture(params=[False, True], ids=["plain", "versioned"])
async def library(request: pytest.FixtureRequest, server: StrictS3UnderTest) -> AsyncIterator[TagLibrary]:
    library = library_in(server, versioned=request.param)
    yield library
    await library.sink.aclose()
    server.faults.clear()


async def test_nothing_but_two_tags_is_different_afterwards(library: TagLibrary) -> None:
    ref = library.put(Tagging="team=web&empty=", Metadata={"owner": "me"}, StorageClass="GLACIER")
    before = library.stored(ref)
    write = await library.write(ref)
    after = library.stored(ref)
    assert replace(after, tags=before.tags) == before
    assert foreign(after) == before.tags
    assert after.tags["tagmill-tags"] == "sky:97 no-person:88"
    assert after.tags["tagmill-run"].split()[:2] == ["run-one", TAGGING.marker]
    assert (write.etag_after, write.version_after) == (before.etag, before.version_id)


async def test_a_write_is_no_creation(library: TagLibrary) -> None:
    ref = library.put()
    library.server.events.clear()
    await library.write(ref)
    assert [event.name for event in library.server.events] == ["ObjectTagging:Put"]


async def test_a_first_write_looks_before_and_after_and_a_repeated_one_only_before(
    library: TagLibrary,
) -> None:
    ref = library.put()
    library.server.store.requests.clear()
    await library.write(ref)
    first = library.server.store.requests.copy()
    library.server.store.requests.clear()
    await library.write(ref)
    pinned = library.stored(ref).version_id is not None
    look, write = ["HeadObject", "GetObjectTagging"], ["PutObjectTagging", "GetObjectTagging"]
    assert first == [*look, *write, *([] if pinned else ["HeadObject"])]
    assert library.server.store.requests == look


async def test_ten_tags_are_the_most(library: TagLibrary) -> None:
    tags = {f"team {number}": "x" for number in range(9)}
    full, almost = library.put(), library.put()
    tag(library, full, tags)
    tag(library, almost, dict(list(tags.items())[:8]))
    assert (await library.write(full)).reason == "no_room"
    assert (await library.write(almost)).status is WriteStatus.WRITTEN
    assert foreign(library.stored(full)) == tags


async def test_labels_without_room_are_cut_and_counted(library: TagLibrary) -> None:
    ref = library.put()
    labels = {f"label {number}": 99 - number / 10 for number in range(100)}
    write = await library.write(ref, replace(TAGGING, tags={"auto": labels}))
    words = library.stored(ref).tags["tagmill-tags"].split()
    assert write.truncated == 100 - len(words) > 0
    assert [word.rpartition(":")[0] for word in words] == [f"label-{n}" for n in range(len(words))]


async def test_a_replica_is_left_alone(library: TagLibrary) -> None:
    ref = library.put()
    library.edit(ref, extra={"x-amz-replication-status": "REPLICA"})
    assert (await library.write(ref)).reason == "replica"
    assert library.stored(ref).tags == {}


async def test_an_object_with_a_customers_key_is_left_alone(library: TagLibrary) -> None:
    ref = library.put()
    library.edit(ref, customer_key=True)
    assert (await library.write(ref)).reason == "sse_c"


async def test_a_deleted_image_is_missing(library: TagLibrary) -> None:
    ref = library.put()
    library.client.delete_object(**at(ref))
    with pytest.raises(SinkRejectedError) as caught:
        await library.write(ref)
    assert caught.value.code == "missing"


async def test_our_own_metadata_copy_is_the_same_content(library: TagLibrary) -> None:
    ref = library.put()
    note = {"tagmill-source-etag": "1" * 32 + "-2", "tagmill-source-size": "5"}
    library.edit(ref, metadata=note)
    planned = ImageRef(S3Object(library.bucket, key_of(ref), "1" * 32 + "-2", 5))
    assert (await library.write(planned)).status is WriteStatus.WRITTEN
    assert await library.marked(library.listed(key_of(ref)))


allowed = st.text(
    st.characters(categories=["L", "N", "Zs"], include_characters="_.:/=+-@"), min_size=1, max_size=128
)
foreign_tags = st.dictionaries(
    allowed.filter(lambda key: not key.lower().startswith("aws:") and not key.startswith("tagmill-")),
    allowed,
    max_size=8,
)
any_labels = st.dictionaries(st.text(min_size=1, max_size=30).filter(slug), st.floats(0, 100), max_size=40)


@given(foreign_tags, any_labels)
@settings(max_examples=60, deadline=None)
def test_whatever_others_tagged_stays_and_comes_back(
    server: StrictS3UnderTest, tags: dict[str, str], labels: dict[str, float]
) -> None:
    library = library_in(server)
    ref = library.put()
    if tags:
        tag(library, ref, tags)
    before = library.stored(ref)
    assert asyncio.run(write_and_undo(library, ref, replace(TAGGING, tags={"auto": labels}))) == tags
    assert library.stored(ref) == before


async def write_and_undo(library: TagLibrary, ref: ImageRef, tagging: Tagging) -> dict[str, str]:
    """Return what others had tagged while our tags stood there, too."""
    statuses = [(await library.write(ref, tagging)).status, (await library.write(ref, tagging)).status]
    meanwhile = foreign(library.stored(ref))
    written = Written("run-one", {"status": "written"}, None, no_manifest, tagging)
    statuses += [(await library.sink.undo(ref, written)).status]
    await library.sink.aclose()
    assert statuses == [WriteStatus.WRITTEN, WriteStatus.UNCHANGED, WriteStatus.WRITTEN]
    return meanwhile


# --- somebody else at the same time -----------------------------------------------------------------------


async def test_tags_that_somebody_sets_after_our_write_are_seen_and_kept(library: TagLibrary) -> None:
    ref = library.put()

    def tag_after_our_write() -> None:
        library.server.faults.before("GetObjectTagging", lambda: tag(library, ref, {"team": "web"}))

    library.server.faults.before("PutObjectTagging", tag_after_our_write)
    with pytest.raises(SinkConflictError):
        await library.write(ref)
    assert (await library.write(ref)).status is WriteStatus.WRITTEN
    assert foreign(library.stored(ref)) == {"team": "web"}


async def test_tags_that_somebody_sets_between_our_look_and_our_write_are_lost(library: TagLibrary) -> None:
    """What docs/write-back.md calls the window: S3 takes no condition here, so nothing could prevent it."""
    ref = library.put()
    library.server.faults.before("PutObjectTagging", lambda: tag(library, ref, {"team": "web"}))
    assert (await library.write(ref)).status is WriteStatus.WRITTEN
    assert foreign(library.stored(ref)) == {}


@pytest.mark.parametrize("operation", ["GetObjectTagging", "PutObjectTagging"])
async def test_new_content_keeps_none_of_our_tags(library: TagLibrary, operation: str) -> None:
    ref = library.put()

    library.server.faults.before(operation, lambda: library.overwrite(ref))
    if library.stored(ref).version_id is None:
        with pytest.raises(SinkConflictError):
            await library.write(ref)
    else:
        assert (await library.write(ref)).status is WriteStatus.WRITTEN  # on the version that was tagged
    assert (await library.write(ref)).status is WriteStatus.STALE
    stored = library.stored(ref)
    assert (stored.body, stored.tags) == (b"newer", {})


@pytest.mark.parametrize("applied", [False, True])
async def test_a_write_without_an_answer_is_tried_again(library: TagLibrary, *, applied: bool) -> None:
    ref = library.put(Tagging="team=web")
    library.server.faults.once("PutObjectTagging", Fault(hangs_up=True, applied=applied))
    with pytest.raises(SinkConflictError):
        await library.write(ref)
    again = await library.write(ref)
    assert again.status is (WriteStatus.UNCHANGED if applied else WriteStatus.WRITTEN)
    assert foreign(library.stored(ref)) == {"team": "web"}


@pytest.mark.parametrize("operation", ["HeadObject", "GetObjectTagging", "PutObjectTagging"])
async def test_a_denied_request_is_the_images_failure(library: TagLibrary, operation: str) -> None:
    ref = library.put()
    library.server.faults.once(operation, Fault(403, "AccessDenied"))
    with pytest.raises(SinkRejectedError) as caught:
        await library.write(ref)
    assert caught.value.code == "forbidden"


# --- undo -------------------------------------------------------------------------------------------------


async def test_undo_keeps_what_others_tagged_meanwhile(library: TagLibrary) -> None:
    ref = library.put(Tagging="team=web")
    write = await library.write(ref)
    tag(library, ref, {**library.stored(ref).tags, "team": "print", "new": "yes"})

    row = {"status": write.status.value}
    undo = await library.sink.undo(ref, Written("run-one", row, None, no_manifest, TAGGING))
    assert undo.status is WriteStatus.WRITTEN
    assert library.stored(ref).tags == {"team": "print", "new": "yes"}
