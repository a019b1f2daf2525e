from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from xml.sax.saxutils import escape

import pytest
from botocore.utils import parse_timestamp
from servers.s3 import S3UnderTest, canned_s3

from tagmill.producer.sources.base import Filters, Listed
from tagmill.producer.sources.s3_client import listing_client, quick_timestamp
from tagmill.producer.sources.s3_listing import S3Listing
from tagmill.worker.errors import ConfigError, NotFoundError, RunError
from tagmill.worker.models import S3Object


def put(s3: S3UnderTest, *keys: str, body: bytes = b"image") -> str:
    bucket, client = s3.bucket(), s3.client()
    for key in keys:
        client.put_object(Bucket=bucket, Key=key, Body=body)
    return bucket


def listing(
    s3: S3UnderTest, bucket: str, prefix: str = "", filters: Filters | None = None, **cursor: str
) -> list[Listed]:
    client = s3.client(attempts=1)
    return list(S3Listing(lambda: client, bucket, prefix, filters or Filters(), page_size=2).list(cursor))


def keys(items: list[Listed]) -> list[str]:
    return [item.ref.source.key for item in items if item.ref]  # type: ignore[union-attr]  # a bucket lists objects only


def skipped(items: list[Listed]) -> dict[str, str | None]:
    return {item.cursor["after"]: item.skipped for item in items if not item.ref}


def test_an_object_is_listed_with_its_facts(s3: S3UnderTest) -> None:
    bucket = put(s3, "a b/ü+%41.jpg", body=b"12345")
    head = s3.client().head_object(Bucket=bucket, Key="a b/ü+%41.jpg")
    [item] = listing(s3, bucket)
    assert item.ref
    assert item.ref.source == S3Object(
        bucket,
        "a b/ü+%41.jpg",
        etag=head["ETag"].strip('"'),
        size=5,
        last_modified=head["LastModified"].strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def test_a_prefix_is_a_prefix_and_globs_see_what_follows_it(s3: S3UnderTest) -> None:
    bucket = put(s3, "in/a.jpg", "in/deep/b.jpg", "in/deep/c.png", "in2/d.jpg", "other/e.jpg")
    assert keys(listing(s3, bucket, "in")) == ["in/a.jpg", "in/deep/b.jpg", "in/deep/c.png", "in2/d.jpg"]
    for prefix in ("in", "in/"):
        assert keys(listing(s3, bucket, prefix, Filters(include=("/*.jpg",))))[0] == "in/a.jpg"
        assert keys(listing(s3, bucket, prefix, Filters(include=("deep/*",), exclude=("*.png",)))) == [
            "in/deep/b.jpg"
        ]


def test_folders_empty_objects_sidecars_and_archives_are_passed_over(s3: S3UnderTest) -> None:
    bucket = put(s3, "a.jpg", "a.jpg.tags.json", "b/.tagmill-probe-0123456789abcdef")
    client = s3.client()
    client.put_object(Bucket=bucket, Key="folder/", Body=b"")
    client.put_object(Bucket=bucket, Key="folder/empty", Body=b"")
    client.put_object(Bucket=bucket, Key="frozen.jpg", Body=b"image", StorageClass="DEEP_ARCHIVE")
    client.put_object(Bucket=bucket, Key="cool.jpg", Body=b"image", StorageClass="STANDARD_IA")
    items = listing(s3, bucket)
    assert keys(items) == ["a.jpg", "cool.jpg"]
    assert skipped(items) == {
        "a.jpg.tags.json": "sidecar",
        "b/.tagmill-probe-0123456789abcdef": "probe",
        "folder/": "folder",
        "folder/empty": "empty",
        "frozen.jpg": "archived",
    }


def test_sizes_times_and_extensions_filter(s3: S3UnderTest) -> None:
    bucket = put(s3, "a.jpg", "b.txt", body=b"x" * 50)
    assert keys(listing(s3, bucket)) == ["a.jpg", "b.txt"]
    assert keys(listing(s3, bucket, "", Filters(extensions=("jpg",)))) == ["a.jpg"]
    assert keys(listing(s3, bucket, "", Filters(min_size=50, max_size=50))) == ["a.jpg", "b.txt"]
    assert skipped(listing(s3, bucket, "", Filters(min_size=51))) == {"a.jpg": "size", "b.txt": "size"}
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert skipped(listing(s3, bucket, "", Filters(since=tomorrow))) == {"a.jpg": "older", "b.txt": "older"}
    assert len(keys(listing(s3, bucket, "", Filters(since="2001-01-01T00:00:00Z")))) == 2


def test_an_empty_bucket_has_no_items(s3: S3UnderTest) -> None:
    assert listing(s3, s3.bucket()) == []


def test_a_missing_bucket_is_not_found(s3: S3UnderTest) -> None:
    with pytest.raises(NotFoundError, match="no bucket 'nowhere-to-be-found'"):
        listing(s3, "nowhere-to-be-found")


# --- what moto cannot answer ------------------------------------------------------------------------------


def page(*names: str, more: bool = False, **fields: str) -> str:
    """A page of a listing; `fields` are further elements of its objects."""
    facts = {"LastModified": "2026-01-02T03:04:05.000Z", "ETag": '"e"', "Size": "5"} | fields
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in facts.items())
    contents = "".join(f"<Contents><Key>{escape(name)}</Key>{inner}</Contents>" for name in names)
    token = "<NextContinuationToken>next</NextContinuationToken>" if more else ""
    truncated = f"<IsTruncated>{str(more).lower()}</IsTruncated>"
    return f"<ListBucketResult>{truncated}{token}{contents}</ListBucketResult>"


