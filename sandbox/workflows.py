"""Workflows as they are built in the portal, here in a TOML file: tasks, and rules on which of them run.

[workflows.people]
id = "11111111-2222-4333-8444-555555555555"

[workflows.people.tasks.tags_1]
task = "tags"

[workflows.people.tasks.safe]
task = "sfw"
after = "tags_1"
when = 'tags.auto kex "red"'
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tagmill.sandbox.answers import ANSWERS, Answer
from tagmill.sandbox.options import check_parameters
from tagmill.sandbox.replies import Refusal
from tagmill.sandbox.urls import Task, read_task
from tagmill.worker.errors import ConfigError, RuleError
from tagmill.worker.rules import Rule, parse

_ID = re.compile(r"[A-Za-z0-9-]+")


@dataclass(frozen=True, slots=True)
class Step:
    """One task of a workflow."""

    name: str
    task: Task
    after: str | None = None  #: the step whose result decides; None: it always runs
    when: Rule | None = None  #: on the `data` of that result; None: it is enough that there are any

    def runs(self, results: Mapping[str, Mapping[str, Any]]) -> bool:
        """`results`: of the steps before it."""
        if self.after is None:
            return True
        data: Answer | None = results.get(self.after, {}).get("data")
        return data is not None and (self.when is None or self.when.matches(data))


@dataclass(frozen=True, slots=True)
class Workflow:
    id: str
    steps: tuple[Step, ...]  #: each behind the one it depends on
    seconds: float = 0.0  #: from a job's start to its end, at least
    progress: tuple[str, ...] = ()  #: status words of a job between `Started` and its end, evenly in time
    on_upload: bool = False  #: every upload starts a job

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not _ID.fullmatch(self.id):
            raise ValueError("`id` is letters, digits and `-`")
        if not isinstance(self.seconds, int | float) or self.seconds < 0:
            raise ValueError("`seconds` is a number, 0 or more")
        if not all(isinstance(word, str) for word in self.progress):
            raise TypeError("`progress` is a list of words")


def read_workflows(path: Path) -> dict[str, Workflow]:
    """Return them by id. Raise ConfigError."""
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
        _check_keys(said, {"workflows"}, "the file")
        workflows = [_workflow(name, values) for name, values in said.get("workflows", {}).items()]
    except OSError as error:
        raise ConfigError(f"workflows {path}: {error.strerror}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"workflows {path}: {error}") from None
    by_id = {workflow.id: workflow for workflow in workflows}
    if len(by_id) < len(workflows):
        raise ConfigError(f"workflows {path}: two of them have the same id")
    return by_id


def _workflow(name: str, values: Mapping[str, Any]) -> Workflow:
    """Raise ValueError and others."""
    given = {item.name for item in fields(Workflow)} - {"steps"}
    _check_keys(values, given | {"tasks"}, name)
    steps = [_step(key, step) for key, step in values.get("tasks", {}).items()]
    if not steps or "id" not in values:
        raise ValueError(f"{name} needs an id and at least one task")
    others = {key: value for key, value in values.items() if key in given}
    parsed = {"steps": tuple(_in_order(steps)), "progress": tuple(values.get("progress", ()))}
    try:
        return Workflow(**{**others, **parsed})
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name}: {error}") from None


def _step(name: str, values: Mapping[str, Any]) -> Step:
    _check_keys(values, {"task", "after", "when"}, name)
    task = read_task(values.get("task", name))
    if task.name not in ANSWERS:
        raise ValueError(f"{name}: the sandbox does not offer the task `{task.name}`")
    if "when" in values and "after" not in values:
        raise ValueError(f"{name}: `when` needs `after`, the task on whose answer it is")
    try:
        check_parameters(task)
        return Step(name, task, values.get("after"), parse(values["when"]) if "when" in values else None)
    except Refusal as refusal:
        raise ValueError(f"{name}: {refusal.text}") from None
    except RuleError as error:
        raise ValueError(f"{name}: {error}") from None


def _in_order(steps: list[Step]) -> Iterator[Step]:
    """Raise ValueError for a step that depends on itself or on one that does not exist."""
    done: set[str | None] = {None}
    while steps:
        ready = [step for step in steps if step.after in done]
        if not ready:
            raise ValueError(f"{steps[0].name}: there is no way to a task after `{steps[0].after}`")
        yield from ready
        done |= {step.name for step in ready}
        steps = [step for step in steps if step not in ready]


def _check_keys(values: Mapping[str, Any], known: set[str], where: str) -> None:
    if unknown := values.keys() - known:
        raise ValueError(f"{where} has no key {min(unknown)!r}")
