"""A pipeline as a drawing: tasks, the rules that lead from one to the next, and the rules at the end."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from tagmill.producer.pipeline_file import Pipeline
from tagmill.worker.policy import TagRule
from tagmill.worker.task_list import Task

_INDENT = "  "
_MARKUP = frozenset('#&<>"`')


class Style(StrEnum):
    TEXT = "text"
    MERMAID = "mermaid"


def draw(pipeline: Pipeline, style: Style) -> str:
    lines = _mermaid(pipeline) if style is Style.MERMAID else _text(pipeline)
    return "\n".join(lines)


# --- text -------------------------------------------------------------------------------------------------


def _text(pipeline: Pipeline) -> Iterator[str]:
    yield "image"
    yield from _below(pipeline, None, _INDENT)
    if pipeline.rules:
        yield "then, on all answers"
        yield from (f"{_INDENT}{rule.when} → {_effect(rule)}" for rule in pipeline.rules)


def _below(pipeline: Pipeline, after: str | None, indent: str) -> Iterator[str]:
    for task in pipeline.tasks.tasks:
        if task.after == after:
            when = f", when {task.when}" if task.when else ""
            yield f"{indent}{_named(task)}{when}"
            yield from _below(pipeline, task.name, indent + _INDENT)


def _named(task: Task) -> str:
    said = ",".join(f"{name}:{value}" for name, value in task.parameters.items())
    return f"{task.name}: {task.kind}{'=' * bool(said)}{said}{' (main)' * task.main}"


def _effect(rule: TagRule) -> str:
    tag = [f"tag {rule.add_tag!r} ({rule.confidence:g})"] if rule.add_tag is not None else []
    return " and ".join([*tag, *([f"label {rule.label!r}"] if rule.label is not None else [])])


# --- Mermaid ----------------------------------------------------------------------------------------------


def _mermaid(pipeline: Pipeline) -> Iterator[str]:
    """https://mermaid.js.org/syntax/flowchart.html: boxes have ids of ours, as some names are its words."""
    ids = {task.name: f"task{number}" for number, task in enumerate(pipeline.tasks.tasks, 1)}
    yield "flowchart TD"
    yield f"{_INDENT}image([image])"
    yield from (f'{_INDENT}{ids[task.name]}["{_escaped(_named(task))}"]' for task in pipeline.tasks.tasks)
    for task in pipeline.tasks.tasks:
        edge = f'-->|"{_escaped(str(task.when))}"|' if task.when else "-->"
        yield f"{_INDENT}{ids.get(task.after or '', 'image')} {edge} {ids[task.name]}"
    if pipeline.rules:
        yield f"{_INDENT}answers([all answers])"
        yield from (f"{_INDENT}{one} --> answers" for one in ids.values())
    for number, rule in enumerate(pipeline.rules, 1):
        yield f'{_INDENT}answers -->|"{_escaped(str(rule.when))}"| rule{number}["{_escaped(_effect(rule))}"]'


def _escaped(text: str) -> str:
    """What would end a text or be taken for markup, as entities."""
    return "".join(f"#{ord(one)};" if one in _MARKUP else one for one in text)
