"""A pipeline of tasks as people write it: TOML, with the tasks of an image and the rules on their answers.

[tasks.tags_1]
task = "tags"

[tasks.safe]
task = "sfw"
after = "tags_1"
when = 'tags.auto kex "person"'

[[rules]]
when = "sfw eq false"
label = "needs-review"
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from tagmill.producer.text_file import read_text
from tagmill.producer.written_files import WRITTEN, RuleEntry, named, parsed, rules_of, suggestion
from tagmill.worker.models import Json
from tagmill.worker.policy import TagRule
from tagmill.worker.task_list import KINDS, NEEDED, TAGS, TASKS, Task, TaskList

MOST_TASKS = 20  #: each is a call for every image
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ALIASES = {"v": "version"}


@dataclass(frozen=True, slots=True)
class Pipeline:
    tasks: TaskList
    rules: tuple[TagRule, ...]

    @property
    def engine_options(self) -> Json:
        """As a run freezes it."""
        return {TASKS: self.tasks.to_json()} if self.tasks.tasks else {}

    @property
    def tags_version(self) -> int | None:
        """Of the vocabulary of the main task; None: that of all others."""
        said = [task.parameters.get("version") for task in self.tasks.tasks if task.main]
        return int(said[0]) if said and said[0] is not None else None


NO_PIPELINE = Pipeline(TaskList(()), ())  #: of each image the tags, as an engine without options gives them


def read_pipeline(path: Path) -> Pipeline:
    """Raise `NotFoundError`, or `ConfigError`: one line that names file, task and rule."""
    inner = {**TaskEntry.model_fields, **RuleEntry.model_fields}
    with named(path, "pipeline", PipelineFile.model_fields, inner):
        said = PipelineFile.model_validate(tomllib.loads(read_text(path, "pipeline file")))
        tasks = [entry.read(name) for name, entry in said.tasks.items()]
        return Pipeline(TaskList(_with_main(tuple(_in_order(tasks)))), rules_of(said.rules))


def _plain(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise ValueError("a name is 1 to 64 letters, digits, `_` and `-`")
    return name


Name = Annotated[str, AfterValidator(_plain)]


class TaskEntry(BaseModel):
    """One of `[tasks.…]`."""

    model_config = WRITTEN

    task: str | None = None  #: with parameters as in Filestack's addresses; None: as it is named
    after: str | None = None
    when: str | None = None
    main: bool = False

    def read(self, name: str) -> Task:
        """Raise ValueError that names it, or `RuleError`."""
        if self.when is not None and self.after is None:
            raise ValueError(f"{name}: `when` needs `after`, the task on whose answer it is")
        when = None if self.when is None else parsed(self.when, name)
        kind, _, parameters = (self.task or name).partition("=")
        if kind not in KINDS:
            raise ValueError(f"{name}: there is no task {kind!r}{suggestion(kind, KINDS)}")
        if self.main and kind != TAGS:
            raise ValueError(f"{name}: only a task of tags can be the main one")
        said = {**NEEDED.get(kind, {}), **_read(name, kind, parameters)}
        return Task(name, kind, said, self.after, when, self.main)


class PipelineFile(BaseModel):
    """Every key; docs/pipelines.md explains them."""

    model_config = WRITTEN

    tasks: dict[Name, TaskEntry] = Field(min_length=1, max_length=MOST_TASKS)
    rules: list[RuleEntry] = []


def _read(name: str, kind: str, text: str) -> dict[str, str]:
    """Parameters, as in `coords:true,preprocess:true`."""
    found: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        key, _, value = (word.strip() for word in part.partition(":"))
        key = _ALIASES.get(key, key)
        if value not in KINDS[kind].get(key, ()):
            offered = ", ".join(f"{one}:{'|'.join(values)}" for one, values in KINDS[kind].items()) or "none"
            raise ValueError(f"{name}: {kind} takes no parameter {part.strip()!r}; it takes {offered}")
        found[key] = value
    return found


def _in_order(tasks: list[Task]) -> Iterator[Task]:
    """Each behind the one that it waits for, otherwise as they stand."""
    known = {task.name for task in tasks}
    done: set[str | None] = {None}
    for task in tasks:
        if task.after is not None and task.after not in known:
            raise ValueError(f"{task.name}: there is no task {task.after!r} to come after")
    while tasks:
        ready = next((task for task in tasks if task.after in done), None)
        if ready is None:
            raise ValueError(f"{tasks[0].name}: it waits for itself, by way of {tasks[0].after!r}")
        yield ready
        done.add(ready.name)
        tasks = [task for task in tasks if task is not ready]


def _with_main(tasks: tuple[Task, ...]) -> tuple[Task, ...]:
    """Of several tasks of tags the one that says so is the main one, or else the first."""
    chosen = [task.name for task in tasks if task.main]
    if len(chosen) > 1:
        raise ValueError(f"{chosen[1]}: there is another main task, {chosen[0]}")
    of_tags = chosen or [task.name for task in tasks if task.kind == TAGS]
    return tuple(replace(task, main=task.name in of_tags[:1]) for task in tasks)
