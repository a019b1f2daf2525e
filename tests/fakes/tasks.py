"""Engines whose answer takes a call for each of several tasks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from fakes.crashes import CrashingEngine
from fakes.scripted import ScriptedEngine

from tagmill.worker.engines.base import Locator
from tagmill.worker.errors import ItemError
from tagmill.worker.models import Answer, Json

TASKS = ("tags_1", "safe", "words")  #: the first is the main one


def joined(so_far: Answer | None, last: Answer, result: Json) -> Answer:
    results = dict(so_far.results) if so_far else {}
    results[TASKS[len(results)]] = result
    tags = so_far.tags if so_far else last.tags
    return replace(last, tags=tags, results=results, complete=len(results) == len(TASKS))


@dataclass
class TasksEngine(ScriptedEngine):
    """A script's failures are those of whatever task is due."""

    async def start(self, locator: Locator, so_far: Answer | None = None) -> Answer:
        return joined(so_far, await super().start(locator), {"data": {}})

    def without(self, so_far: Answer | None, error: ItemError) -> Answer | None:
        return joined(so_far, replace(so_far, calls=0), {"error": error.code}) if so_far else None


@dataclass
class CrashingTasksEngine(CrashingEngine):
    """`paid`: by image, the number of the task that each of its calls was for."""

    paid: dict[str, list[int]] = field(default_factory=dict)

    async def start(self, locator: Locator, so_far: Answer | None = None) -> Answer:
        self.paid.setdefault(locator.value, []).append(len(so_far.results) if so_far else 0)
        return joined(so_far, await super().start(locator), {"data": {}})
