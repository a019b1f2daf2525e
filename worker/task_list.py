"""The tasks that each image is asked for: a pipeline, as a run freezes it. Pure; each task is a paid call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tagmill.worker.models import Json
from tagmill.worker.rules import Rule, parse

TAGS = "tags"
TASKS = "tasks"  #: where a run's `engine_options` have them
#: What the API answers about an image in a shape that is documented, and the parameters that it then takes.
KINDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    TAGS: {"version": ("1", "2")},
    "sfw": {},
    "caption": {},
    "ocr": {},
    "copyright": {},
    "image_sentiment": {},
    "doc_detection": {"coords": ("true",), "preprocess": ("true", "false")},
}
#: What makes an answer have that shape.
NEEDED: Mapping[str, Mapping[str, str]] = {"doc_detection": {"coords": "true"}}


@dataclass(frozen=True, slots=True)
class Task:
    name: str  #: under which its answer stands in a row's `results`
    kind: str  #: one of KINDS
    parameters: Mapping[str, str] = field(default_factory=dict)
    after: str | None = None  #: the task on whose answer it waits; None: it is always asked for
    when: Rule | None = None  #: on the `data` of that answer; None: it is enough that there is one
    main: bool = False  #: its tags are the image's

    def is_due(self, results: Mapping[str, Any]) -> bool:
        """`results`: of all tasks before it."""
        if self.after is None:
            return True
        data = results.get(self.after, {}).get("data")
        return data is not None and (self.when is None or self.when.matches(data))

    def to_json(self) -> Json:
        """Only what is said of it."""
        said = {
            "parameters": dict(self.parameters),
            "after": self.after,
            "when": self.when and str(self.when),
            "main": self.main,
        }
        return {"name": self.name, "task": self.kind, **{key: value for key, value in said.items() if value}}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Task:
        when = value.get("when")
        return cls(
            value["name"],
            value["task"],
            value.get("parameters", {}),
            value.get("after"),
            None if when is None else parse(when),
            value.get("main", False),
        )


@dataclass(frozen=True, slots=True)
class TaskList:
    tasks: tuple[Task, ...]  #: each behind the one that it waits for

    @classmethod
    def from_json(cls, value: Sequence[Mapping[str, Any]]) -> TaskList:
        return cls(tuple(map(Task.from_json, value)))

    def to_json(self) -> list[Json]:
        return [task.to_json() for task in self.tasks]

    def next(self, results: Mapping[str, Any]) -> Task | None:
        """Return what is to be asked for, when these are the results; None: nothing more."""
        return next((one for one in self.tasks if one.name not in results and one.is_due(results)), None)

    @property
    def unconditional(self) -> int:
        """How many are asked for whatever the others answer, if they answer."""
        certain: set[str | None] = {None}
        for task in self.tasks:
            if task.when is None and task.after in certain:
                certain.add(task.name)
        return len(certain) - 1
