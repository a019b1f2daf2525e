from __future__ import annotations

from typing import Any

import botocore.session
import pytest

from tagmill.worker.models import S3Object
from tagmill.worker.sinks.s3_bucket import GRANT_ARGUMENTS
from tagmill.worker.sinks.s3_object import CHECKSUM_FIELDS, MAX_COPY_BYTES, SAME_NAME, StoredObject

MD5, OTHER_MD5, MULTIPART = "a" * 32, "b" * 32, "c" * 32 + "-2"
HEAD: dict[str, Any] = {"ETag": f'"{MD5}"', "ContentLength": 8, "Metadata": {}}


def planned(**fields: Any) -> S3Object:
    return S3Object("bucket", "key", **fields)


def stored(**fields: Any) -> StoredObject:
    return StoredObject({**HEAD, **fields})


def fields_of(shape: str) -> set[str]:
    found: Any = botocore.session.get_session().get_service_model("s3").shape_for(shape)
    return set(found.members)


def note(etag: str, size: int = 8) -> dict[str, str]:
    return {"tagmill-source-etag": etag, "tagmill-source-size": str(size)}


def test_the_planned_etag_is_the_planned_content() -> None:
    assert stored().holds(planned(etag=MD5, version_id="an older upload of the same bytes"))


def test_another_etag_is_other_content() -> None:
    assert not stored().holds(planned(etag=OTHER_MD5))


def test_without_an_etag_the_version_decides() -> None:
    assert stored(VersionId="v1").holds(planned(version_id="v1"))
    assert not stored(VersionId="v2").holds(planned(version_id="v1"))
    assert not stored().holds(planned())


def test_our_copy_of_a_multipart_object_is_still_the_planned_content() -> None:
    assert stored(Metadata=note(MULTIPART)).holds(planned(etag=MULTIPART, size=8))


def test_our_copy_of_a_kms_object_is_still_the_planned_content() -> None:
    head = stored(Metadata=note(OTHER_MD5), ServerSideEncryption="aws:kms")
    assert head.holds(planned(etag=OTHER_MD5, size=8))


def test_a_note_that_travelled_with_new_content_does_not_count() -> None:
    assert not stored(Metadata=note(OTHER_MD5)).holds(planned(etag=OTHER_MD5))
    assert not stored(Metadata=note(MULTIPART, size=9)).holds(planned(etag=MULTIPART))


def test_a_note_is_of_this_content_as_far_as_etag_and_size_can_tell() -> None:
    kms = {"ServerSideEncryption": "aws:kms"}
    assert stored(Metadata=note(MD5)).has_same_note(MD5)
    assert not stored(Metadata=note(OTHER_MD5)).has_same_note(MD5)
    assert stored(Metadata=note(OTHER_MD5), **kms).has_same_note(MD5)
    assert not stored(Metadata=note(OTHER_MD5, size=9), **kms).has_same_note(MD5)
    assert not stored(Metadata={}, **kms).has_same_note(MD5)


def test_our_keys_are_ours_in_any_case_and_only_the_known_ones() -> None:
    head = stored(Metadata={"Tagmill-Run": "r", "tagmill-other": "x", "Owner": "me"})
    assert head.own == {"tagmill-run": "r"}
    assert head.foreign == {"tagmill-other": "x", "Owner": "me"}


@pytest.mark.parametrize(
    ("reason", "fields"),
    [
        ("sse_c", {"SSECustomerAlgorithm": "AES256"}),
        ("storage_class", {"StorageClass": "GLACIER"}),
        ("storage_class", {"StorageClass": "DEEP_ARCHIVE"}),
        ("storage_class", {"StorageClass": "A_CLASS_OF_TOMORROW"}),
        ("archived", {"StorageClass": "INTELLIGENT_TIERING", "ArchiveStatus": "ARCHIVE_ACCESS"}),
        ("object_lock", {"ObjectLockMode": "GOVERNANCE"}),
        ("object_lock", {"ObjectLockLegalHoldStatus": "ON"}),
        ("object_lock", {"ObjectLockEventHold": "ON"}),
        ("too_large", {"ContentLength": MAX_COPY_BYTES + 1}),
        ("replica", {"ReplicationStatus": "REPLICA"}),
        ("missing_meta", {"MissingMeta": 1}),
        ("encryption", {"ServerSideEncryption": "aws:fsx"}),
        ("encryption", {"ServerSideEncryption": "aws:kms"}),
        ("not_ascii", {"Metadata": {"owner": "Jörg"}}),
        ("not_ascii", {"ContentDisposition": "inline; filename=\u00fc.jpg"}),
    ],
)
def test_what_could_be_lost_is_left_alone(reason: str, fields: dict[str, Any]) -> None:
    assert stored(**fields).obstacle == reason


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"ContentLength": MAX_COPY_BYTES},
        {"StorageClass": "GLACIER_IR"},
        {"ReplicationStatus": "COMPLETED"},
        {"ObjectLockLegalHoldStatus": "OFF"},
        {"ServerSideEncryption": "aws:kms:dsse", "SSEKMSKeyId": "arn"},
    ],
)
def test_what_can_be_kept_is_no_obstacle(fields: dict[str, Any]) -> None:
    assert stored(**fields).obstacle is None


