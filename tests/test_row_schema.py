"""The published schema says what rows are: the documented example and every row Tagmill builds fit it."""

from __future__ import annotations

import copy
import json
from importlib import resources
from typing import Any

import jsonschema
import pytest

from tagmill.worker.models import (
    Answer,
    BadLine,
    Failure,
    Handle,
    ImageRef,
    LocalFile,
    Outcome,
    S3Object,
    Source,
    Status,
    Write,
    WriteStatus,
)
from tagmill.worker.policy import TagPolicy
from tagmill.worker.rows import RowContext, build_row

#: The example of the format's documentation; an ellipsis stands as a value of its kind.
EXAMPLE: dict[str, Any] = {
    "schema": 1, "run_id": "2026-11-22-abc", "pass": 0, "shard": 0, "index": 41, "id": "s3://bucket/key",
    "source": {
        "bucket": "bucket", "key": "key", "etag": "9b2cf5", "version_id": None, "size": 12345,
        "last_modified": "2026-11-01T00:00:00Z",
    },
    "status": "tagged", "duplicate_of": None, "flags": [],
    "tags": {"auto": {"sky": 97}, "user": None}, "raw_tags": {"auto": {"sky": 97, "blur": 41}, "user": None},
    "results": {}, "labels": [],
    "policy": "0123456789abcdef",
    "engine": "filestack", "engine_version": "2", "engine_config": "fedcba9876543210", "transfer": "alias",
    "attempts": 1, "calls": 1, "maybe_charged": 0, "cost": None, "latency_ms": 312,
    "http_status": 200, "error": None,
    "writes": {
        "metadata": {
            "status": "written", "etag_after": "1d2e3f", "version_after": None,
            "reason": None, "truncated": 0,
        },
    },
    "tagged_at": "2026-11-22T00:00:00Z",
}  # fmt: skip
CONTEXT = RowContext("a-run", 0, TagPolicy(), "filestack", "2", "f" * 16)
SOURCES: list[Source] = [
    S3Object("bucket", "a b/ü.jpg", "9b2cf5", 12, "2026-11-01T00:00:00Z", "v1"),
    S3Object("bucket", "key"),
    LocalFile.at("/photos", b"nature/\xff.jpg", 12, 1_700_000_000_000_000_000),
    Handle("AbCdEfGhIjKlMnOpQr01", line=3),
    Handle("AbCdEfGhIjKlMnOpQr01", behind=S3Object("bucket", "key", "9b2cf5", 12)),
    BadLine("handles.csv", 7, "no such column"),
]
TAGGED = Outcome(
    Status.TAGGED,
    Answer({"auto": {"sky": 97}, "user": None}, flags=("partial",), http_status=200, latency_ms=3),
    attempts=1,
    calls=1,
    http_status=200,
    latency_ms=3,
    writes={"sidecar": Write(WriteStatus.WRITTEN)},
    transfer="upload",
    tagged_at="2026-11-22T00:00:00Z",
)
FAILED = Outcome(
    Status.FAILED, error=Failure("ImageRejectedError", "rejected", "no image"), attempts=1, calls=1
)
SKIPPED = Outcome(Status.SKIPPED, error=Failure("ImageRejectedError", "not_an_image", "no image"))


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(resources.files("tagmill.worker").joinpath("row.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_documented_example_fits(validator: jsonschema.Draft202012Validator) -> None:
    validator.validate(EXAMPLE)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: type(source).__name__)
@pytest.mark.parametrize("outcome", [TAGGED, FAILED, SKIPPED], ids=lambda outcome: str(outcome.status))
def test_every_row_that_is_built_fits(
    validator: jsonschema.Draft202012Validator, source: Source, outcome: Outcome
) -> None:
    row = build_row(CONTEXT, 0, 0, ImageRef(source), outcome)
    validator.validate(json.loads(json.dumps(row)))


def test_a_row_has_exactly_the_documented_fields_in_their_order() -> None:
    assert list(build_row(CONTEXT, 0, 41, ImageRef(SOURCES[0]), TAGGED)) == list(EXAMPLE)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["schema"], 2),
        (["run_id"], "UPPER"),
        (["status"], "lost"),
        (["tags", "auto", "sky"], 101),
        (["tags"], None),
        (["tagged_at"], None),
        (["tagged_at"], "yesterday"),
        (["policy"], "xyz"),
        (["error"], {"class": "E", "code": "e"}),
        (["writes", "metadata", "status"], "maybe"),
        (["writes", "elsewhere"], {}),
        (["source", "secret"], "x"),
        (["unknown"], 1),
    ],
)
def test_a_row_out_of_shape_is_refused(
    validator: jsonschema.Draft202012Validator, path: list[str], value: object
) -> None:
    row = copy.deepcopy(EXAMPLE)
    inner = row
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    assert not validator.is_valid(row)
