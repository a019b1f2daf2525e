"""Which task an image is asked for next."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tagmill.worker.rules import parse
from tagmill.worker.task_list import KINDS, Task, TaskList

TAGS = Task("tags_1", "tags", {"version": "2"}, main=True)
SAFE = Task("safe", "sfw", after="tags_1", when=parse('tags.auto kex "person"'))
WORDS = Task("words", "ocr", after="safe", when=parse("sfw eq true"))
CAPTION = Task("caption", "caption", after="tags_1")
TASKS = TaskList((TAGS, SAFE, WORDS, CAPTION))
PERSON = {"data": {"tags": {"auto": {"person": 97}, "user": None}}}
NOTHING: dict[str, Any] = {"data": {}}
SEA = {"data": {"tags": {"auto": {"sea": 97}, "user": None}}}


def names(tasks: TaskList, answers: dict[str, Any]) -> list[str]:
    """In the order in which they are asked for."""
    results: dict[str, Any] = {}
    while (task := tasks.next(results)) is not None:
        results[task.name] = answers[task.name]
    return list(results)


def test_tasks_are_asked_for_in_order_as_far_as_their_rules_match() -> None:
    answers = {
        "tags_1": PERSON,
        "safe": {"data": {"sfw": True}},
        "words": {"data": {}},
        "caption": {"data": {}},
    }
    assert names(TASKS, answers) == ["tags_1", "safe", "words", "caption"]
    assert names(TASKS, answers | {"safe": {"data": {"sfw": False}}}) == ["tags_1", "safe", "caption"]
    assert names(TASKS, answers | {"tags_1": SEA}) == ["tags_1", "caption"]


def test_what_waits_for_a_failed_task_is_not_asked_for() -> None:
    assert names(TASKS, {"tags_1": {"error": {"code": "rejected"}}}) == ["tags_1"]


def test_so_many_are_asked_for_whatever_comes() -> None:
    assert TASKS.unconditional == 2
    assert TaskList((TAGS,)).unconditional == 1
    assert TaskList((TAGS, SAFE, Task("words", "ocr", after="safe"))).unconditional == 1


def test_a_list_is_frozen_in_a_run_and_read_again() -> None:
    frozen = json.loads(json.dumps(TASKS.to_json()))
    assert TaskList.from_json(frozen) == TASKS
    assert frozen[0] == {"name": "tags_1", "task": "tags", "parameters": {"version": "2"}, "main": True}
    assert frozen[1] == {"name": "safe", "task": "sfw", "after": "tags_1", "when": 'tags.auto kex "person"'}


@given(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=6), st.data())
def test_every_task_is_asked_for_once_at_most(kinds: list[str], data: st.DataObject) -> None:
    tasks = TaskList(
        tuple(
            Task(f"t{n}", kind, after=data.draw(st.sampled_from([None, *(f"t{m}" for m in range(n))])))
            for n, kind in enumerate(kinds)
        )
    )
    fails = data.draw(st.sets(st.sampled_from([task.name for task in tasks.tasks])))
    answers: dict[str, Any] = {
        task.name: {"error": {}} if task.name in fails else {"data": {}} for task in tasks.tasks
    }
    asked = names(tasks, answers)
    assert len(asked) == len(set(asked))
    assert all(task.name in asked for task in tasks.tasks if task.after is None)
    assert not any(task.name in asked for task in tasks.tasks if task.after in fails)
