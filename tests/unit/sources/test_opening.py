from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pytest
from servers.s3 import S3UnderTest

from tagmill.producer.sources.opening import open_original, open_source
from tagmill.producer.sources.options import SourceOptions
from tagmill.producer.sources.spec import Kind, SourceSpec, parse_source
from tagmill.worker.errors import ConfigError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

HANDLE = "handle-0000000000001"


def no_client() -> S3Client:
    raise AssertionError("this source is not in S3")


def ids(spec: SourceSpec, s3: S3UnderTest | None = None, files: dict[str, bytes] | None = None) -> list[str]:
    def open_input(name: str) -> BinaryIO:
        assert files, "this source is no list"
        return io.BytesIO(files[name])

    source = open_source(spec, s3_client=s3.client if s3 else no_client, open_input=open_input)
    return [item.ref.id for item in source.list({}) if item.ref]


def test_a_folder_is_opened_without_s3(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"image")
    (tmp_path / "a.txt").write_bytes(b"text")
    assert ids(parse_source(str(tmp_path))) == [f"file://{tmp_path}/a.jpg"]


def test_a_bucket_is_opened_with_the_client_given(s3: S3UnderTest) -> None:
    bucket = s3.bucket()
    s3.client().put_object(Bucket=bucket, Key="in/a.jpg", Body=b"image")
    assert ids(parse_source(f"s3://{bucket}/in/"), s3) == [f"s3://{bucket}/in/a.jpg"]


def test_a_list_is_read_from_its_copy_even_after_the_original_is_gone(tmp_path: Path) -> None:
    original = tmp_path / "handles.csv"
    original.write_text(f"id,h\n1,{HANDLE}\n")
    spec = parse_source(str(original), SourceOptions(field="h"))
    stream = open_original(spec, io.BytesIO(), no_client)
    assert stream
    with stream:
        copied = stream.read()
    original.unlink()
    assert ids(spec, files={"handles.csv": copied}) == [f"filestack:{HANDLE}"]


def test_only_a_list_has_an_original_to_copy() -> None:
    stdin = io.BytesIO(HANDLE.encode())
    assert open_original(parse_source("-"), stdin, no_client) is stdin
    assert open_original(parse_source("s3://bucket"), stdin, no_client) is None


def test_a_list_without_its_copy_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="without its copy"):
        ids(SourceSpec(Kind.HANDLES, "-"))


def a_manifest(folder: Path, source: dict[str, object], image_id: str) -> Path:
    path = folder / "failures.jsonl"
    row = {"schema": 1, "id": image_id, "source": source, "status": "failed", "flags": [], "error": None}
    path.write_text(json.dumps(row) + "\n")
    return path


@pytest.mark.parametrize(
    ("source", "image_id", "kind"),
    [
        ({"bucket": "b", "key": "k", "etag": "e"}, "s3://b/k", Kind.S3),
        ({"path": "a.jpg", "size": 1, "mtime_ns": 2}, "file:///photos/a.jpg", Kind.FOLDER),
        ({"handle": HANDLE, "line": 1}, f"filestack:{HANDLE}", Kind.HANDLES),
    ],
)
def test_an_earlier_manifest_names_its_images_again(
    tmp_path: Path, source: dict[str, object], image_id: str, kind: Kind
) -> None:
    path = a_manifest(tmp_path, source, image_id)
    spec = parse_source(str(path))
    assert (spec.kind, spec.input and spec.input.format) == (kind, "manifest")
    assert ids(spec, files={"failures.jsonl": path.read_bytes()}) == [image_id]


def test_what_is_said_to_be_a_manifest_must_be_one(tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_text('{"handle": "x"}\n')
    with pytest.raises(ConfigError, match="no manifest"):
        parse_source(str(tmp_path / "list.jsonl"), SourceOptions(list_format="manifest"))
    with pytest.raises(ConfigError, match="name its file"):
        parse_source("-", SourceOptions(list_format="manifest"))
