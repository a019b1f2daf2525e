"""Metadata write-back against a server that is as strict as the S3 API reference."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers.strict_s3 import MAX_METADATA_BYTES, Stored, StrictS3UnderTest, running_strict_s3
from servers.strict_s3_http import Fault

from tagmill.worker.canary import Canary, Portrait, differences
from tagmill.worker.capabilities import Capabilities
from tagmill.worker.errors import CredentialsError, SinkConflictError, SinkRejectedError
from tagmill.worker.models import ImageRef, S3Object, Write, WriteStatus
from tagmill.worker.own_writes import OwnWrites
from tagmill.worker.sinks import encoding
from tagmill.worker.sinks.base import Tagging, Written
from tagmill.worker.sinks.s3_metadata import S3MetadataSink

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

TAGGING = Tagging(
    run_id="run-one",
    engine="filestack",
    engine_config="0123456789abcdef",
    policy="fedcba9876543210",
    tags={"auto": {"sky": 97, "no person": 88}, "user": None},
    tagged_at="2026-11-22T00:00:00Z",
)
OTHER_ANSWER = replace(TAGGING, run_id="run-two", tags={"auto": {"sea": 55}, "user": None})
KEY_ID = "x-amz-server-side-encryption-aws-kms-key-id"
ALL_USERS = 'uri="http://acs.amazonaws.com/groups/global/AllUsers"'
_keys = itertools.count()


async def keep(_: Mapping[str, Any]) -> None:
    """Nobody asks."""


@cache
def client_of(server: StrictS3UnderTest) -> S3Client:
    """Making a client costs more than a whole test."""
    return server.client()


class Library:
    """A bucket with images, and the sink under test."""

    def __init__(
        self,
        server: StrictS3UnderTest,
        *,
        known: Callable[[str], Capabilities] = Capabilities.of_s3,
        **bucket: bool,
    ) -> None:
        self.server = server
        self.bucket = server.new_bucket(**bucket)
        self.client = client_of(server)
        self.sink = S3MetadataSink(self.client, lanes=4, known=known)

    def put(self, **fields: Any) -> ImageRef:
        """A new image as a listing would name it."""
        key = f"photo {next(_keys)}+%41ü.jpg"
        self.client.put_object(**{"Bucket": self.bucket, "Key": key, "Body": b"image", **fields})
        return self.listed(key)

    def listed(self, key: str) -> ImageRef:
        stored = self.server.store.current(self.bucket, key)
        return ImageRef(S3Object(self.bucket, key, stored.etag, stored.size, version_id=stored.version_id))

    def edit(self, ref: ImageRef, **fields: Any) -> ImageRef:
        self.server.store.edit(self.bucket, key_of(ref), **fields)
        return self.listed(key_of(ref))

    def stored(self, ref: ImageRef) -> Stored:
        return self.server.store.current(self.bucket, key_of(ref))

    def history(self, ref: ImageRef) -> list[Stored]:
        """Oldest first; one entry in a bucket without versions."""
        return self.server.store.buckets[self.bucket].objects[key_of(ref)]

    def labels(self, ref: ImageRef) -> Mapping[str, float] | None:
        return encoding.decode(self.stored(ref).metadata)

    def copies(self) -> int:
        return sum(
            event.operation == "CopyObject" for event in self.server.events if event.bucket == self.bucket
        )

    async def portrait(self, ref: ImageRef) -> Portrait:
        canary = Canary(self.client, TAGGING.run_id, Capabilities.of_s3)
        portrait = await canary.portrait(cast(S3Object, ref.source))
        await canary.aclose()
        assert portrait is not None
        return portrait

    async def write(self, ref: ImageRef, tagging: Tagging = TAGGING) -> Write:
        return await self.sink.write(ref, tagging, keep)

    async def run(self, ref: ImageRef, tagging: Tagging = TAGGING) -> Written:
        """Write, and return what the run's files tell of it."""
        kept: list[Mapping[str, Any]] = []

        async def remember(previous: Mapping[str, Any]) -> None:
            kept.append(previous)

        write = await self.sink.write(ref, tagging, remember)
        return Written(tagging.run_id, asdict(write), kept[0] if kept else None, no_manifest, tagging)