def test_keys_that_xml_cannot_hold_arrive_encoded_and_survive() -> None:
    """Asked to, as botocore does, S3 encodes a space as `+` and the rest by percent signs."""
    names = ["a+%2B%2541.jpg", "b%0Aline%01.jpg", "c%C3%BC.jpg", "d%F0%9F%98%80.jpg"]
    body = page(*names).replace("<Is", "<EncodingType>url</EncodingType><Is")
    with canned_s3(lambda _: (200, body)) as s3:
        assert keys(listing(s3, "bucket")) == ["a +%41.jpg", "b\nline\x01.jpg", "cü.jpg", "d😀.jpg"]


def test_a_listing_continues_after_a_key_and_pages_by_token() -> None:
    queries: list[dict[str, str]] = []

    def answer(query: dict[str, str]) -> tuple[int, str]:
        queries.append(query)
        return 200, page("in/d") if "continuation-token" in query else page("in/c", more=True)

    with canned_s3(answer) as s3:
        assert keys(listing(s3, "bucket", "in/", after="in/b")) == ["in/c", "in/d"]
    assert queries[0]["start-after"] == "in/b"
    assert queries[1]["continuation-token"] == "next"
    assert {query["prefix"] for query in queries} == {"in/"}


def test_a_beginning_sends_no_start_after() -> None:
    queries: list[dict[str, str]] = []

    def answer(query: dict[str, str]) -> tuple[int, str]:
        queries.append(query)
        return 200, page()

    with canned_s3(answer) as s3:
        assert listing(s3, "bucket") == []
    assert "start-after" not in queries[0]


def test_a_listing_out_of_order_is_refused_because_no_cursor_would_hold() -> None:
    with canned_s3(lambda _: (200, page("b", "a"))) as s3, pytest.raises(ConfigError, match="byte order"):
        listing(s3, "bucket")


def test_facts_an_endpoint_leaves_out_are_unknown() -> None:
    body = page("a.jpg", LastModified="2026-01-02T03:04:05.678Z").replace("<ETag>&quot;e&quot;</ETag>", "")
    with canned_s3(lambda _: (200, body.replace('<ETag>"e"</ETag>', ""))) as s3:
        [item] = listing(s3, "bucket")
    assert item.ref
    assert item.ref.source == S3Object("bucket", "a.jpg", size=5, last_modified="2026-01-02T03:04:05.678Z")


def refusal(code: str) -> str:
    return f"<Error><Code>{code}</Code><Message>user arn:aws:iam::123:user/secret</Message></Error>"


