"""Where an image is, or the bytes to upload; every reason why not has its class."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import boto3
import botocore.session
import pytest
from botocore.config import Config
from servers.s3 import S3UnderTest, canned_s3

from tagmill.worker import contents
from tagmill.worker.contents import MAX_BYTES, NOT_AN_IMAGE, UNAVAILABLE, Content
from tagmill.worker.engines.base import Locator, Transfer
from tagmill.worker.errors import (
    AccessDeniedError,
    ConfigError,
    CredentialsError,
    ImageNotFoundError,
    ImageRejectedError,
    ItemError,
    RetryableError,
    TaggingError,
)
from tagmill.worker.links import Links
from tagmill.worker.models import BadLine, Handle, ImageRef, LocalFile, S3Object
from tagmill.worker.transfer import Transfers

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

GIF = b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"
ODD_KEYS = ["a b+c%41&=?#é.gif", "../y/./z//", "src://alias/key", "'\"<>\\^`{|}~", "\U0001f600/\x01"]
HOUR = 3600.0
IMAGE = S3Object("photos", "2026/a.gif")
VERSIONS = [None, "v+1/="]
MODELS = botocore.session.get_session().get_component("data_loader")  #: most of what a client costs
REGIONAL = Config(signature_version="s3v4", s3={"addressing_style": "virtual"})


def client(url: str | None = None, token: str | None = None, config: Config | None = None) -> S3Client:
    config = Config(retries={"total_max_attempts": 1}).merge(config or Config())
    if url is not None:
        config = config.merge(Config(s3={"addressing_style": "path"}))
    theirs = botocore.session.get_session()
    theirs.register_component("data_loader", MODELS)
    session = boto3.session.Session("AKIAEXAMPLE", "secret", token, "eu-west-1", theirs)
    return session.client("s3", endpoint_url=url, config=config)


async def failure(transfers: Transfers, source: S3Object | LocalFile | BadLine) -> TaggingError:
    with pytest.raises(TaggingError) as raised:
        await transfers.locate(ImageRef(source))
    assert not isinstance(raised.value, ItemError) or raised.value.calls == 0
    return raised.value


# --- names ------------------------------------------------------------------------------------------------


async def test_a_handle_is_where_it_is() -> None:
    located = await Transfers().locate(ImageRef(Handle("AbCdEfGhIjKlMnOpQr01"), fresh=True))
    assert located == Locator(Transfer.HANDLE, "AbCdEfGhIjKlMnOpQr01", fresh=True)


@pytest.mark.parametrize("key", ODD_KEYS)
async def test_an_alias_names_an_object_without_asking_s3(key: str) -> None:
    located = await Transfers(storage_alias="lib").locate(ImageRef(S3Object("photos", key)))
    assert located == Locator(Transfer.ALIAS, f"src://lib/{key}")


@pytest.mark.parametrize("is_latest", [True, False])
async def test_a_version_has_a_link_of_its_own_because_an_alias_names_objects(*, is_latest: bool) -> None:
    version = S3Object("photos", "a.gif", version_id="v+1/=", is_latest=is_latest)
    located = await Transfers(s3=client(), storage_alias="lib").locate(ImageRef(version))
    assert isinstance(located, Locator)
    assert located.transfer is Transfer.URL
    assert parse_qs(urlsplit(located.value).query)["versionId"] == ["v+1/="]
    assert located.public.partition("?")[2] == "versionId=v%2B1%2F%3D"
    of_event = await Transfers(s3=client()).locate(ImageRef(replace(version, is_latest=None)))
    assert isinstance(of_event, Locator)
    assert "?" not in of_event.public


async def test_a_bad_line_is_rejected_for_its_reason() -> None:
    error = await failure(Transfers(), BadLine("list.txt", 3, "not a handle"))
    assert (type(error), str(error)) == (ImageRejectedError, "not a handle")


async def test_objects_need_a_client() -> None:
    assert type(await failure(Transfers(), IMAGE)) is ConfigError


# --- links ------------------------------------------------------------------------------------------------


def link(source: S3Object, now: float) -> str:
    return Links(client(), epoch=HOUR, window_seconds=6 * HOUR, clock=lambda: now).url(source)


def test_a_link_is_the_same_within_a_window_of_the_run() -> None:
    start, end = HOUR, 7 * HOUR - 1
    assert link(IMAGE, start) == link(IMAGE, end)
    assert link(IMAGE, start) != link(IMAGE, end + 1)


def test_a_link_is_good_for_at_least_a_window() -> None:
    query = parse_qs(urlsplit(link(IMAGE, 7 * HOUR - 1)).query)
    assert query["X-Amz-Date"] == ["19700101T010000Z"]
    assert query["X-Amz-Expires"] == [str(12 * 3600)]


def test_a_link_leads_to_the_region_of_the_bucket() -> None:
    """The global endpoint redirects to it for a bucket's first day, and not everyone follows."""
    assert urlsplit(link(IMAGE, 0)).hostname == "photos.s3.eu-west-1.amazonaws.com"


