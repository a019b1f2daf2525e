from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tagmill.producer.sources.base import Filters
from tagmill.producer.sources.folder import IMAGE_EXTENSIONS
from tagmill.producer.sources.handles import ListFormat
from tagmill.producer.sources.options import SourceOptions
from tagmill.producer.sources.spec import Input, Kind, SourceSpec, parse_source
from tagmill.worker.errors import ConfigError, NotFoundError

HANDLE = "handle-0000000000001"


def refused(text: str, **options: Any) -> str:
    """What a user reads, in one line."""
    with pytest.raises(ConfigError) as caught:
        parse_source(text, SourceOptions(**options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what is understood -----------------------------------------------------------------------------------


def test_a_bucket_and_prefix_are_taken_as_they_are() -> None:
    spec = parse_source("s3://photos/2026/a%20b +é/")
    assert (spec.kind, spec.bucket, spec.prefix) == (Kind.S3, "photos", "2026/a%20b +é/")
    assert spec.filters == Filters()
    assert parse_source("s3://photos").prefix == ""


def test_a_folder_becomes_absolute_and_looks_for_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my photos").mkdir()
    monkeypatch.chdir(tmp_path)
    spec = parse_source("./my photos/")
    assert spec.kind is Kind.FOLDER
    assert spec.uri == f"file://{tmp_path}/my%20photos"
    assert spec.path == os.fsencode(tmp_path / "my photos")
    assert spec.filters == Filters(extensions=IMAGE_EXTENSIONS)
    assert parse_source(spec.uri) == spec


def test_a_folder_may_have_a_name_of_any_bytes(tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), b"\xff\xfe")
    os.mkdir(path)
    spec = parse_source(os.fsdecode(path))
    assert spec.path == path
    assert SourceSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_an_image_is_a_folder_source_of_one(tmp_path: Path) -> None:
    (tmp_path / "a.JPG").write_bytes(b"image")
    assert parse_source(str(tmp_path / "a.JPG")).kind is Kind.FOLDER


@pytest.mark.parametrize(
    ("name", "content", "options", "copy"),
    [
        ("handles.txt", HANDLE, {}, Input("handles.txt", ListFormat.TXT)),
        ("my list.CSV", f"handle\n{HANDLE}", {}, Input("my_list.CSV", ListFormat.CSV)),
        ("h.csv", f"file\n{HANDLE}", {"field": "file"}, Input("h.csv", ListFormat.CSV, "file")),
        ("h.ndjson", "", {"field": "id"}, Input("h.ndjson", ListFormat.JSONL, "id")),
        ("export", f"handle\n{HANDLE}", {"list_format": "csv"}, Input("export", ListFormat.CSV)),
        ("list.jpg", HANDLE, {"list_format": "txt"}, Input("list.jpg", ListFormat.TXT)),
        (".txt", HANDLE, {}, Input("txt", ListFormat.TXT)),
    ],
)
def test_a_list_is_known_by_its_extension_or_the_format_said(
    tmp_path: Path, name: str, content: str, options: dict[str, Any], copy: Input
) -> None:
    (tmp_path / name).write_text(content)
    spec = parse_source(str(tmp_path / name), SourceOptions(**options))
    assert spec.kind is Kind.HANDLES
    assert spec.input == copy
    assert spec.path == os.fsencode(tmp_path / name)


def test_a_list_on_stdin_is_text_unless_it_is_said_otherwise() -> None:
    assert parse_source("-").input == Input("stdin", ListFormat.TXT)
    options = SourceOptions(list_format="jsonl", field="id")
    assert parse_source("-", options).input == Input("stdin", ListFormat.JSONL, "id")


def test_filters_are_frozen_in_plain_units() -> None:
    options = SourceOptions(
        include=("*.jpg",),
        exclude=("thumbs/",),
        min_size="10KB",
        max_size="5MB",
        since="2026-11-01",
        extensions=(".JPG",),
    )
    assert parse_source("s3://b", options).filters == Filters(
        include=("*.jpg",),
        exclude=("thumbs/",),
        min_size=10_000,
        max_size=5_000_000,
        since="2026-11-01T00:00:00Z",
        extensions=("jpg",),
    )


def test_any_extension_can_be_asked_for(tmp_path: Path) -> None:
    assert parse_source(str(tmp_path), SourceOptions(extensions=("*",))).filters.extensions == ()


def test_a_sample_without_a_seed_is_given_one_to_be_recorded() -> None:
    options = SourceOptions(sample=10, limit=5)
    spec = parse_source("s3://b", options, new_seed=lambda: 42)
    assert (spec.sample, spec.seed, spec.limit) == (10, 42, 5)
    assert parse_source("s3://b", SourceOptions(sample=10, seed=7)).seed == 7
    assert parse_source("s3://b", SourceOptions(sample=10)).seed is not None
    assert parse_source("s3://b").seed is None


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (
            "s3://b/p",
            SourceOptions(include=("*.jpg",), min_size="1KB", since="2026-11-01", limit=3, sample=2, seed=0),
        ),
        ("-", SourceOptions(list_format="csv", field="h")),
        (".", SourceOptions()),
    ],
)
def test_a_spec_survives_json(text: str, options: SourceOptions) -> None:
    spec = parse_source(text, options)
    assert SourceSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