@pytest.mark.parametrize(
    ("status", "code", "kind", "advice"),
    [
        (404, "NoSuchBucket", NotFoundError, "check its name"),
        (403, "AccessDenied", ConfigError, "grant s3:ListBucket"),
        (403, "InvalidAccessKeyId", ConfigError, "AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", ConfigError, "AWS_ACCESS_KEY_ID"),
        (400, "ExpiredToken", ConfigError, "AWS_ACCESS_KEY_ID"),
        (403, "RequestTimeTooSkewed", ConfigError, "clock"),
        (400, "AuthorizationHeaderMalformed", ConfigError, "AWS_REGION"),
        (400, "SomethingNew", ConfigError, "S3 answered SomethingNew"),
        (503, "SlowDown", RunError, "try again later"),
        (500, "InternalError", RunError, "try again later"),
    ],
)
def test_a_refusal_is_one_line_that_says_what_to_do(
    status: int, code: str, kind: type[Exception], advice: str
) -> None:
    with canned_s3(lambda _: (status, refusal(code))) as s3, pytest.raises(kind, match=advice) as caught:
        listing(s3, "bucket")
    assert code in str(caught.value) or kind is NotFoundError
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_failure_in_the_middle_stops_the_run_rather_than_its_configuration() -> None:
    def answer(query: dict[str, str]) -> tuple[int, str]:
        return (
            (403, refusal("ExpiredToken")) if "continuation-token" in query else (200, page("a", more=True))
        )

    with canned_s3(answer) as s3:
        client = s3.client(attempts=1)
        items = S3Listing(lambda: client, "bucket", "", Filters()).list({})
        assert next(items).cursor == {"after": "a"}
        with pytest.raises(RunError, match="ExpiredToken") as caught:
            next(items)
    assert caught.value.code == "source"


def test_an_unreachable_endpoint_is_named_without_the_rest_of_its_url() -> None:
    with canned_s3(lambda _: (200, page())) as gone:
        pass
    with pytest.raises(ConfigError, match=r"cannot reach S3 at 127\.0\.0\.1:\d+ ") as caught:
        listing(gone, "bucket", "secret-prefix")
    assert "secret-prefix" not in str(caught.value)


@pytest.mark.parametrize(
    "body", ["", "<html><body>console</body></html>", page("a").replace("false", "true")]
)
def test_what_is_no_page_of_a_listing_is_no_empty_library(body: str) -> None:
    with canned_s3(lambda _: (200, body)) as s3, pytest.raises(ConfigError, match="is not S3"):
        listing(s3, "bucket")


def test_a_listing_that_breaks_off_is_no_whole_library() -> None:
    def answer(query: dict[str, str]) -> tuple[int, str]:
        return 200, "" if "continuation-token" in query else page("a", more=True)

    with canned_s3(answer) as s3, pytest.raises(RunError, match="is not S3"):
        listing(s3, "bucket")


@pytest.mark.parametrize("body", ["<!doctype html><p>bad gateway<br>", "<html></html>", "{}", ""])
@pytest.mark.parametrize(
    ("status", "kind"), [(302, ConfigError), (403, ConfigError), (404, NotFoundError), (502, RunError)]
)
def test_what_a_proxy_answers_is_a_typed_error(status: int, kind: type[Exception], body: str) -> None:
    with canned_s3(lambda _: (status, body)) as s3, pytest.raises(kind, match=f"endpoint|{status}"):
        listing(s3, "bucket")


# --- the client -------------------------------------------------------------------------------------------


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch, s3: S3UnderTest) -> pytest.MonkeyPatch:
    """Everything by which credentials are found leads nowhere."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    return monkeypatch


def test_missing_credentials_are_a_configuration_error(
    s3: S3UnderTest, bare_environment: pytest.MonkeyPatch
) -> None:
    source = S3Listing(lambda: listing_client(s3.url), "bucket", "", Filters())
    with pytest.raises(ConfigError, match="AWS_ACCESS_KEY_ID"):
        next(source.list({}))
    bare_environment.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ConfigError, match=r"profile .nobody. could not be found"):
        next(source.list({}))


def test_an_endpoint_that_is_no_url_is_a_configuration_error(bare_environment: pytest.MonkeyPatch) -> None:
    del bare_environment
    with pytest.raises(ConfigError, match="Invalid endpoint"):
        listing_client("localhost:9000")


def test_the_listing_client_finds_its_credentials_and_answers_as_any_other(
    s3: S3UnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    bucket = put(s3, "a.jpg", "b.jpg")
    client = listing_client(s3.url)
    assert list(S3Listing(lambda: client, bucket, "", Filters()).list({})) == listing(s3, bucket)


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-02T03:04:05.000Z",
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05.678901Z",
        "2026-01-02T03:04:05+02:00",
        "20260102T030405Z",
        "Fri, 02 Jan 2026 03:04:05 GMT",
        1_767_323_045,
        "1767323045",
    ],
)
def test_quick_timestamps_are_those_of_botocore(value: Any) -> None:
    assert quick_timestamp(value) == parse_timestamp(value)
    assert quick_timestamp(value).utcoffset() in {
        timedelta(0),
        timedelta(hours=2),
        UTC.utcoffset(None),
    }