async def no_manifest(_run_id: str) -> None:
    """Earlier runs left none."""


def key_of(ref: ImageRef) -> str:
    assert isinstance(ref.source, S3Object)
    return ref.source.key


def everything(stored: Stored, *also: str) -> dict[str, Any]:
    """All there is, but for what S3 itself changes with each write."""
    changing = {"last_modified", "version_id", *also}
    return {name: value for name, value in asdict(stored).items() if name not in changing}


def everything_else(stored: Stored, *also: str) -> dict[str, Any]:
    """All of that which is not ours."""
    foreign = {k: v for k, v in stored.metadata.items() if k not in encoding.OWN_KEYS}
    return everything(stored, *also) | {"metadata": foreign}


@pytest.fixture(scope="module")
def server() -> Iterator[StrictS3UnderTest]:
    with running_strict_s3() as server:
        yield server


@pytest.fixture
async def library(server: StrictS3UnderTest) -> AsyncIterator[Library]:
    library = Library(server)
    yield library
    await library.sink.aclose()


@pytest.fixture
async def acl_library(server: StrictS3UnderTest) -> AsyncIterator[Library]:
    library = Library(server, acls_enabled=True)
    yield library
    await library.sink.aclose()


@pytest.fixture
async def versioned_library(server: StrictS3UnderTest) -> AsyncIterator[Library]:
    library = Library(server, versioned=True)
    yield library
    await library.sink.aclose()


# --- nothing foreign is lost ------------------------------------------------------------------------------

text = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
encryptions: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.just({"ServerSideEncryption": "AES256"}),
    st.just({"ServerSideEncryption": "aws:kms:dsse", "SSEKMSKeyId": "arn:aws:kms:key/2"}),
    st.builds(
        lambda bucket_key: {
            "ServerSideEncryption": "aws:kms",
            "SSEKMSKeyId": "arn:aws:kms:key/1",
            "BucketKeyEnabled": bucket_key,
        },
        st.booleans(),
    ),
)
fields: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "ContentType": st.sampled_from(["image/jpeg", "image/svg+xml; charset=utf-8"]),
        "CacheControl": text,
        "ContentDisposition": text,
        "ContentEncoding": st.sampled_from(["gzip", "br"]),
        "ContentLanguage": text,
        "Expires": st.datetimes(),
        "WebsiteRedirectLocation": text.map(lambda path: f"/{path}"),
        "StorageClass": st.sampled_from(
            [
                "STANDARD",
                "REDUCED_REDUNDANCY",
                "STANDARD_IA",
                "ONEZONE_IA",
                "INTELLIGENT_TIERING",
                "GLACIER_IR",
            ]
        ),
        "Metadata": st.dictionaries(st.text("abcxyz-0189", min_size=1, max_size=20), text, max_size=5),
        "Tagging": st.sampled_from(["a=b", "team=web&cost=a%20b&empty="]),
        "ChecksumAlgorithm": st.sampled_from(["CRC32", "SHA1", "SHA256"]),
    },
)
acls: st.SearchStrategy[dict[str, Any]] = st.sampled_from(  # none: a bucket that has ACLs disabled
    [
        {},
        {"ACL": "private"},
        {"ACL": "public-read"},
        {"ACL": "authenticated-read"},
        {
            "GrantRead": ALL_USERS,
            "GrantFullControl": f'id="{"7" * 64}"',
            "GrantReadACP": f'id="{"8" * 64}",id="{"9" * 64}"',
        },
    ]
)


@dataclass(frozen=True)
class Drawn:
    """An object as somebody may have left it."""

    fields: dict[str, Any]
    encryption: dict[str, Any]
    grants: dict[str, Any]
    versioned: bool
    in_parts: bool
    proven: bool  #: else each copy is looked at after it

    def put_into(self, library: Library) -> ImageRef:
        ref = library.put(**self.fields, **self.encryption, **self.grants)
        return library.edit(ref, etag="1" * 32 + "-2") if self.in_parts else ref

    @property
    def changing(self) -> str:
        """What a copy changes on S3, too."""
        return "etag" if self.in_parts or "SSEKMSKeyId" in self.encryption else ""


