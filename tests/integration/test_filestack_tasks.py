"""The engine of a pipeline, over HTTP against the sandbox."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from PIL import Image
from servers.sandbox import SandboxUnderTest, running_sandbox

from tagmill.worker.engine_config import engine_config
from tagmill.worker.engines.base import Locator, Transfer
from tagmill.worker.engines.filestack_service import FilestackOptions
from tagmill.worker.engines.filestack_tasks import FilestackTasks
from tagmill.worker.errors import BadResponseError, ItemError
from tagmill.worker.models import Answer
from tagmill.worker.rules import parse
from tagmill.worker.task_list import KINDS, NEEDED, Task, TaskList

EVERYTHING = TaskList(
    tuple(Task(f"{kind}_1", kind, NEEDED.get(kind, {}), main=kind == "tags") for kind in KINDS)
)
RED_ONLY = TaskList(
    (
        Task("tags_1", "tags", main=True),
        Task("safe", "sfw", after="tags_1", when=parse('tags.auto kex "red"')),
        Task("words", "ocr", after="safe", when=parse("sfw eq true")),
        Task("caption", "caption"),
    )
)


@pytest.fixture(scope="module")
def server() -> Iterator[SandboxUnderTest]:
    with running_sandbox() as server:
        yield server


@pytest.fixture
def sandbox(server: SandboxUnderTest) -> SandboxUnderTest:
    server.faults()
    server.reset()
    return server


def engine_of(sandbox: SandboxUnderTest, tasks: TaskList, **options: Any) -> FilestackTasks:
    return FilestackTasks(
        tasks,
        FilestackOptions(
            sandbox.key,
            sandbox.secret,
            cdn_url=sandbox.url,
            api_url=sandbox.api_url,
            config={"tasks": tasks.to_json()},
            **options,
        ),
    )


def picture(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(file, "PNG")
    return file.getvalue()


async def steps(engine: FilestackTasks, locator: Locator) -> AsyncIterator[Answer]:
    answer = None
    while answer is None or not answer.complete:
        answer = await engine.start(locator, answer)
        yield answer


async def whole(engine: FilestackTasks, locator: Locator) -> tuple[Answer, int]:
    """The answer, and how many calls it took."""
    answers = [answer async for answer in steps(engine, locator)]
    assert all(answer.calls == 1 for answer in answers)
    return answers[-1], len(answers)


async def test_every_task_answers_under_its_name_as_a_workflow_returns_it(sandbox: SandboxUnderTest) -> None:
    locator = Locator(Transfer.HANDLE, sandbox.upload(picture("red")))
    async with aclosing(engine_of(sandbox, EVERYTHING)) as engine:
        answer, calls = await whole(engine, locator)
    results = {name: one["data"] for name, one in answer.results.items()}
    assert calls == len(KINDS)
    assert results.pop("tags_1") == {"tags": answer.tags}
    assert results.pop("caption_1")["caption"].startswith("a ")
    assert results == {
        "sfw_1": {"sfw": True},
        "ocr_1": {"document": {"text_areas": []}},
        "copyright_1": {"copyright": False, "licenses": []},
        "image_sentiment_1": {"emotions": {}},
        "doc_detection_1": {"coords": {"x": 0, "y": 0, "width": 64, "height": 48}},
    }
    assert Answer.from_json(answer.to_json()) == answer


@pytest.mark.parametrize(
    ("colour", "names"), [("red", ["tags_1", "safe", "words", "caption"]), ("blue", ["tags_1", "caption"])]
)
async def test_rules_decide_what_is_asked_and_paid_for(
    sandbox: SandboxUnderTest, colour: str, names: list[str]
) -> None:
    locator = Locator(Transfer.HANDLE, sandbox.upload(picture(colour)))
    async with aclosing(engine_of(sandbox, RED_ONLY)) as engine:
        answer, calls = await whole(engine, locator)
    assert (list(answer.results), calls) == (names, len(names))


async def test_an_image_is_resized_for_all_tasks_but_those_that_answer_with_places(
    sandbox: SandboxUnderTest,
) -> None:
    locator = Locator(Transfer.HANDLE, sandbox.upload(picture("red")), fresh=True)
    async with aclosing(engine_of(sandbox, EVERYTHING, resize_height=24, tags_version=1)) as engine:
        answer, _ = await whole(engine, locator)
    assert answer.results["doc_detection_1"]["data"]["coords"]["height"] == 48
    assert len(answer.tags["auto"]) <= 10


async def test_several_tag_tasks_stay_apart_and_one_of_them_gives_the_tags(sandbox: SandboxUnderTest) -> None:
    tasks = TaskList((Task("old", "tags", {"version": "1"}), Task("new", "tags", main=True)))
    async with aclosing(engine_of(sandbox, tasks)) as engine:
        answer, _ = await whole(engine, Locator(Transfer.HANDLE, sandbox.upload(picture("red"))))
    assert answer.tags == answer.results["new"]["data"]["tags"] != answer.results["old"]["data"]["tags"]


async def test_without_a_tags_task_there_are_no_tags(
    sandbox: SandboxUnderTest,
) -> None:
    async with aclosing(engine_of(sandbox, TaskList((Task("safe", "sfw"),)))) as engine:
        answer, calls = await whole(engine, Locator(Transfer.HANDLE, sandbox.upload(picture("red"))))
    assert (answer.tags, answer.flags, calls) == ({"auto": {}, "user": None}, (), 1)
    assert answer.results == {"safe": {"data": {"sfw": True}}}


async def test_an_answer_does_without_a_failed_task_and_what_waits_for_it(
    sandbox: SandboxUnderTest,
) -> None:
    locator = Locator(Transfer.HANDLE, sandbox.upload(picture("red")))
    async with aclosing(engine_of(sandbox, RED_ONLY)) as engine:
        tagged = await engine.start(locator)
        sandbox.faults({"fault": "text_200", "operation": "sfw", "times": 1})
        with pytest.raises(BadResponseError, match="no JSON") as raised:
            await engine.start(locator, tagged)
        going_on = engine.without(tagged, raised.value)
        assert going_on is not None
        last = await engine.start(locator, going_on)
    assert (going_on.calls, going_on.complete, last.complete) == (0, False, True)
    assert (last.tags, last.flags) == (tagged.tags, ("partial",))
    assert list(last.results) == ["tags_1", "safe", "caption"]
    assert last.results["safe"]["error"]["code"] == "bad_response"


def test_an_image_that_its_main_task_failed_for_fails(sandbox: SandboxUnderTest) -> None:
    assert engine_of(sandbox, RED_ONLY).without(None, ItemError("gone", calls=1)) is None


def test_what_is_asked_for_is_part_of_the_configuration(sandbox: SandboxUnderTest) -> None:
    hashes = {engine_of(sandbox, tasks).config_hash for tasks in (EVERYTHING, RED_ONLY)}
    assert hashes == {
        engine_config("filestack", None, None, {"tasks": tasks.to_json()}) for tasks in (EVERYTHING, RED_ONLY)
    }
    assert engine_config("filestack", None, None) not in hashes