def test_a_link_never_outlives_what_s3_allows() -> None:
    assert Links(client(), window_seconds=6 * 86_400).life_seconds == 7 * 86_400


@pytest.mark.parametrize("url", [None, "http://127.0.0.1:9000", "https://minio.example"])
@pytest.mark.parametrize("token", [None, "session+token/=="])
def test_a_link_is_signed_as_botocore_signs_at_that_moment(
    url: str | None, token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: datetime(2030, 1, 1, tzinfo=UTC))
    links = Links(client(url, token), window_seconds=1, clock=lambda: 1_893_456_000.5)
    botocore_client = client(url, token, REGIONAL)
    for source in (S3Object("photos", key, version_id=version) for key in ODD_KEYS for version in VERSIONS):
        theirs = botocore_client.generate_presigned_url(
            "get_object", Params=contents.address(source), ExpiresIn=2
        )
        assert links.url(source) == theirs


def test_each_run_has_its_windows_and_other_links_of_the_client_are_made_as_ever() -> None:
    s3 = client(None, None, REGIONAL)
    one = Links(s3, epoch=0, clock=lambda: HOUR)
    other = Links(s3, epoch=HOUR, clock=lambda: HOUR)
    assert "X-Amz-Date=19700101T000000Z&" in one.url(IMAGE)
    assert "X-Amz-Date=19700101T010000Z&" in other.url(IMAGE)
    assert one.url(IMAGE).count("X-Amz-Signature") == 1
    params = contents.address(IMAGE)
    assert "X-Amz-Date=1970" not in s3.generate_presigned_url("get_object", Params=params)


@pytest.mark.parametrize("key", ODD_KEYS[:1])
async def test_a_link_opens_the_object_and_its_version(s3_server: S3UnderTest, key: str) -> None:
    owner, bucket = s3_server.client(), s3_server.bucket()
    owner.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = owner.put_object(Bucket=bucket, Key=key, Body=b"first")["VersionId"]
    owner.put_object(Bucket=bucket, Key=key, Body=b"second")
    transfers = Transfers(s3=owner)
    for version, body in ((None, b"second"), (first, b"first")):
        located = await transfers.locate(ImageRef(S3Object(bucket, key, version_id=version)))
        assert isinstance(located, Locator)
        assert located.transfer is Transfer.URL
        assert fetched(located.value) == body
        assert located.value not in repr(located)


def fetched(url: str) -> bytes:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
        body: bytes = answer.read()
        return body


async def test_other_requests_of_the_client_are_signed_as_ever(s3_server: S3UnderTest) -> None:
    owner, bucket = s3_server.client(), s3_server.bucket()
    Transfers(s3=owner)
    owner.put_object(Bucket=bucket, Key="a.gif", Body=GIF)
    assert owner.get_object(Bucket=bucket, Key="a.gif")["Body"].read() == GIF