drawn = st.builds(Drawn, fields, encryptions, acls, st.booleans(), st.booleans(), st.booleans())
combinations = settings(deadline=None, suppress_health_check=list(HealthCheck))


@given(drawn)
@settings(combinations, max_examples=50)
def test_every_combination_of_fields_is_as_it_was(server: StrictS3UnderTest, drawn: Drawn) -> None:
    asyncio.run(assert_kept_and_undone(server, drawn))


@pytest.mark.long
@given(drawn)
@settings(combinations, max_examples=5000)
def test_thousands_of_combinations_of_fields_are_as_they_were(
    server: StrictS3UnderTest, drawn: Drawn
) -> None:
    asyncio.run(assert_kept_and_undone(server, drawn))


async def assert_kept_and_undone(server: StrictS3UnderTest, drawn: Drawn) -> None:
    """Two runs write, and are undone: all that is not ours stays, and ours comes and goes.

    Nothing of it looks like harm to a canary.
    """
    known = Capabilities.of_s3 if drawn.proven else Capabilities
    library = Library(server, known=known, acls_enabled=bool(drawn.grants), versioned=drawn.versioned)
    ref = drawn.put_into(library)
    states = [everything(library.stored(ref), drawn.changing)]
    foreign = everything_else(library.stored(ref), drawn.changing)
    portrait = await library.portrait(ref)
    runs = []
    for tagging in (TAGGING, OTHER_ANSWER):
        runs.append(await library.run(ref, tagging))
        assert (await library.write(ref, tagging)).status is WriteStatus.UNCHANGED
        assert everything_else(library.stored(ref), drawn.changing) == foreign
        assert library.labels(ref) == tagging.tags["auto"]
        states.append(everything(library.stored(ref), drawn.changing))
    assert differences(portrait, await library.portrait(ref)) == []
    while runs:
        assert everything(library.stored(ref), drawn.changing) == states.pop()
        assert (await library.sink.undo(ref, runs.pop())).status is WriteStatus.WRITTEN
    assert everything(library.stored(ref), drawn.changing) == states.pop()
    assert differences(portrait, await library.portrait(ref)) == []
    assert library.copies() == 4
    await library.sink.aclose()


async def test_the_server_would_show_a_careless_copy(library: Library) -> None:
    ref = library.put(
        ContentType="image/jpeg",
        CacheControl="no-cache",
        StorageClass="STANDARD_IA",
        ServerSideEncryption="aws:kms",
        WebsiteRedirectLocation="/else",
        Metadata={"owner": "someone"},
    )
    at: Any = {"Bucket": library.bucket, "Key": key_of(ref)}
    library.client.copy_object(**at, CopySource=at, MetadataDirective="REPLACE", Metadata={"careless": "yes"})
    stored = library.stored(ref)
    assert stored.headers == {"content-type": "binary/octet-stream"}
    assert stored.metadata == {"careless": "yes"}
    assert (stored.storage_class, stored.redirect) == ("STANDARD", None)
    assert stored.encryption == {"x-amz-server-side-encryption": "AES256"}


async def test_an_expires_that_is_no_date_stays_what_it_is(library: Library) -> None:
    ref = library.put()
    library.edit(ref, headers={"content-type": "image/jpeg", "expires": "in a while"})
    assert (await library.write(ref)).status is WriteStatus.WRITTEN
    assert library.stored(ref).headers["expires"] == "in a while"


async def test_a_checksum_of_parts_stays_one(library: Library) -> None:
    ref = library.edit(library.put(), etag="1" * 32 + "-2", checksum=("SHA256", "abc=-2", "COMPOSITE"))
    await library.write(ref)
    assert library.stored(ref).checksum == ("SHA256", "abc=-2", "COMPOSITE")


# --- who may read -----------------------------------------------------------------------------------------


