"""Where an export goes: whole or not at all, whatever happens on the way."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers.s3 import S3UnderTest

from tagmill.producer.export import targets
from tagmill.producer.export.targets import Target, open_target
from tagmill.worker.errors import ConfigError, NotFoundError, RunStoreUnavailableError

BLOCKS = [b"one\n", b"", b"two\n" * 5, b"three"]
WHOLE = b"".join(BLOCKS)
SMALLEST_PART = 5 << 20  # of a multipart upload, but for the last (S3 user guide, "multipart upload limits")


def failing(error: BaseException, *blocks: bytes) -> Iterator[bytes]:
    yield from blocks
    raise error


def no_s3() -> None:
    raise AssertionError("not asked for")


def a_file(path: str | Path) -> Target:
    return open_target(str(path), no_s3)  # type: ignore[arg-type]  # never called


# --- files ------------------------------------------------------------------------------------------------


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("old")
    a_file(path).write(block for block in BLOCKS if path.read_text() == "old")
    assert path.read_bytes() == WHOLE
    assert os.listdir(tmp_path) == ["a.jsonl"]


@pytest.mark.parametrize("error", [RunStoreUnavailableError("gone"), KeyboardInterrupt()])
def test_what_fails_on_the_way_leaves_the_folder_as_it_was(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "a.jsonl").write_text("old")
    for name in ("a.jsonl", "b.jsonl"):
        with pytest.raises(type(error)):
            a_file(tmp_path / name).write(failing(error, b"x" * 100_000))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.jsonl": "old"}


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    a_file(tmp_path / "link").write(BLOCKS)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == WHOLE


@pytest.mark.parametrize("path", [".", os.devnull])
def test_only_a_file_is_replaced(path: str) -> None:
    with pytest.raises(ConfigError, match="this is no file"):
        a_file(path)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--output .*gone/a.csv: No such file or directory"):
        a_file(tmp_path / "gone/a.csv").write(BLOCKS)


# --- S3 ---------------------------------------------------------------------------------------------------


@pytest.fixture
def bucket(s3_server: S3UnderTest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(targets, "PART_BYTES", SMALLEST_PART)
    return s3_server.bucket()


@pytest.fixture
def an_object(s3_server: S3UnderTest, bucket: str) -> Callable[[], Target]:
    return lambda: open_target(f"s3://{bucket}/out/a.jsonl", s3_server.client)


def content(s3: S3UnderTest, bucket: str) -> bytes:
    return s3.client().get_object(Bucket=bucket, Key="out/a.jsonl")["Body"].read()


@pytest.mark.parametrize(
    "size", [0, 1, SMALLEST_PART - 1, SMALLEST_PART, SMALLEST_PART + 1, 2 * SMALLEST_PART + 7]
)
def test_an_object_holds_every_byte(
    s3_server: S3UnderTest, bucket: str, an_object: Callable[[], Target], size: int
) -> None:
    data = os.urandom(size)
    an_object().write(data[start : start + 1_000_003] for start in range(0, size, 1_000_003))
    assert content(s3_server, bucket) == data


@pytest.mark.parametrize("error", [RunStoreUnavailableError("gone"), KeyboardInterrupt()])
@pytest.mark.parametrize("parts", [0, 2])
def test_what_fails_on_the_way_leaves_the_object_as_it_was_and_no_parts(
    s3_server: S3UnderTest,
    bucket: str,
    an_object: Callable[[], Target],
    error: BaseException,
    parts: int,
) -> None:
    client = s3_server.client()
    client.put_object(Bucket=bucket, Key="out/a.jsonl", Body=b"old")
    with pytest.raises(type(error)):
        an_object().write(failing(error, bytes(parts * SMALLEST_PART + 1)))
    assert content(s3_server, bucket) == b"old"
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)


def test_a_bucket_that_is_not_there_is_not_found(s3_server: S3UnderTest) -> None:
    with pytest.raises(NotFoundError, match="no bucket 'no-such-bucket' at this endpoint"):
        open_target("s3://no-such-bucket/a", s3_server.client).write(BLOCKS)


@pytest.mark.parametrize("output", ["s3://", "s3://bucket", "s3://bucket/", "s3://bucket/folder/"])
def test_an_object_must_be_named(s3_server: S3UnderTest, output: str) -> None:
    with pytest.raises(ConfigError, match="name an object, as in s3://bucket/key"):
        open_target(output, s3_server.client)
