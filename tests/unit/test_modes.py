"""Which state a run continues, and which modes are refused before anything is written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes.files import MemoryFiles
from fakes.libraries import Series
from fakes.runs import a_spec

from tagmill.producer.modes import against_state, check_mode, state_name
from tagmill.producer.preparation import RunOptions
from tagmill.producer.sources.base import Filters
from tagmill.producer.sources.handles import ListFormat
from tagmill.producer.sources.spec import Input, Kind, SourceSpec
from tagmill.worker.errors import ConfigError

BUCKET = SourceSpec(Kind.S3, "s3://bucket/photos/2026")
LIST = SourceSpec(Kind.HANDLES, "file:///lists/handles.txt", input=Input("handles.txt", ListFormat.TXT))
VERSIONS = replace(BUCKET, all_versions=True)
STDIN = SourceSpec(Kind.HANDLES, "-", input=Input("stdin", ListFormat.TXT))
MANIFEST = replace(LIST, input=Input("failures.jsonl", ListFormat.MANIFEST))


def test_the_first_run_takes_all_and_the_next_what_changed() -> None:
    series = Series(MemoryFiles())
    series.library.objects = {"a.jpg": "v1"}
    first = series.spec()
    assert (first.mode, first.state["base"]) == ("all", 0)
    series.run()
    second = series.spec()
    assert (second.mode, second.state) == ("changed", {"name": first.state["name"], "base": 1})
    assert series.spec(force=True).mode == "all"
    assert series.spec(RunOptions(mode="missing"), force=True).mode == "missing"


def test_the_age_counts_from_the_runs_creation() -> None:
    spec = replace(a_spec(), created_at="2026-11-22T02:00:00+00:00")
    aged = against_state(MemoryFiles(), spec, BUCKET, RunOptions(retag_older_than=90 * 86_400.0))
    assert aged.retag_before == "2026-08-24T02:00:00Z"


@pytest.mark.parametrize(
    ("source", "wanted", "said"),
    [
        (BUCKET, {"mode": "newest"}, "--mode: 'newest' is none: use all, changed, missing"),
        (BUCKET, {"mode": "missing", "retag_older_than": 1.0}, "not with --mode missing"),
        (BUCKET, {"retag_older_than": 1e12}, "nothing is that old"),
        (replace(BUCKET, limit=5), {"mode": "changed"}, "--limit and --sample take a part"),
        (replace(BUCKET, sample=5), {"retag_older_than": 1.0}, "--limit and --sample take a part"),
        (VERSIONS, {"mode": "changed"}, "--all-versions takes what is and what was"),
        (STDIN, {"mode": "missing"}, "write it to a file"),
        (MANIFEST, {"mode": "changed"}, "a manifest names the images of a run"),
    ],
)
def test_what_cannot_be_meant_is_refused(source: SourceSpec, wanted: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_mode(source, **{"mode": None, "retag_older_than": None, **wanted})
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "source", [replace(BUCKET, limit=5), replace(BUCKET, sample=5), VERSIONS, STDIN, MANIFEST]
)
def test_a_part_a_stream_and_a_manifest_keep_no_state(source: SourceSpec) -> None:
    check_mode(source, "all", None)
    assert against_state(MemoryFiles(), a_spec(), source, RunOptions()) == a_spec()


def test_a_name_tells_sources_selections_and_trials_apart() -> None:
    others = [
        LIST,
        replace(LIST, input=Input("handles.txt", ListFormat.CSV, "image")),
        replace(BUCKET, uri="s3://bucket/photos/2026/"),
        replace(BUCKET, filters=Filters(extensions=("jpg",))),
        replace(BUCKET, filters=Filters(since="2026-11-01T00:00:00Z")),
    ]
    names = [
        state_name(BUCKET, "sandbox"),
        *(state_name(source, "filestack") for source in [BUCKET, *others]),
    ]
    assert len(set(names)) == len(names)
    assert state_name(BUCKET, "filestack").startswith("s3-bucket-photos-2026-")
    assert state_name(BUCKET, "filestack") == state_name(BUCKET, "filestack-workflow")


def test_the_order_of_globs_is_no_other_selection() -> None:
    one, other = (replace(BUCKET, filters=Filters(include=globs)) for globs in [("a", "b"), ("b", "a")])
    assert state_name(one, "filestack") == state_name(other, "filestack")


@pytest.mark.parametrize("uri", ["s3://b/…/ü", "file:///" + "x" * 300, "s3://b/../../etc", "file:///%00%2F"])
def test_a_name_is_a_folder_whatever_the_source_is_called(uri: str) -> None:
    name = state_name(SourceSpec(Kind.FOLDER, uri), "filestack")
    assert len(name) <= 60
    assert name.replace("-", "").isalnum()
    assert name.isascii()
