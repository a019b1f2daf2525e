"""All versions of a bucket's objects, as two servers list them and as S3 may."""

from __future__ import annotations

from collections import Counter

import pytest
from servers.s3 import S3UnderTest, canned_s3
from servers.strict_s3 import StrictS3UnderTest, running_strict_s3

from tagmill.producer.sources.base import Filters, Listed
from tagmill.producer.sources.s3_listing import S3Listing
from tagmill.producer.sources.s3_versions import S3Versions
from tagmill.worker.errors import ConfigError, NotFoundError, RunError
from tagmill.worker.models import S3Object

AWKWARD = ["a b+%41.jpg", "line\nbreak\r\n.jpg", "\x01\x1f.jpg", "写真😀.png", "//x/../y.jpg"]


def listing(s3: S3UnderTest | StrictS3UnderTest, bucket: str, **cursor: str) -> list[Listed]:
    client = s3.client()
    return list(S3Versions(lambda: client, bucket, "", Filters(), page_size=2).list(cursor))


def objects(items: list[Listed]) -> list[S3Object]:
    return [item.ref.source for item in items if item.ref]  # type: ignore[misc]  # a bucket lists objects only


def test_a_version_is_listed_with_its_facts_and_whether_it_is_the_latest(s3: S3UnderTest) -> None:
    bucket, client = s3.bucket(), s3.client()
    client.put_object(Bucket=bucket, Key="a.jpg", Body=b"before")
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    newer = client.put_object(Bucket=bucket, Key="a.jpg", Body=b"newer")
    found = objects(listing(s3, bucket))
    assert [(one.size, one.version_id, one.is_latest) for one in found] == [
        (5, newer["VersionId"], True),
        (6, "null", False),
    ]
    assert found[0].etag == newer["ETag"].strip('"')
    assert len({item.ref.id for item in listing(s3, bucket) if item.ref}) == 1
    assert len({item.ref.identity for item in listing(s3, bucket) if item.ref}) == 2


def test_a_bucket_without_versions_gives_what_a_listing_gives(s3: S3UnderTest) -> None:
    bucket, client = s3.bucket(), s3.client()
    for key in ("a", "b/", "c"):
        client.put_object(Bucket=bucket, Key=key, Body=b"image")
    plain = list(S3Listing(lambda: client, bucket, "", Filters()).list({}))
    items = listing(s3, bucket)
    assert [(item.ref and item.ref.id, item.skipped) for item in items] == [
        (item.ref and item.ref.id, item.skipped) for item in plain
    ]
    assert {(one.version_id, one.is_latest) for one in objects(items)} == {("null", True)}


def test_a_listing_goes_on_behind_a_version_of_any_key_whatever_came_since() -> None:
    """A copy of ours, too, is a newer version of a key whose older ones are still to be listed."""
    with running_strict_s3() as s3:
        bucket, client = s3.new_bucket(versioned=True), s3.client()
        for key in (*AWKWARD, *AWKWARD):
            client.put_object(Bucket=bucket, Key=key, Body=b"image")
        client.delete_object(Bucket=bucket, Key=AWKWARD[0])
        before = [item.cursor for item in listing(s3, bucket)]
        assert sorted(Counter(cursor["after"] for cursor in before).values()) == [2, 2, 2, 2, 3]
        for key in AWKWARD:
            client.put_object(Bucket=bucket, Key=key, Body=b"image")
        new = {item.cursor["version"] for item in listing(s3, bucket)} - {one["version"] for one in before}
        for place, cursor in enumerate(before):
            behind = [item.cursor for item in listing(s3, bucket, **cursor)]
            assert [one for one in behind if one["version"] not in new] == before[place + 1 :]
            assert not [one for one in behind if one["version"] in new and one["after"] == cursor["after"]]


# --- what neither server does -----------------------------------------------------------------------------


def entry(key: str, version: str, *, latest: bool = False, name: str = "Version") -> str:
    return (
        f"<{name}><Key>{key}</Key><VersionId>{version}</VersionId><IsLatest>{str(latest).lower()}</IsLatest>"
        f"<LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>e</ETag><Size>5</Size></{name}>"
    )