async def test_where_acls_are_off_none_is_asked_for(library: Library) -> None:
    refs = [library.put() for _ in range(3)]
    library.server.store.requests.clear()
    for ref in refs:
        await library.write(ref)
    requests = library.server.store.requests
    assert requests == [
        "HeadObject",
        "GetBucketOwnershipControls",
        "CopyObject",
        *["HeadObject", "CopyObject"] * 2,
    ]


async def test_another_accounts_object_is_left_alone(acl_library: Library) -> None:
    ref = acl_library.put()
    acl_library.edit(ref, owner="9" * 64)
    assert (await acl_library.write(ref)).reason == "owner"


@pytest.mark.parametrize("operation", ["GetObjectAcl", "GetBucketAcl"])
async def test_an_acl_that_may_not_be_read_is_not_guessed(acl_library: Library, operation: str) -> None:
    ref = acl_library.put(ACL="public-read")
    acl_library.server.faults.once(operation, Fault(403, "AccessDenied"))
    assert (await acl_library.write(ref)).reason == "acl_unreadable"
    assert acl_library.copies() == 0


async def test_ownership_that_may_not_be_read_is_found_out_object_by_object(acl_library: Library) -> None:
    ref = acl_library.put(ACL="public-read")
    before = acl_library.stored(ref).grants
    acl_library.server.faults.once("GetBucketOwnershipControls", Fault(403, "AccessDenied"))
    assert (await acl_library.write(ref)).status is WriteStatus.WRITTEN
    assert acl_library.stored(ref).grants == before


async def test_a_grant_that_no_header_can_carry_is_not_dropped(acl_library: Library) -> None:
    ref = acl_library.put()
    acl_library.edit(ref, grants=[("WRITE", f"id={'7' * 64}")])
    assert (await acl_library.write(ref)).reason == "acl"


# --- refuse, do not guess ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "fields"),
    [
        ("sse_c", {"customer_key": True}),
        ("storage_class", {"storage_class": "GLACIER"}),
        (
            "archived",
            {"storage_class": "INTELLIGENT_TIERING", "extra": {"x-amz-archive-status": "ARCHIVE_ACCESS"}},
        ),
        ("object_lock", {"extra": {"x-amz-object-lock-mode": "COMPLIANCE"}}),
        ("object_lock", {"extra": {"x-amz-object-lock-legal-hold": "ON"}}),
        ("too_large", {"size": 5 * 1024**3 + 1}),
        ("replica", {"extra": {"x-amz-replication-status": "REPLICA"}}),
        ("missing_meta", {"extra": {"x-amz-missing-meta": "1"}}),
        ("no_room", {"metadata": {"owner": "x" * 2000}}),
    ],
)
async def test_what_could_be_lost_is_skipped_with_a_reason(
    library: Library, reason: str, fields: dict[str, Any]
) -> None:
    ref = library.edit(library.put(), **fields)
    before = library.stored(ref)
    write = await library.write(ref)
    assert (write.status, write.reason) == (WriteStatus.SKIPPED, reason)
    assert library.stored(ref) is before


async def test_an_image_that_nothing_pins_is_skipped(library: Library) -> None:
    ref = ImageRef(S3Object(library.bucket, key_of(library.put())))
    assert (await library.write(ref)).reason == "unpinned"


async def test_an_unencrypted_object_is_not_locked_away_with_the_buckets_key(library: Library) -> None:
    ref = library.edit(library.put(), encryption={})
    library.server.store.buckets[library.bucket].encryption = {"x-amz-server-side-encryption": "aws:kms"}
    assert (await library.write(ref)).reason == "encryption"


async def test_labels_without_room_are_cut_and_counted(library: Library) -> None:
    ref = library.put(Metadata={"owner": "x" * 1000})
    labels = {f"label {number}": 99 - number / 10 for number in range(100)}
    write = await library.write(ref, replace(TAGGING, tags={"auto": labels, "user": None}))
    written = library.labels(ref) or {}
    assert write.truncated == 100 - len(written) > 0
    assert list(written) == list(labels)[: len(written)]
    assert encoding.metadata_bytes(library.stored(ref).metadata) <= MAX_METADATA_BYTES