# --- what is not ------------------------------------------------------------------------------------------


def test_a_missing_path_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "broken").symlink_to("nowhere")
    for name in ("nowhere", "nowhere.csv", "broken", "file/below"):
        with pytest.raises(NotFoundError, match="no folder or file"):
            parse_source(str(tmp_path / name))
    with pytest.raises(NotFoundError):
        parse_source("file:///%00")


def test_a_file_that_is_neither_image_nor_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.pdf").write_bytes(b"x")
    assert "neither an image nor a list" in refused(str(tmp_path / "notes.pdf"))
    os.mkfifo(tmp_path / "pipe.txt")
    assert "neither a folder nor a file" in refused(str(tmp_path / "pipe.txt"))


@pytest.mark.parametrize("uri", ["s3://", "s3:///prefix", "s3://my bucket/", "s3://a:b/"])
def test_a_bucket_without_a_proper_name_is_refused(uri: str) -> None:
    assert "no bucket name" in refused(uri)


def test_other_urls_are_refused_without_repeating_them() -> None:
    text = refused("https://cdn.filestackcontent.com/x?signature=PLANTED")
    assert text.startswith("https:// is no source")
    assert "PLANTED" not in text
    assert "gs://" in refused("gs://bucket")
    assert "empty" in refused("")


def test_a_csv_without_the_column_names_those_it_has(tmp_path: Path) -> None:
    (tmp_path / "h.csv").write_text("id,file\n")
    assert "its columns are 'id', 'file'" in refused(str(tmp_path / "h.csv"))
    assert "no column 'x'" in refused(str(tmp_path / "h.csv"), field="x")


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"min_size": "big"}, "write a size"),
        ({"since": "yesterday"}, "write a date"),
        ({"include": ("[z-a]",)}, "no glob"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"sample": -1}, "sample must be at least 1"),
        ({"seed": 1}, "a seed is for a sample"),
        ({"sample": 1, "seed": 1 << 32}, "seed must be from 0"),
        ({"sample": 1, "seed": -1}, "seed must be from 0"),
        ({"list_format": "csv"}, "for lists of handles only"),
        ({"field": "x"}, "for lists of handles only"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], advice: str) -> None:
    assert advice in refused("s3://bucket", **options)


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"include": ("*.jpg",)}, "filters are for S3 and folders"),
        ({"since": "2026-11-01"}, "filters are for S3 and folders"),
        ({"list_format": "xml"}, "use txt, csv, jsonl, manifest"),
        ({"field": "x"}, "format is csv or jsonl"),
    ],
)
def test_options_that_a_list_cannot_follow_are_refused(options: dict[str, Any], advice: str) -> None:
    assert advice in refused("-", **options)


# --- all versions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["s3://photos/in/", "inventory+s3://reports/photos/manifest.json"])
def test_versions_are_those_of_a_bucket(source: str) -> None:
    spec = parse_source(source, SourceOptions(all_versions=True))
    assert spec.all_versions
    assert SourceSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_what_keeps_no_versions_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "handles.txt").write_text(HANDLE)
    for source in (str(tmp_path), str(tmp_path / "handles.txt"), "-"):
        assert "--all-versions is for s3://bucket/prefix and reports of S3 Inventory" in refused(
            source, all_versions=True
        )
