"""What a job tells of itself, however oddly."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagmill.worker.engines.workflow_results import answer_of
from tagmill.worker.errors import BadResponseError, ItemError, WorkflowFailedError
from tagmill.worker.models import Answer, Json, Pending

SKY = {"tags": {"auto": {"sky": 97}, "user": None}}
SEA = {"tags": {"auto": {"sea": 88}, "user": None}}


def finished(**results: Any) -> Json:
    return {"jobid": "job-1", "sources": ["handle"], "status": "Finished", "results": results}


def answer(told: Json, task_name: str | None = None) -> Answer:
    found = answer_of(told, task_name)
    assert isinstance(found, Answer)
    return found


def test_tags_are_found_by_shape_whatever_the_task_is_called() -> None:
    found = answer(finished(safe={"data": {"sfw": True}}, mine={"data": SKY}))
    assert (found.tags, found.flags, found.calls) == (SKY["tags"], (), 0)
    assert found.results == {"safe": {"data": {"sfw": True}}, "mine": {"data": SKY}}


def test_several_tag_tasks_stay_apart_and_the_first_one_gives_the_tags() -> None:
    found = answer(finished(b={"data": SEA}, a={"data": SKY}))
    assert (found.tags, found.flags) == (SEA["tags"], ("several_tag_tasks",))
    assert found.results == {"b": {"data": SEA}, "a": {"data": SKY}}


def test_a_named_task_gives_the_tags_and_nothing_is_said_of_others() -> None:
    assert answer(finished(b={"data": SEA}, a={"data": SKY}), "a").tags == SKY["tags"]
    assert answer(finished(b={"data": SEA}, a={"data": SKY}), "a").flags == ()


@pytest.mark.parametrize(
    "failed", [{"error": "no"}, {}, None, "x", {"data": None}, {"data": []}, {"url": "u"}]
)
def test_a_failed_task_leaves_the_others(failed: Any) -> None:
    found = answer(finished(safe=failed, tags_1={"data": SKY}))
    assert (found.tags, found.flags) == (SKY["tags"], ("partial",))
    assert found.results.keys() == {"tags_1"}


def test_no_tags_are_an_answer() -> None:
    assert answer(finished(tags_1={"data": {"tags": {"auto": None}}})).flags == ("no_tags",)


@pytest.mark.parametrize(
    ("results", "task_name"),
    [
        ({}, None),
        ({"safe": {"data": {"sfw": True}}}, None),
        ({"tags_1": {"data": {"tags": {"user": None}}}}, None),
        ({"tags_1": {"data": {"tags": {"auto": ["sky"]}}}}, None),
        ({"tags_1": {"data": SKY}}, "another"),
        ({"tags_1": {"error": "the image is corrupted"}}, "tags_1"),
    ],
)
def test_a_workflow_without_tags_has_failed(results: Json, task_name: str | None) -> None:
    with pytest.raises(WorkflowFailedError, match="of the workflow has tags"):
        answer_of(finished(**results), task_name)


@pytest.mark.parametrize("word", ["Failed", "failed", "ERROR", "errored", "Aborted", "cancelled", "timeout"])
def test_a_failed_job_is_a_failure_in_any_spelling(word: str) -> None:
    with pytest.raises(WorkflowFailedError, match=word.lower()):
        answer_of({**finished(tags_1={"data": SKY}), "status": word}, None)


def test_what_failed_tasks_said_is_told_without_secrets() -> None:
    said = {"error": "cannot read https://h.example/a?signature=abc"}
    with pytest.raises(WorkflowFailedError) as raised:
        answer_of({**finished(tags_1=said), "status": "Failed"}, None)
    assert "cannot read […]" in str(raised.value)
    assert "h.example" not in str(raised.value)


@pytest.mark.parametrize("status", [{"status": "InProgress"}, {"status": None}, {}])
def test_a_job_without_an_end_goes_on(status: Json) -> None:
    assert answer_of({"jobid": "job-1", "sources": ["handle"], **status}, None) == Pending("job-1")


def test_results_without_a_word_are_an_end_as_early_webhooks_had_it() -> None:
    told = finished(tags_1={"data": SKY})
    del told["status"], told["jobid"]
    assert answer(told).tags == SKY["tags"]


def test_results_of_several_sources_are_nobodys() -> None:
    with pytest.raises(BadResponseError):
        answer_of({**finished(tags_1={"data": SKY}), "sources": ["a", "b"]}, None)


def test_results_beyond_any_bound_are_left_out_and_the_tags_stay() -> None:
    found = answer(finished(tags_1={"data": SKY}, text={"data": {"text": "x" * 1_100_000}}))
    assert (found.tags, found.results) == (SKY["tags"], {})


odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("\ud800"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "tags", "auto", "user", "error", "\udcff"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(st.sampled_from(["jobid", "sources", "status", "results"]), odd),
    st.none() | st.just("data"),
    st.booleans(),
)
def test_whatever_is_told_is_an_answer_or_one_of_our_errors(
    told: Json, task_name: str | None, at_the_end: Any
) -> None:
    if at_the_end:
        told["status"] = "finished"
    try:
        found = answer_of(told, task_name)
    except ItemError:
        return
    if isinstance(found, Answer):
        assert Answer.from_json(json.loads(json.dumps(found.to_json()))) == found