# --- only the content that was tagged ---------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["HeadObject", "GetBucketOwnershipControls", "CopyObject"])
async def test_content_that_changes_meanwhile_is_stale_and_stays(library: Library, operation: str) -> None:
    ref = library.put()

    def overwrite() -> None:
        library.client.put_object(
            Bucket=library.bucket, Key=key_of(ref), Body=b"newer", Metadata={"new": "yes"}
        )

    library.server.faults.before(operation, overwrite)
    assert (await library.write(ref)).status is WriteStatus.STALE
    stored = library.stored(ref)
    assert (stored.body, stored.metadata) == (b"newer", {"new": "yes"})


async def test_a_deleted_image_is_missing(library: Library) -> None:
    ref = library.put()
    library.client.delete_object(Bucket=library.bucket, Key=key_of(ref))
    with pytest.raises(SinkRejectedError) as caught:
        await library.write(ref)
    assert caught.value.code == "missing"


async def test_our_own_copy_of_a_multipart_image_is_not_taken_for_new_content(library: Library) -> None:
    ref = library.edit(library.put(), etag="1" * 32 + "-2")
    written = await library.write(ref)
    assert written.etag_after != "1" * 32 + "-2"
    assert (await library.write(ref)).status is WriteStatus.UNCHANGED
    assert (await library.write(ref, OTHER_ANSWER)).status is WriteStatus.WRITTEN
    later = library.listed(key_of(ref))
    assert (await library.write(later, OTHER_ANSWER)).status is WriteStatus.UNCHANGED


async def test_a_note_that_travels_with_new_content_is_renewed(library: Library) -> None:
    ref = library.put()
    await library.write(ref)
    metadata = library.stored(ref).metadata
    library.client.put_object(Bucket=library.bucket, Key=key_of(ref), Body=b"edited", Metadata=metadata)
    assert (await library.write(ref)).status is WriteStatus.STALE
    edited = library.listed(key_of(ref))
    assert (await library.write(edited)).status is WriteStatus.WRITTEN
    assert library.stored(ref).metadata[encoding.SOURCE_ETAG] == library.stored(ref).etag


# --- undo -------------------------------------------------------------------------------------------------


async def test_content_that_comes_between_an_undos_look_and_its_copy_stays(library: Library) -> None:
    ref = library.put()
    written = await library.run(ref)

    def overwrite() -> None:
        library.client.put_object(Bucket=library.bucket, Key=key_of(ref), Body=b"newer")

    library.server.faults.before("CopyObject", overwrite)
    assert (await library.sink.undo(ref, written)).status is WriteStatus.UNCHANGED
    assert library.stored(ref).body == b"newer"


async def test_new_content_that_carries_our_metadata_is_left_alone(library: Library) -> None:
    ref = library.put()
    written = await library.run(ref)
    metadata = library.stored(ref).metadata
    library.client.put_object(Bucket=library.bucket, Key=key_of(ref), Body=b"edited", Metadata=metadata)
    undo = await library.sink.undo(ref, written)
    assert (undo.status, undo.reason) == (WriteStatus.STALE, "changed_since")
    assert library.stored(ref).metadata == metadata


async def test_what_others_wrote_since_is_kept_by_undo(library: Library) -> None:
    ref = library.put(Metadata={"owner": "someone"})
    written = await library.run(ref)
    library.edit(ref, metadata={**library.stored(ref).metadata, "owner": "someone else", "more": "yes"})
    assert (await library.sink.undo(ref, written)).status is WriteStatus.WRITTEN
    assert library.stored(ref).metadata == {"owner": "someone else", "more": "yes"}


async def test_earlier_values_that_find_no_room_any_more_are_not_cut(library: Library) -> None:
    ref = library.put()
    labels = {f"label {number}": 50.0 for number in range(50)}
    await library.run(ref, replace(TAGGING, tags={"auto": labels, "user": None}))
    written = await library.run(ref, OTHER_ANSWER)
    library.edit(ref, metadata={**library.stored(ref).metadata, "owner": "x" * 1500})
    assert (await library.sink.undo(ref, written)).reason == "no_room"
    assert library.labels(ref) == {"sea": 55}


