"""A pipeline of Filestack's tasks: a call for each, one after the other, and one answer of them all."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from tagmill.worker.engines.base import Locator
from tagmill.worker.engines.exchange import Reply
from tagmill.worker.engines.filestack import FilestackEngine
from tagmill.worker.engines.filestack_service import FilestackOptions
from tagmill.worker.engines.task_answers import Flags, parse_answer
from tagmill.worker.errors import ItemError
from tagmill.worker.models import NOTHING_YET, PARTIAL, Answer, Failure, Json
from tagmill.worker.task_list import Task, TaskList


class FilestackTasks(FilestackEngine):
    """`calls` of an answer are those of its last step."""

    def __init__(self, tasks: TaskList, options: FilestackOptions, **others: Any) -> None:
        """`others`: as the engine of one task has them."""
        super().__init__(options, **others)
        self._tasks = tasks

    async def start(self, locator: Locator, so_far: Answer | None = None) -> Answer:
        """One GET, for the task that is due."""
        answer = so_far or NOTHING_YET
        task = self._due(answer)
        read = partial(parse_answer, task.kind)
        (data, flags), reply = await self._ask(locator, (task.kind, task.parameters), read)
        return self._continued(_with(answer, task, data, flags, reply))

    def without(self, so_far: Answer | None, error: ItemError) -> Answer | None:
        """A task that failed says so among the results; an image that the main one failed for has no tags."""
        answer = so_far or NOTHING_YET
        task = self._due(answer)
        if task.main:
            return None
        failure = Failure(type(error).__name__, error.code, str(error))
        results = {**answer.results, task.name: {"error": failure.to_json()}}
        return self._continued(replace(answer, results=results, flags=_flagged(answer, (PARTIAL,)), calls=0))

    def _due(self, answer: Answer) -> Task:
        task = self._tasks.next(answer.results)
        assert task is not None  # noqa: S101 - a complete answer is not asked for
        return task

    def _continued(self, answer: Answer) -> Answer:
        return replace(answer, complete=self._tasks.next(answer.results) is None)


def _with(answer: Answer, task: Task, data: Json, flags: Flags, reply: Reply) -> Answer:
    return Answer(
        data["tags"] if task.main else answer.tags,
        _flagged(answer, flags if task.main else set(flags) & {PARTIAL}),
        reply.status,
        (answer.latency_ms or 0) + reply.latency_ms,
        results={**answer.results, task.name: {"data": data}},
    )


def _flagged(answer: Answer, more: Any) -> Flags:
    return tuple(dict.fromkeys([*answer.flags, *more]))
