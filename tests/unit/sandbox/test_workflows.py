"""Workflows as a file defines them, and which of their tasks run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tagmill.sandbox.workflows import Workflow, read_workflows
from tagmill.worker.errors import ConfigError
from tagmill.worker.rules import parse

ID = "11111111-2222-4333-8444-555555555555"
WHOLE = f"""
[workflows.people]
id = "{ID}"
seconds = 1.5
progress = ["InProgress"]
on_upload = true

[workflows.people.tasks.last]
task = "doc_detection=coords:true"
after = "safe"

[workflows.people.tasks.safe]
task = "sfw"
after = "tags_1"
when = 'tags.auto kex "red"'

[workflows.people.tasks.tags_1]
task = "tags"

[workflows.people.tasks.caption]
"""


def read(text: str, folder: Path) -> Workflow:
    (folder / "workflows.toml").write_text(text)
    (workflow,) = read_workflows(folder / "workflows.toml").values()
    return workflow


def one_task(lines: str, name: str = "tags_1") -> str:
    return f'[workflows.w]\nid = "{ID}"\n[workflows.w.tasks.{name}]\n{lines}'


def test_a_file_defines_workflows_whose_tasks_stand_behind_what_they_depend_on(tmp_path: Path) -> None:
    workflow = read(WHOLE, tmp_path)
    assert (workflow.id, workflow.seconds, workflow.progress) == (ID, 1.5, ("InProgress",))
    assert workflow.on_upload
    assert [step.name for step in workflow.steps] == ["tags_1", "caption", "safe", "last"]
    assert [step.task.name for step in workflow.steps] == ["tags", "caption", "sfw", "doc_detection"]
    assert workflow.steps[3].task.params == {"coords": "true"}
    assert workflow.steps[2].when == parse('tags.auto kex "red"')


def test_rules_decide_on_the_data_of_the_task_before(tmp_path: Path) -> None:
    first, caption, safe, last = read(WHOLE, tmp_path).steps
    red = {"tags_1": {"data": {"tags": {"auto": {"red": 97}}}}}
    blue = {"tags_1": {"data": {"tags": {"auto": {"blue": 97}}}}}
    assert first.runs({})
    assert caption.runs({})
    assert safe.runs(red)
    assert not safe.runs(blue)
    assert not safe.runs({})
    assert not safe.runs({"tags_1": {"error": "no image"}})
    assert last.runs({"safe": {"data": {"sfw": False}}})
    assert not last.runs(blue)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("workflow = 1", "the file has no key 'workflow'"),
        (f'[workflows.w]\nid = "{ID}"', "w needs an id and at least one task"),
        ("[workflows.w.tasks.tags]", "w needs an id and at least one task"),
        (f'[workflows.w]\nid = "{ID}"\nsecond = 1\n[workflows.w.tasks.tags]', "w has no key 'second'"),
        (one_task("", "tags").replace(ID, "no id"), "w: `id` is letters, digits and `-`"),
        (one_task("", "tags").replace(f'"{ID}"', "1"), "w: `id` is letters, digits and `-`"),
        (f'[workflows.w]\nid = "{ID}"\nseconds = "1"\n[workflows.w.tasks.tags]', "w: `seconds` is a number"),
        (f'[workflows.w]\nid = "{ID}"\nprogress = [1]\n[workflows.w.tasks.tags]', "w: `progress` is a list"),
        (
            f"{one_task('', 'tags')}\n{one_task('', 'tags').replace('workflows.w', 'workflows.v')}",
            "two of them have the same id",
        ),
        (one_task('task = "tags"\nwhen_ = "x"'), "tags_1 has no key 'when_'"),
        (one_task(""), "tags_1: the sandbox does not offer the task `tags_1`"),
        (one_task('task = "resize=w:9"'), "tags_1: the sandbox does not offer the task `resize`"),
        (one_task('task = "tags=version:3"'), "tags_1: invalid parameter `version` for `tags` task"),
        (one_task("", "doc_detection"), "doc_detection: the sandbox answers `doc_detection` with"),
        (one_task('after = "gone"', "tags"), "tags: there is no way to a task after `gone`"),
        (one_task('after = "tags"', "tags"), "tags: there is no way to a task after `tags`"),
        (one_task("when = 'sfw eq true'", "tags"), "tags: `when` needs `after`"),
        (one_task("after = 'x'\nwhen = 'sfw is true'", "tags"), "tags: column 5: is is no operator"),
        (one_task("after = 1", "tags"), "tags: there is no way to a task after `1`"),
        (one_task("task = 1"), ""),
        (one_task("after = 'x'\nwhen = 1", "tags"), ""),
        ("workflows = 1", ""),
        ("[workflows", ""),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(text, tmp_path)
    said = str(refused.value)
    assert said.startswith(f"workflows {tmp_path}/workflows.toml: {complaint}")
    assert said.isprintable()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml: No such file"):
        read_workflows(tmp_path / "gone.toml")
