"""The strict server is as strict as it says: tests that rest on it are worth nothing otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from servers.strict_s3 import StrictS3UnderTest, running_strict_s3
from servers.strict_s3_http import Fault

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NOTE = "notes"
LIFECYCLE: Any = {
    "Rules": [
        {
            "ID": "old",
            "Status": "Enabled",
            "Filter": {"Tag": {"Key": "tagmill-run", "Value": "x"}},
            "Expiration": {"Days": 1},
        }
    ]
}


@pytest.fixture(scope="module")
def server() -> Iterator[StrictS3UnderTest]:
    with running_strict_s3() as server:
        yield server


@pytest.fixture(scope="module")
def client(server: StrictS3UnderTest) -> S3Client:
    return server.client()


@pytest.fixture
def image(server: StrictS3UnderTest, client: S3Client) -> dict[str, Any]:
    return put(client, server.new_bucket())


def put(client: S3Client, bucket: str) -> dict[str, Any]:
    at: dict[str, Any] = {"Bucket": bucket, "Key": "a b.jpg"}
    client.put_object(**at, Body=b"image")
    return at


def refused(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return caught.value.response["Error"]["Code"]


def tag_set(*tags: tuple[str, str]) -> Any:
    return {"TagSet": [{"Key": key, "Value": value} for key, value in tags]}


# --- tags -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ([(f"key {number}", "") for number in range(11)], "BadRequest"),
        ([("same", "1"), ("same", "2")], "InvalidTag"),
        ([("aws:ours", "1")], "InvalidTag"),
        ([("k" * 129, "1")], "InvalidTag"),
        ([("key", "v" * 257)], "InvalidTag"),
        ([("key", "a,b")], "InvalidTag"),
        ([("key", "(a)")], "InvalidTag"),
        ([("key", "a%20b")], "InvalidTag"),
    ],
)
def test_a_tag_set_that_breaks_a_rule_is_refused(
    client: S3Client, image: dict[str, Any], tags: list[tuple[str, str]], code: str
) -> None:
    assert refused(client.put_object_tagging, **image, Tagging=tag_set(*tags)) == code
    assert client.get_object_tagging(**image)["TagSet"] == []


def test_a_tag_set_replaces_the_whole_one_before(client: S3Client, image: dict[str, Any]) -> None:
    client.put_object_tagging(**image, Tagging=tag_set(("one", "1"), ("two", "")))
    client.put_object_tagging(**image, Tagging=tag_set(("größe +-=._:/@", "v" * 256)))
    assert client.get_object_tagging(**image)["TagSet"] == [{"Key": "größe +-=._:/@", "Value": "v" * 256}]
    client.delete_object_tagging(**image)
    assert client.get_object_tagging(**image)["TagSet"] == []


def test_tags_belong_to_a_version(server: StrictS3UnderTest, client: S3Client) -> None:
    image = put(client, server.new_bucket(versioned=True))
    first = client.head_object(**image)["VersionId"]
    client.put_object(**image, Body=b"newer")
    client.put_object_tagging(**image, VersionId=first, Tagging=tag_set(("old", "yes")))
    assert client.get_object_tagging(**image)["TagSet"] == []
    assert client.get_object_tagging(**image, VersionId=first)["TagSet"] == [{"Key": "old", "Value": "yes"}]


# --- annotations ------------------------------------------------------------------------------------------


def test_an_annotation_is_put_read_listed_and_deleted(client: S3Client, image: dict[str, Any]) -> None:
    before = client.head_object(**image)
    put = client.put_object_annotation(
        **image, AnnotationName=NOTE, AnnotationPayload=b"{}", ObjectIfMatch=before["ETag"]
    )
    got = client.get_object_annotation(**image, AnnotationName=NOTE)
    assert (got["AnnotationPayload"].read(), got["ETag"]) == (b"{}", put["ETag"])
    listed = client.list_object_annotations(**image, AnnotationPrefix="no")["Annotations"]
    assert [(entry["AnnotationName"], entry["Size"]) for entry in listed] == [(NOTE, 2)]
    client.delete_object_annotation(**image, AnnotationName=NOTE)
    assert refused(client.get_object_annotation, **image, AnnotationName=NOTE) == "NoSuchAnnotation"
    after = client.head_object(**image)
    assert [after[name] for name in ("ETag", "LastModified")] == [
        before[name] for name in ("ETag", "LastModified")
    ]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"ObjectIfMatch": '"0"'}, "PreconditionFailed"),
        ({"AnnotationPayload": b""}, "InvalidRequest"),
        ({"AnnotationPayload": b"x" * (1024 * 1024 + 1)}, "InvalidRequest"),
        ({"AnnotationPayload": b"\xff"}, "UnsupportedMediaType"),
        ({"AnnotationName": "n" * 513}, "AnnotationNameTooLong"),
        ({"AnnotationName": "AWS-note"}, "InvalidAnnotationName"),
        ({"AnnotationName": "s3note"}, "InvalidAnnotationName"),
    ],
)
def test_an_annotation_that_breaks_a_rule_is_refused(
    client: S3Client, image: dict[str, Any], fields: dict[str, Any], code: str
) -> None:
    usual = {"AnnotationName": NOTE, "AnnotationPayload": b"{}"}
    assert refused(client.put_object_annotation, **image, **usual | fields) == code
    assert client.list_object_annotations(**image)["Annotations"] == []


def test_annotations_go_along_with_a_copy_unless_excluded(client: S3Client, image: dict[str, Any]) -> None:
    client.put_object_annotation(**image, AnnotationName=NOTE, AnnotationPayload=b"{}")
    copy: Any = {**image, "CopySource": image, "MetadataDirective": "REPLACE"}
    client.copy_object(**copy)
    assert len(client.list_object_annotations(**image)["Annotations"]) == 1
    client.copy_object(**copy, AnnotationDirective="EXCLUDE")
    assert client.list_object_annotations(**image)["Annotations"] == []


def test_a_server_without_annotations_overwrites_the_image(
    server: StrictS3UnderTest, client: S3Client
) -> None:
    image = put(client, server.new_bucket(knows_annotations=False))
    client.put_object_annotation(
        **image, AnnotationName=NOTE, AnnotationPayload=b"{}", ObjectIfMatch='"another"'
    )
    assert client.get_object(**image)["Body"].read() == b"{}"


# --- conditions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", ["CopySourceIfMatch", "IfMatch"])
def test_a_copy_is_conditional_where_the_server_cares(
    server: StrictS3UnderTest, client: S3Client, condition: str
) -> None:
    for cares in (True, False):
        image = put(client, server.new_bucket(honours_copy_conditions=cares))
        copy: Any = {**image, "CopySource": image, "MetadataDirective": "REPLACE", condition: '"another"'}
        if cares:
            assert refused(client.copy_object, **copy) == "PreconditionFailed"
        else:
            client.copy_object(**copy)


def test_a_delete_is_conditional(client: S3Client, image: dict[str, Any]) -> None:
    assert refused(client.delete_object, **image, IfMatch='"another"') == "PreconditionFailed"
    client.delete_object(**image, IfMatch=client.head_object(**image)["ETag"])
    assert refused(client.delete_object, **image, IfMatch='"another"') == "NoSuchKey"


def test_a_standing_fault_lasts_until_it_is_cleared(
    server: StrictS3UnderTest, client: S3Client, image: dict[str, Any]
) -> None:
    server.faults.always("HeadObject", lambda: Fault(503, "SlowDown"))
    assert [refused(client.head_object, **image) for _ in range(2)] == ["503", "503"]
    server.faults.clear()
    client.head_object(**image)


# --- versions, settings, events ---------------------------------------------------------------------------


def test_a_delete_leaves_a_marker_where_versions_are_kept(
    server: StrictS3UnderTest, client: S3Client
) -> None:
    image = put(client, server.new_bucket(versioned=True))
    marker = client.delete_object(**image)["VersionId"]
    assert refused(client.head_object, **image) == "404"
    assert client.list_objects_v2(Bucket=image["Bucket"]).get("Contents", []) == []
    listed = client.list_object_versions(Bucket=image["Bucket"])
    assert [row["VersionId"] for row in listed["DeleteMarkers"]] == [marker]
    for row in [*listed["DeleteMarkers"], *listed["Versions"]]:
        client.delete_object(**image, VersionId=row["VersionId"])
    assert server.store.buckets[image["Bucket"]].objects == {}


def test_suspended_versioning_replaces_the_version_null(server: StrictS3UnderTest, client: S3Client) -> None:
    image = put(client, server.new_bucket(versioned=True))
    client.put_bucket_versioning(Bucket=image["Bucket"], VersioningConfiguration={"Status": "Suspended"})
    versions = [client.put_object(**image, Body=b"newer").get("VersionId") for _ in range(2)]
    assert versions == ["null", "null"]
    assert len(client.list_object_versions(Bucket=image["Bucket"])["Versions"]) == 2
    assert client.get_bucket_versioning(Bucket=image["Bucket"])["Status"] == "Suspended"


def test_a_new_buckets_settings_are_not_set(server: StrictS3UnderTest, client: S3Client) -> None:
    bucket = server.new_bucket()
    assert "Status" not in client.get_bucket_versioning(Bucket=bucket)
    notification = client.get_bucket_notification_configuration(Bucket=bucket)
    assert notification.keys() == {"ResponseMetadata"}
    calls = {
        client.get_bucket_lifecycle_configuration: "NoSuchLifecycleConfiguration",
        client.get_bucket_replication: "ReplicationConfigurationNotFoundError",
        client.get_bucket_policy: "NoSuchBucketPolicy",
        client.get_object_lock_configuration: "ObjectLockConfigurationNotFoundError",
    }
    assert {call: refused(call, Bucket=bucket) for call in calls} == calls


def test_settings_are_read_as_they_were_put(server: StrictS3UnderTest, client: S3Client) -> None:
    bucket = server.new_bucket()
    notification: Any = {
        "QueueConfigurations": [
            {"Id": "q", "QueueArn": "arn:aws:sqs:::queue", "Events": ["s3:ObjectCreated:Copy"]}
        ],
        "EventBridgeConfiguration": {},
    }
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=LIFECYCLE)
    client.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=notification)
    assert client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == LIFECYCLE["Rules"]
    got: Any = client.get_bucket_notification_configuration(Bucket=bucket)
    assert {name: got[name] for name in notification} == notification


def test_every_change_is_an_event(server: StrictS3UnderTest, client: S3Client, image: dict[str, Any]) -> None:
    client.copy_object(**image, CopySource=image, MetadataDirective="REPLACE")  # type: ignore[arg-type] # image names an object
    client.put_object_tagging(**image, Tagging=tag_set(("a", "b")))
    client.put_object_annotation(**image, AnnotationName=NOTE, AnnotationPayload=b"{}")
    client.delete_object(**image)
    names = [event.name for event in server.events if event.bucket == image["Bucket"]]
    assert names == [
        "ObjectCreated:Put",
        "ObjectCreated:Copy",
        "ObjectTagging:Put",
        "ObjectAnnotation:Put",
        "ObjectRemoved:Delete",
    ]


def test_what_the_server_does_not_know_it_refuses(client: S3Client, image: dict[str, Any]) -> None:
    assert refused(client.get_object_torrent, **image) == "NotImplemented"
