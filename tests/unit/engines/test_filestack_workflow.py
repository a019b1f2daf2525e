"""The engine of Workflows over canned answers: what starts a job, what may, and what certainly does not."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tagmill.worker.engines.base import Locator, Transfer
from tagmill.worker.engines.filestack_service import FilestackOptions
from tagmill.worker.engines.filestack_workflow import FilestackWorkflowEngine
from tagmill.worker.engines.transport import TARGET
from tagmill.worker.errors import (
    AccessDeniedError,
    AnswerLostError,
    BadResponseError,
    CredentialsError,
    EngineUnavailableError,
    EngineUnreachableError,
    ImageNotFoundError,
    ImageRejectedError,
    ItemError,
    TaggingError,
    ThrottledError,
    WorkflowFailedError,
)
from tagmill.worker.models import Answer, Pending

WORKFLOW = "11111111-2222-4333-8444-555555555555"
JOB = "66666666-7777-4888-9999-000000000000"
HANDLE = Locator(Transfer.HANDLE, "AbCdEfGhIjKlMnOpQr01")
TAGS = {"tags": {"auto": {"sky": 97}, "user": None}}
STARTED = {
    "workflow": WORKFLOW,
    "jobid": JOB,
    "sources": [HANDLE.value],
    "status": "Started",
    "createdAt": "2030-01-01T00:00:00.695634422Z",
    "updatedAt": "2030-01-01T00:00:00.695634422Z",
}
FINISHED = {**STARTED, "status": "Finished", "results": {"tags_1": {"data": TAGS}}, "ttl": 172_800}

Answering = Callable[[httpx.Request], httpx.Response]


def engine(answering: Answering, **options: Any) -> FilestackWorkflowEngine:
    config = {"workflow_id": WORKFLOW, **options}
    account = FilestackOptions("AtestKey00000000000000", "not-a-real-secret", config=config)
    return FilestackWorkflowEngine(account, transport=httpx.MockTransport(answering))


def answers(status: int = 200, **content: Any) -> FilestackWorkflowEngine:
    return engine(lambda _: httpx.Response(status, **content))


def raises(error: type[httpx.RequestError]) -> FilestackWorkflowEngine:
    def answering(request: httpx.Request) -> httpx.Response:
        raise error("no text of it may matter", request=request)

    return engine(answering)


def path(request: httpx.Request) -> list[str]:
    raw: bytes = request.extensions[TARGET]
    return raw.decode().strip("/").split("/")


def allowed(security: str) -> list[str]:
    policy = security.removeprefix("security=p:").partition(",")[0]
    calls: list[str] = json.loads(base64.urlsafe_b64decode(policy))["call"]
    return calls


# --- starting ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fresh", [False, True])
async def test_a_job_is_started_by_one_signed_get_that_no_cache_may_answer(fresh: Any) -> None:
    def answering(request: httpx.Request) -> httpx.Response:
        security, task, handle = path(request)
        assert (request.method, task, handle) == ("GET", f"run_workflow=id:{WORKFLOW}", HANDLE.value)
        assert allowed(security) == ["convert", "runWorkflow"]
        return httpx.Response(200, json=STARTED)

    locator = Locator(HANDLE.transfer, HANDLE.value, fresh=fresh)
    assert await engine(answering).start(locator) == Pending(JOB)


@pytest.mark.parametrize("job_id", [None, 7, "", "a/b", "x" * 200, ["66666666"]])
async def test_a_job_whose_id_is_missing_or_could_not_be_asked_for_is_pending_all_the_same(
    job_id: object,
) -> None:
    told = (
        {**STARTED, "jobid": job_id}
        if job_id is not None
        else {k: v for k, v in STARTED.items() if k != "jobid"}
    )
    assert await answers(json=told).start(HANDLE) == Pending(None)


async def test_a_job_that_is_done_at_once_is_an_answer_and_a_call() -> None:
    answer = await answers(json=FINISHED).start(HANDLE)
    assert isinstance(answer, Answer)
    assert (answer.tags, answer.calls, answer.http_status) == (TAGS["tags"], 1, 200)


async def test_a_job_that_failed_at_once_was_a_call() -> None:
    with pytest.raises(WorkflowFailedError) as raised:
        await answers(json={**STARTED, "status": "Failed"}).start(HANDLE)
    assert (raised.value.calls, raised.value.maybe_charged) == (1, 0)


@pytest.mark.parametrize(
    "lost",
    [
        answers(500, text="oops"),
        answers(502, text="<html>"),
        answers(504),
        answers(500, text="slow down", headers={"Filestack-Remaining": "0"}),
        answers(text="Invalid Application"),
        answers(json={"error": "invalid security policy path"}),
        answers(json=[STARTED]),
        answers(content=b'{"jobid": "6666'),
        answers(content=b" " * 1_100_000),
        raises(httpx.ReadTimeout),
        raises(httpx.ReadError),
        raises(httpx.WriteError),
        raises(httpx.RemoteProtocolError),
    ],
)
async def test_a_start_whose_answer_is_lost_may_have_started_a_job(lost: FilestackWorkflowEngine) -> None:
    with pytest.raises(AnswerLostError) as raised:
        await lost.start(HANDLE)
    assert (raised.value.calls, raised.value.maybe_charged) == (1, 1)
    assert "AtestKey" not in str(raised.value)


@pytest.mark.parametrize(
    ("refusing", "error_class", "calls"),
    [
        (answers(429, headers={"Filestack-Reset": "0"}), ThrottledError, 1),
        (answers(503), ThrottledError, 1),
        (answers(400, text="invalid parameter `id` for `run_workflow` task"), ImageRejectedError, 1),
        (answers(403, text="no"), AccessDeniedError, 1),
        (answers(404), ImageNotFoundError, 1),
        (answers(408), EngineUnavailableError, 1),
        (answers(500, text="conv20 provider error: corrupted (idx 0)"), ImageRejectedError, 1),
        (raises(httpx.ConnectError), EngineUnreachableError, 0),
        (raises(httpx.ConnectTimeout), EngineUnreachableError, 0),
    ],
)
async def test_a_clear_refusal_has_started_nothing(
    refusing: FilestackWorkflowEngine, error_class: type[ItemError], calls: int
) -> None:
    with pytest.raises(error_class) as raised:
        await refusing.start(HANDLE)
    assert type(raised.value) is error_class
    assert (raised.value.calls, raised.value.maybe_charged) == (calls, 0)


async def test_refused_credentials_stop_the_run() -> None:
    with pytest.raises(CredentialsError):
        await answers(401).start(HANDLE)


# --- asking -----------------------------------------------------------------------------------------------


async def test_a_job_is_asked_for_by_its_id_and_that_is_no_call() -> None:
    def answering(request: httpx.Request) -> httpx.Response:
        key, security, task = path(request)
        assert (key, task) == ("AtestKey00000000000000", f"workflow_status=job_id:{JOB}")
        assert allowed(security) == ["convert", "runWorkflow"]
        return httpx.Response(200, json=FINISHED)

    answer = await engine(answering).collect(JOB)
    assert isinstance(answer, Answer)
    assert (answer.tags, answer.calls, answer.http_status) == (TAGS["tags"], 0, 200)


@pytest.mark.parametrize("word", ["Started", "pending", "InProgress", "Nearly there", "", 7])
async def test_any_word_but_those_for_an_end_means_that_it_goes_on(word: object) -> None:
    assert await answers(json={**STARTED, "status": word}).collect(JOB) == Pending(JOB)


@pytest.mark.parametrize(
    ("asked", "error_class"),
    [
        (answers(404), ImageNotFoundError),
        (answers(429), ThrottledError),
        (answers(500), EngineUnavailableError),
        (answers(text="no job"), BadResponseError),
        (answers(json={**FINISHED, "sources": ["a", "b"]}), BadResponseError),
        (raises(httpx.ReadTimeout), EngineUnavailableError),
    ],
)
async def test_a_failed_question_cost_nothing(
    asked: FilestackWorkflowEngine, error_class: type[TaggingError]
) -> None:
    with pytest.raises(error_class) as raised:
        await asked.collect(JOB)
    assert isinstance(raised.value, ItemError)
    assert type(raised.value) is error_class
    assert (raised.value.calls, raised.value.maybe_charged) == (0, 0)


async def test_only_the_named_task_counts() -> None:
    results = {"a": {"data": TAGS}, "b": {"data": {"tags": {"auto": {"sea": 1}}}}}
    asked = engine(lambda _: httpx.Response(200, json={**FINISHED, "results": results}), task_name="b")
    answer = await asked.collect(JOB)
    assert isinstance(answer, Answer)
    assert answer.tags == {"auto": {"sea": 1}, "user": None}
    assert answer.results.keys() == {"a", "b"}


def test_another_workflow_or_task_is_another_configuration() -> None:
    def config(**options: str) -> str:
        return engine(lambda _: httpx.Response(200), **options).config_hash

    assert len({config(), config(task_name="a"), config(workflow_id=WORKFLOW.replace("1", "2"))}) == 3