async def test_an_image_that_can_no_longer_be_copied_keeps_our_metadata(library: Library) -> None:
    ref = library.put()
    written = await library.run(ref)
    library.edit(ref, storage_class="GLACIER")
    assert (await library.sink.undo(ref, written)).reason == "storage_class"


async def test_a_deleted_image_has_nothing_to_undo(library: Library) -> None:
    ref = library.put()
    written = await library.run(ref)
    library.client.delete_object(Bucket=library.bucket, Key=key_of(ref))
    assert (await library.sink.undo(ref, written)).status is WriteStatus.UNCHANGED


async def test_an_undo_whose_answer_was_lost_is_found_done(library: Library) -> None:
    ref = library.put()
    written = await library.run(ref)
    library.server.faults.once("CopyObject", Fault(hangs_up=True, applied=True))
    with pytest.raises(SinkConflictError):
        await library.sink.undo(ref, written)
    assert (await library.sink.undo(ref, written)).status is WriteStatus.UNCHANGED
    assert library.labels(ref) is None


# --- the marker -------------------------------------------------------------------------------------------


async def marked(library: Library, ref: ImageRef) -> bool | None:
    return await library.sink.marked(ref, TAGGING.engine_config, TAGGING.policy, "run-next")


@pytest.mark.parametrize(
    "fields",
    [{}, {"etag": "1" * 32 + "-2"}, {"encryption": {"x-amz-server-side-encryption": "aws:kms", KEY_ID: "k"}}],
)
async def test_the_next_listing_finds_its_images_marked(library: Library, fields: dict[str, Any]) -> None:
    ref = library.edit(library.put(), **fields)
    await library.write(ref)
    assert await marked(library, library.listed(key_of(ref)))


@pytest.mark.parametrize("encryption", [{}, {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "k"}])
async def test_an_editor_that_keeps_our_metadata_does_not_keep_the_mark(
    library: Library, encryption: dict[str, Any]
) -> None:
    ref = library.put(**encryption)
    await library.write(ref)
    metadata = library.stored(ref).metadata
    library.client.put_object(
        Bucket=library.bucket, Key=key_of(ref), Body=b"cropped", Metadata=metadata, **encryption
    )
    assert not await marked(library, library.listed(key_of(ref)))


async def test_an_object_that_nobody_can_look_at_is_not_marked(library: Library) -> None:
    assert not await marked(library, library.edit(library.put(), customer_key=True))


async def test_a_listener_knows_the_writes_of_runs_with_other_settings(library: Library) -> None:
    async def own(ref: ImageRef) -> bool:
        source = library.listed(key_of(ref)).source
        return isinstance(source, S3Object) and await asyncio.to_thread(
            OwnWrites(library.client).tells_of, source
        )

    ref = library.put()
    assert not await own(ref)
    await library.sink.write(ref, replace(TAGGING, policy="0" * 16, engine_config="1" * 16), keep)
    assert await own(ref)
    metadata = library.stored(ref).metadata
    library.client.put_object(Bucket=library.bucket, Key=key_of(ref), Body=b"cropped", Metadata=metadata)
    assert not await own(ref)


# --- versions ---------------------------------------------------------------------------------------------


async def test_a_version_is_added_once(versioned_library: Library) -> None:
    ref = versioned_library.put()
    write = await versioned_library.write(ref)
    again = await versioned_library.write(ref)
    assert write.version_after == again.version_after == versioned_library.stored(ref).version_id
    assert (again.status, len(versioned_library.history(ref))) == (WriteStatus.UNCHANGED, 2)


async def test_the_copy_is_made_from_the_version_that_was_looked_at(versioned_library: Library) -> None:
    ref = versioned_library.put()

    def touch() -> None:
        """The same bytes again: the ETag does not tell."""
        versioned_library.client.put_object(Bucket=versioned_library.bucket, Key=key_of(ref), Body=b"image")

    versioned_library.server.faults.before("CopyObject", touch)
    await versioned_library.write(ref)
    assert len(versioned_library.history(ref)) == 3