async def test_without_credentials_there_is_no_link(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    nobody = boto3.session.Session(region_name="us-east-1").client("s3")
    assert type(await failure(Transfers(s3=nobody), IMAGE)) is CredentialsError


# --- bytes of objects -------------------------------------------------------------------------------------


async def test_the_bytes_of_an_object_are_uploaded_when_asked_for(s3_server: S3UnderTest) -> None:
    owner, bucket = s3_server.client(), s3_server.bucket()
    owner.put_object(Bucket=bucket, Key="deep/a.bin", Body=GIF)
    transfers = Transfers(s3=owner, storage_alias="lib", upload=True)
    located = await transfers.locate(ImageRef(S3Object(bucket, "deep/a.bin")))
    assert located == Content(GIF, "image/gif", "a.bin")


async def test_an_object_that_is_gone_is_missing(s3_server: S3UnderTest) -> None:
    transfers = Transfers(s3=s3_server.client(), upload=True)
    assert type(await failure(transfers, S3Object(s3_server.bucket(), "gone"))) is ImageNotFoundError


async def test_an_object_too_large_to_upload_is_not_read() -> None:
    error = await failure(Transfers(s3=client(), upload=True), S3Object("photos", "k", size=MAX_BYTES + 1))
    assert (type(error), error.code) == (ImageRejectedError, "too_large")


@pytest.mark.parametrize(
    ("status", "code", "error_class"),
    [
        (403, "AccessDenied", AccessDeniedError),
        (403, "InvalidAccessKeyId", CredentialsError),
        (403, "InvalidObjectState", AccessDeniedError),
        (404, "NoSuchBucket", ImageNotFoundError),
        (503, "SlowDown", RetryableError),
        (500, "InternalError", RetryableError),
        (400, "InvalidRequest", ImageRejectedError),
    ],
)
async def test_a_refusal_of_s3_has_its_class(status: int, code: str, error_class: type[Exception]) -> None:
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>"
    with canned_s3(lambda _: (status, body)) as server:
        transfers = Transfers(s3=server.client(attempts=1), upload=True)
        assert type(await failure(transfers, IMAGE)) is error_class


async def test_a_store_that_is_away_is_the_moments_failure() -> None:
    error = await failure(Transfers(s3=client("http://127.0.0.1:1"), upload=True), IMAGE)
    assert (type(error), error.code) == (RetryableError, UNAVAILABLE)


# --- files ------------------------------------------------------------------------------------------------


def local(path: Path) -> LocalFile:
    return LocalFile.at(str(path.parent), os.fsencode(path.name), 0, 0)


async def test_a_file_is_read_and_named_after_itself(tmp_path: Path) -> None:
    (tmp_path / "ä b.jpg").write_bytes(GIF)
    located = await Transfers().locate(ImageRef(local(tmp_path / "ä b.jpg")))
    assert located == Content(GIF, "image/gif", "ä b.jpg")
    assert "GIF89a" not in repr(located)


async def test_a_file_with_an_undecodable_name_is_read(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.gif")).write_bytes(GIF)
    located = await Transfers().locate(ImageRef(LocalFile.at(str(tmp_path), b"\xff.gif", 0, 0)))
    assert located == Content(GIF, "image/gif", "\ufffd.gif")


def text(path: Path) -> None:
    path.write_text("no image")


def empty(path: Path) -> None:
    path.touch()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def loop(path: Path) -> None:
    path.symlink_to(path)


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)


def nothing(_: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("make", "error_class", "code"),
    [
        (text, ImageRejectedError, NOT_AN_IMAGE),
        (empty, ImageRejectedError, NOT_AN_IMAGE),
        (pipe, ImageRejectedError, NOT_AN_IMAGE),
        (folder, ImageRejectedError, NOT_AN_IMAGE),
        (huge, ImageRejectedError, "too_large"),
        (nothing, ImageNotFoundError, "missing"),
        (loop, RetryableError, UNAVAILABLE),
    ],
)
async def test_what_cannot_be_uploaded_is_refused_in_one_line(
    tmp_path: Path, make: Callable[[Path], None], error_class: type[Exception], code: str
) -> None:
    make(tmp_path / "image.gif")
    error = await failure(Transfers(), local(tmp_path / "image.gif"))
    assert (type(error), error.code) == (error_class, code)
    assert "image.gif" in str(error)
    assert "\n" not in str(error)


async def test_a_file_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything, so the refusal is made up."""

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    error = await failure(Transfers(), local(tmp_path / "image.gif"))
    assert (type(error), error.code) == (ImageRejectedError, "unreadable")
