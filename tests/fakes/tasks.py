"""Engines whose answer takes a call for each of several tasks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from fakes.crashes import CrashingEngine
from fakes.scripted import ScriptedEngine

from tagmill.worker.engines.base import Locator
from tagmill.worker.errors import ItemError
from tagmill.worker.models import NOTHING_YET, Answer, Json

TASKS = ("tags_1", "safe", "words")


def joined(so_far: Answer | None, last: Answer, result: Json) -> Answer:
    results = dict(so_far.results) if so_far else {}
    results[TASKS[len(results)]] = result
    tags = so_far.tags if so_far else last.tags
    return replace(last, tags=tags, results=results, complete=len(results) == len(TASKS))


@dataclass
class TasksEngine(ScriptedEngine):
    """A script's failures are those of whatever task is due."""

    main: int = 0  #: number of the task that no image does without

    async def start(self, locator: Locator, so_far: Answer | None = None) -> Answer:
        return joined(so_far, await super().start(locator), {"data": {}})

    def without(self, so_far: Answer | None, error: ItemError) -> Answer | None:
        answer = so_far or NOTHING_YET
        if len(answer.results) == self.main:
            return None
        return joined(answer, replace(answer, calls=0), {"error": error.code})


@dataclass
class CrashingTasksEngine(CrashingEngine):
    """`paid`: by image, the number of the task that each of its calls was for."""

    paid: dict[str, list[int]] = field(default_factory=dict)

    async def start(self, locator: Locator, so_far: Answer | None = None) -> Answer:
        self.paid.setdefault(locator.value, []).append(len(so_far.results) if so_far else 0)
        return joined(so_far, await super().start(locator), {"data": {}})