LOCKS = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 9}}}


async def test_a_bucket_that_locks_objects_gets_no_new_versions(versioned_library: Library) -> None:
    """HEAD shows no lock to those who may not read locks, so the bucket is asked."""
    library = versioned_library
    library.client.put_object_lock_configuration(
        Bucket=library.bucket, ObjectLockConfiguration=cast(Any, LOCKS), ChecksumAlgorithm="CRC32"
    )
    ref = library.put()
    assert (await library.write(ref)).reason == "object_lock"
    assert len(library.history(ref)) == 1


async def test_locks_that_may_not_be_asked_for_are_not_guessed(versioned_library: Library) -> None:
    library = versioned_library
    ref = library.put()
    library.server.faults.once("GetObjectLockConfiguration", Fault(403, "AccessDenied"))
    assert (await library.write(ref)).reason == "object_lock_unreadable"
    assert library.copies() == 0


async def test_a_deleted_image_does_not_come_back(versioned_library: Library) -> None:
    ref = versioned_library.put()
    versioned_library.client.delete_object(Bucket=versioned_library.bucket, Key=key_of(ref))
    with pytest.raises(SinkRejectedError) as caught:
        await versioned_library.write(ref)
    assert caught.value.code == "missing"
    assert versioned_library.copies() == 0


# --- a server's bad moments -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(409, "ConditionalRequestConflict"), "conflict"),
        (Fault(503, "SlowDown"), "slow_down"),
        (Fault(500, "InternalError"), "unavailable"),
        (Fault(hangs_up=True), "unavailable"),
    ],
)
@pytest.mark.parametrize("operation", ["HeadObject", "GetBucketOwnershipControls", "CopyObject"])
async def test_a_bad_moment_asks_for_another_try(
    library: Library, operation: str, fault: Fault, code: str
) -> None:
    ref = library.put()
    library.server.faults.once(operation, fault)
    with pytest.raises(SinkConflictError) as caught:
        await library.write(ref)
    assert caught.value.code == code
    assert (await library.write(ref)).status is WriteStatus.WRITTEN


async def test_an_error_inside_a_200_is_no_success(library: Library) -> None:
    ref = library.put()
    library.server.faults.once("CopyObject", Fault(200, "InternalError"))
    with pytest.raises(SinkConflictError):
        await library.write(ref)
    assert library.labels(ref) is None


@pytest.mark.parametrize("etag", ["1" * 32, "1" * 32 + "-2"])
async def test_a_copy_whose_answer_was_lost_is_found_done(library: Library, etag: str) -> None:
    ref = library.edit(library.put(), etag=etag) if "-" in etag else library.put()
    library.server.faults.once("CopyObject", Fault(hangs_up=True, applied=True))
    with pytest.raises(SinkConflictError):
        await library.write(ref)
    assert (await library.write(ref)).status is WriteStatus.UNCHANGED
    assert library.copies() == 1


async def test_a_copy_that_is_denied_is_the_images_failure(library: Library) -> None:
    ref = library.put()
    library.server.faults.once("CopyObject", Fault(403, "AccessDenied"))
    with pytest.raises(SinkRejectedError) as caught:
        await library.write(ref)
    assert (caught.value.code, caught.value.http_status) == ("forbidden", 403)


async def test_expired_credentials_are_the_accounts_failure(library: Library) -> None:
    ref = library.put()
    for operation in ("HeadObject", "GetObject"):  # the HEAD's 400 has no text, so its reason is asked for
        library.server.faults.once(operation, Fault(400, "ExpiredToken"))
    with pytest.raises(CredentialsError):
        await library.write(ref)


async def test_many_images_are_written_at_once(library: Library) -> None:
    refs = [library.put() for _ in range(40)]
    writes = await asyncio.gather(*(library.write(ref) for ref in refs))
    assert {write.status for write in writes} == {WriteStatus.WRITTEN}
    assert library.copies() == 40
