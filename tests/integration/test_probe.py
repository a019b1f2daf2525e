"""What a server does, found out on a scratch object: strict S3, moto, and servers that misbehave."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from servers.s3 import S3UnderTest
from servers.strict_s3 import StrictS3UnderTest, running_strict_s3
from servers.strict_s3_http import Fault

from tagmill.producer.probe import probe
from tagmill.worker.capabilities import SCRATCH_NAME, Capabilities
from tagmill.worker.errors import ConfigError, NotFoundError

ALL = ("metadata", "tags", "annotation")


@pytest.fixture
def strict() -> Iterator[StrictS3UnderTest]:
    with running_strict_s3() as server:
        yield server


def test_on_s3_all_that_sinks_rely_on_holds(strict: StrictS3UnderTest) -> None:
    bucket = strict.new_bucket()
    found = probe(strict.client(), bucket, "photos/", ("metadata", "tags"))
    assert found == Capabilities(bucket, copy_conditions=True, copies_tags=True, merges_tags=True)


def test_moto_ignores_conditions_on_a_copy_and_would_destroy_images(s3_server: S3UnderTest) -> None:
    bucket = s3_server.bucket()
    found = probe(s3_server.client(), bucket, "", ALL)
    assert found == Capabilities(
        bucket, copy_conditions=False, copies_tags=True, merges_tags=True, annotations=False
    )
    assert "Contents" not in s3_server.client().list_objects_v2(Bucket=bucket)


def test_only_what_the_sinks_need_is_tried(strict: StrictS3UnderTest) -> None:
    bucket = strict.new_bucket()
    assert probe(strict.client(), bucket, "", ("tags",)) == Capabilities(bucket, merges_tags=True)
    assert "CopyObject" not in strict.store.requests


def test_the_scratch_object_is_below_the_prefix_and_gone_afterwards(strict: StrictS3UnderTest) -> None:
    bucket = strict.new_bucket()
    probe(strict.client(), bucket, "photos/2024-", ("metadata",))
    (key,) = {event.key for event in strict.events}
    assert key.startswith("photos/2024-.tagmill-probe-")
    assert SCRATCH_NAME.search(key)
    assert strict.store.buckets[bucket].objects == {}


@pytest.mark.parametrize("operation", ["CopyObject", "PutObjectTagging", "GetObjectTagging"])
def test_it_is_gone_also_when_the_probe_fails(strict: StrictS3UnderTest, operation: str) -> None:
    bucket = strict.new_bucket()
    for _ in range(3):
        strict.faults.once(operation, Fault(403, "AccessDenied"))
    with pytest.raises(ConfigError, match=f"{operation} answered AccessDenied; allow it"):
        probe(strict.client(), bucket, "", ("metadata", "tags"))
    assert strict.store.buckets[bucket].objects == {}


def test_no_version_of_it_is_left(s3_server: S3UnderTest) -> None:
    bucket, client = s3_server.bucket(), s3_server.client()
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    probe(client, bucket, "", ALL)
    left: Any = client.list_object_versions(Bucket=bucket)
    assert not {"Versions", "DeleteMarkers"} & set(left)


def test_a_scratch_object_that_cannot_be_removed_is_named(
    strict: StrictS3UnderTest, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket = strict.new_bucket()
    strict.faults.once("DeleteObject", Fault(403, "AccessDenied"))
    assert probe(strict.client(), bucket, "", ("tags",)).merges_tags
    (key,) = strict.store.buckets[bucket].objects
    assert key in capsys.readouterr().out


def test_a_bucket_that_may_not_be_written_to_is_refused_with_the_mend(strict: StrictS3UnderTest) -> None:
    bucket = strict.new_bucket()
    strict.faults.once("PutObject", Fault(403, "AccessDenied"))
    with pytest.raises(ConfigError) as caught:
        probe(strict.client(), bucket, "", ("metadata",))
    line = str(caught.value)
    assert line.startswith(f"the probe of s3://{bucket}/.tagmill-probe-")
    assert line.endswith(
        "PutObject answered AccessDenied; allow it (docs/write-back.md, Permissions), "
        "choose another --write-back, or say --probe off"
    )


def test_a_server_that_refuses_conditions_is_refused(strict: StrictS3UnderTest) -> None:
    bucket = strict.new_bucket()
    strict.faults.before("CopyObject", lambda: None)  # the first copy is without conditions
    strict.faults.once("CopyObject", Fault(501, "NotImplemented"))
    with pytest.raises(ConfigError, match="CopyObject answered NotImplemented"):
        probe(strict.client(), bucket, "", ("metadata",))


def test_who_may_not_tag_may_still_write_metadata(strict: StrictS3UnderTest) -> None:
    bucket = strict.new_bucket()
    strict.faults.once("PutObjectTagging", Fault(403, "AccessDenied"))
    found = probe(strict.client(), bucket, "", ("metadata",))
    assert (found.copies_tags, found.copy_conditions) == (None, True)


def test_a_missing_bucket_is_said_to_be_missing(strict: StrictS3UnderTest) -> None:
    with pytest.raises(NotFoundError, match="no bucket 'nowhere' at this endpoint"):
        probe(strict.client(), "nowhere", "", ("metadata",))


def test_where_new_objects_are_locked_none_is_made(s3_server: S3UnderTest) -> None:
    client, bucket = s3_server.client(), f"{s3_server.bucket()}-locked"
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    retention: Any = {"Mode": "COMPLIANCE", "Days": 1}
    client.put_object_lock_configuration(
        Bucket=bucket,
        ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": retention}},
    )
    assert probe(client, bucket, "", ("metadata",)) == Capabilities(bucket)
    assert "Versions" not in client.list_object_versions(Bucket=bucket)
