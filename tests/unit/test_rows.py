"""What a row says; that it fits the published schema, for every kind of image and outcome."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache, reduce
from importlib import resources

import jsonschema
import orjson
import pytest
from fakes.rows import CONTEXT, NOT_TAGGED, SOURCES, TAGGED
from hypothesis import given
from hypothesis import strategies as st

from tagmill.worker.models import (
    Answer,
    BadLine,
    Chunk,
    Failure,
    Handle,
    ImageRef,
    Json,
    LocalFile,
    Outcome,
    S3Object,
    Status,
    TagSets,
    Write,
    WriteStatus,
)
from tagmill.worker.policy import TagPolicy
from tagmill.worker.rows import ERROR_LENGTH, build_row, later_row, row_for, under_policy
from tagmill.worker.store.passes import PassKind
from tagmill.worker.store.plan import Planned

SKIPPED = Outcome(Status.SKIPPED, error=Failure("ImageRejectedError", "not_an_image", "no image"))


@cache
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(resources.files("tagmill.worker").joinpath("row.schema.json").read_text())
    return jsonschema.Draft202012Validator(schema)


@given(source=SOURCES, fresh=st.booleans(), outcome=TAGGED | NOT_TAGGED, index=st.integers(0, 9999))
def test_any_image_with_any_outcome_is_a_row_of_the_schema(
    source: S3Object | LocalFile | Handle | BadLine, outcome: Outcome, index: int, *, fresh: bool
) -> None:
    row = orjson.loads(orjson.dumps(build_row(CONTEXT, 7, index, ImageRef(source, fresh=fresh), outcome)))
    validator().validate(row)
    assert (row["id"], row["shard"], row["index"]) == (source.id, 7, index)
    assert row["status"] == outcome.status
    assert row["calls"] == outcome.calls


def test_an_answer_is_told_as_it_came_and_as_it_is_written() -> None:
    answer = Answer({"auto": {"sky": 97}, "user": None}, flags=("partial",))
    row = build_row(CONTEXT, 0, 0, ImageRef(Handle("h")), Outcome(Status.TAGGED, answer, tagged_at="2026Z"))
    assert row["tags"] == row["raw_tags"] == {"auto": {"sky": 97}, "user": None}
    assert row["flags"] == ["partial"]
    assert row["error"] is None


def row_of(policy: TagPolicy, tags: TagSets | None) -> Json:
    outcome = Outcome(Status.TAGGED, Answer(tags, flags=("partial",))) if tags else SKIPPED
    return build_row(replace(CONTEXT, policy=policy), 0, 0, ImageRef(Handle("h")), outcome)


def test_a_policy_makes_the_tags_and_leaves_the_answer() -> None:
    answered = {"auto": {"sky": 97, "blur": 41}, "user": "mine"}
    policy = TagPolicy(min_confidence=50, prefix="ai:")
    row = row_of(policy, answered)
    assert row["tags"] == {"auto": {"ai:sky": 97}, "user": "mine"}
    assert row["raw_tags"] == answered
    assert (row["policy"], row["flags"]) == (policy.hash, ["partial"])


def test_a_row_says_when_the_policy_left_none_of_the_labels() -> None:
    nothing = TagPolicy(deny=("*",))
    assert row_of(nothing, {"auto": {"sky": 97}, "user": None})["flags"] == ["partial", "filtered"]
    assert row_of(nothing, {"auto": {}, "user": None})["flags"] == ["partial"]
    assert row_of(nothing, None)["flags"] == []


@given(
    outcome=TAGGED | NOT_TAGGED,
    policies=st.lists(st.sampled_from([TagPolicy(), TagPolicy(deny=("*",)), TagPolicy(max_tags=1)])),
    last=st.sampled_from([TagPolicy(), TagPolicy(deny=("*",)), TagPolicy(prefix="x")]),
)
def test_a_row_under_a_policy_does_not_tell_which_it_had_before(
    outcome: Outcome, policies: list[TagPolicy], last: TagPolicy
) -> None:
    row = build_row(CONTEXT, 0, 0, ImageRef(Handle("h")), outcome)
    changed = reduce(under_policy, policies, row)
    fresh = build_row(replace(CONTEXT, policy=last), 0, 0, ImageRef(Handle("h")), outcome)
    assert list(under_policy(changed, last).items()) == list(fresh.items())
    validator().validate(orjson.loads(orjson.dumps(fresh)))


def test_a_long_message_is_cut() -> None:
    outcome = Outcome(Status.FAILED, error=Failure("ItemError", "item", "x" * 10_000))
    row = build_row(CONTEXT, 0, 0, ImageRef(Handle("h")), outcome)
    assert row["error"] == {"class": "ItemError", "code": "item", "message": "x" * ERROR_LENGTH}


def test_what_each_sink_did_is_told_by_its_name() -> None:
    writes = {"metadata": Write(WriteStatus.WRITTEN, etag_after="e"), "sidecar": Write(WriteStatus.FAILED)}
    outcome = Outcome(Status.TAGGED, Answer({"auto": {}}), writes=writes, tagged_at="2026Z")
    row = build_row(CONTEXT, 0, 0, ImageRef(S3Object("bucket", "key", "etag")), outcome)
    assert row["writes"] == {
        "metadata": {
            "status": "written",
            "etag_after": "e",
            "version_after": None,
            "reason": None,
            "truncated": 0,
        },
        "sidecar": {
            "status": "failed",
            "etag_after": None,
            "version_after": None,
            "reason": None,
            "truncated": 0,
        },
    }
    assert row["source"] == {
        "bucket": "bucket",
        "key": "key",
        "etag": "etag",
        "size": None,
        "last_modified": None,
        "version_id": None,
    }


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ("written", "unchanged", "written"),
        ("failed", "unchanged", "written"),  # it had been written after all
        ("failed", "written", "written"),
        ("written", "stale", "stale"),
        ("unchanged", "unchanged", "unchanged"),
    ],
)
def test_a_later_pass_knows_what_the_run_had_written(before: str, now: str, told: str) -> None:
    ref, answer = ImageRef(S3Object("bucket", "key", "etag")), Answer({"auto": {"sky": 97}, "user": None})

    def written(status: str) -> Outcome:
        return Outcome(Status.TAGGED, answer, writes={"metadata": Write(WriteStatus(status))})

    earlier = build_row(CONTEXT, 0, 0, ref, written(before))
    row = later_row(CONTEXT, earlier, ref, written(now))
    assert row["writes"]["metadata"]["status"] == told


def test_an_image_with_an_answer_keeps_it_when_its_failed_tasks_cannot_be_asked_for() -> None:
    ref, context = ImageRef(Handle("h")), replace(CONTEXT, pass_no=1, kind=PassKind.RETRY)
    answer = Answer({"auto": {"sky": 97}, "user": None}, ("partial",), results={"safe": {"error": {}}})
    earlier = build_row(CONTEXT, 0, 0, ref, Outcome(Status.TAGGED, answer, attempts=3, calls=3))
    gone = Outcome(Status.FAILED, error=Failure("ImageNotFoundError", "missing", "gone"), attempts=1, calls=1)
    row = row_for(context, Chunk("a-run", 1, 0, 0, 1), 0, Planned(ref, earlier), gone)
    assert row == {**earlier, "pass": 1, "attempts": 4, "calls": 4}