def page(*entries: str, more: bool = False) -> str:
    truncated = f"<IsTruncated>{str(more).lower()}</IsTruncated>"
    return f"<ListVersionsResult>{truncated}{''.join(entries)}</ListVersionsResult>"


MARKER = entry("a", "m", latest=True, name="DeleteMarker")


@pytest.mark.parametrize(
    "entries",
    [
        [entry("a", "v1"), MARKER],
        [entry("b", "v1", latest=True), entry("a", "m", name="DeleteMarker")],
        [entry("b", "v1", latest=True), entry("a", "v1", latest=True)],
    ],
    ids=["the oldest first", "delete markers apart", "keys in no order"],
)
def test_a_listing_out_of_order_is_refused_because_no_cursor_would_hold(entries: list[str]) -> None:
    with canned_s3(lambda _: (200, page(*entries))) as s3, pytest.raises(ConfigError, match="newest first"):
        listing(s3, "bucket")


def test_a_server_that_goes_on_with_its_marker_lists_nothing_twice() -> None:
    def answer(query: dict[str, str]) -> tuple[int, str]:
        if query.get("version-id-marker") == "v2":
            return 200, page(entry("a", "v2"), entry("a", "v1"))
        return 200, page(entry("a", "v3", latest=True), entry("a", "v2"), more=True)

    with canned_s3(answer) as s3:
        assert [one.version_id for one in objects(listing(s3, "bucket"))] == ["v3", "v2", "v1"]


def test_a_version_that_became_the_latest_since_is_gone_on_with() -> None:
    """The one that was planned was deleted for good."""
    with canned_s3(lambda _: (200, page(entry("a", "v2", latest=True), entry("a", "v1")))) as s3:
        found = objects(listing(s3, "bucket", after="a", version="v3"))
    assert [(one.version_id, one.is_latest) for one in found] == [("v2", True), ("v1", False)]


def test_a_place_that_a_server_has_lost_is_not_taken_for_the_end(s3: S3UnderTest) -> None:
    """Moto lists nothing behind a version that is there no more."""
    bucket, client = s3.bucket(), s3.client()
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for key in ("a", "a", "b"):
        client.put_object(Bucket=bucket, Key=key, Body=b"image")
    first, _, last = (item.cursor for item in listing(s3, bucket))
    assert listing(s3, bucket, **last) == []
    client.delete_object(Bucket=bucket, Key="a", VersionId=first["version"])
    with pytest.raises(RunError, match="cannot be gone on with: the version of 'a'"):
        listing(s3, bucket, **first)


@pytest.mark.parametrize("body", [page(more=True), "<html/>"], ids=["no end", "no S3"])
def test_what_is_no_page_of_versions_is_refused(body: str) -> None:
    with canned_s3(lambda _: (200, body)) as s3, pytest.raises(ConfigError, match="is not S3"):
        listing(s3, "bucket")


def test_a_page_that_does_not_go_on_is_refused() -> None:
    with (
        canned_s3(lambda _: (200, page(MARKER, more=True))) as s3,
        pytest.raises(Exception, match="is not S3"),
    ):
        listing(s3, "bucket")


def test_a_missing_permission_is_named() -> None:
    denied = "<Error><Code>AccessDenied</Code><Message>arn:aws:iam::123:user/secret</Message></Error>"
    with canned_s3(lambda _: (403, denied)) as s3, pytest.raises(ConfigError) as refused:
        listing(s3, "bucket")
    assert str(refused.value) == (
        "not allowed to list the versions of bucket 'bucket' (AccessDenied): "
        "grant s3:ListBucketVersions on it"
    )


def test_a_missing_bucket_is_not_found(s3: S3UnderTest) -> None:
    with pytest.raises(NotFoundError, match="no bucket 'nowhere-to-be-found'"):
        listing(s3, "nowhere-to-be-found")