def test_a_full_checksum_is_named_again() -> None:
    head = stored(ChecksumSHA256="abc=", ChecksumType="FULL_OBJECT")
    assert head.resend() == {"ChecksumAlgorithm": "SHA256"}


@pytest.mark.parametrize("fields", [{"ChecksumType": "COMPOSITE"}, {}])
def test_a_checksum_of_parts_is_left_to_the_copy(fields: dict[str, str]) -> None:
    assert stored(ChecksumSHA256="abc=-2", **fields).resend() == {}


@pytest.mark.parametrize("enabled", [True, False])
def test_a_bucket_key_is_named_either_way(*, enabled: bool) -> None:
    head = stored(
        ServerSideEncryption="aws:kms", SSEKMSKeyId="arn", **({"BucketKeyEnabled": True} if enabled else {})
    )
    assert head.resend() == {
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": "arn",
        "BucketKeyEnabled": enabled,
    }


#: Fields of a HEAD that say something about the answer or follow from the rest: a copy has its own.
OF_THE_ANSWER = {
    *("AcceptRanges", "ContentRange", "DeleteMarker", "PartsCount", "RequestCharged"),
    *("ETag", "LastModified", "VersionId", "ContentLength"),
    *("ChecksumType", "TagCount", "Expiration", "Restore"),  # tags are copied; lifecycle says the others
}
ANSWERED_BY_OBSTACLES = {
    *("ArchiveStatus", "MissingMeta", "ReplicationStatus", "SSECustomerAlgorithm", "SSECustomerKeyMD5"),
    *("ObjectLockMode", "ObjectLockRetainUntilDate", "ObjectLockLegalHoldStatus"),
    *("ObjectLockEventHold", "ObjectLockEventHoldDurationDays", "ObjectLockEventHoldDurationYears"),
}


def test_every_field_that_a_head_can_have_is_sent_again_or_answered_otherwise() -> None:
    """A field that a newer botocore brings has to be thought about."""
    known = fields_of("HeadObjectOutput")
    kept = {*SAME_NAME, "Metadata", "BucketKeyEnabled", *CHECKSUM_FIELDS} - {"ExpiresString"} | {"Expires"}
    assert kept | OF_THE_ANSWER | ANSWERED_BY_OBSTACLES == known


#: What is not sent: other ways to say the same, conditions that do not fit, other people's keys.
NOT_SENT = {
    *("ACL", "AnnotationDirective", "Tagging", "IfNoneMatch", "RequestPayer", "SSEKMSEncryptionContext"),
    *("CopySourceIfModifiedSince", "CopySourceIfNoneMatch", "CopySourceIfUnmodifiedSince"),
    *("CopySourceSSECustomerAlgorithm", "CopySourceSSECustomerKey", "CopySourceSSECustomerKeyMD5"),
    *("SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5"),
    *("ExpectedBucketOwner", "ExpectedSourceBucketOwner"),
    *("ObjectLockMode", "ObjectLockRetainUntilDate", "ObjectLockLegalHoldStatus"),
    *("ObjectLockEventHold", "ObjectLockEventHoldDurationDays", "ObjectLockEventHoldDurationYears"),
}


def test_every_field_that_a_copy_can_have_is_sent_or_left_out_on_purpose() -> None:
    known = fields_of("CopyObjectRequest")
    sent = {*SAME_NAME, *GRANT_ARGUMENTS.values(), "BucketKeyEnabled", "ChecksumAlgorithm", "Metadata"}
    sent |= {"MetadataDirective", "TaggingDirective", "Bucket", "Key", "CopySource", "CopySourceIfMatch"}
    sent |= {"IfMatch", "Expires"}
    assert (sent - {"ExpiresString"}) | NOT_SENT == known


def test_dsse_knows_no_bucket_key() -> None:
    assert "BucketKeyEnabled" not in stored(ServerSideEncryption="aws:kms:dsse").resend()
