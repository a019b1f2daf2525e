"""A pipeline's file: what it says, how it is drawn, and each thing that is refused in one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tagmill.producer.pipeline_drawing import Style, draw
from tagmill.producer.pipeline_file import Pipeline, read_pipeline
from tagmill.worker.errors import ConfigError, NotFoundError, RuleError
from tagmill.worker.policy import TagRule
from tagmill.worker.rules import parse
from tagmill.worker.task_list import Task

ROOT = Path(__file__).parents[2]
PEOPLE = """
[tasks.safe]
task = "sfw"
after = "tags_1"
when = 'tags.auto kex "person"'

[tasks.tags_1]
task = "tags=v:2"

[tasks.ocr]
after = "safe"

[tasks.page]
task = "doc_detection=preprocess:true"

[[rules]]
when = "sfw eq false"
label = "needs-review"

[[rules]]
when = 'all(sfw eq true, tags.auto."a \\"b\\"" gte 80)'
add_tag = "family"
confidence = 80
label = "safe & sound"
"""


def read(folder: Path, text: str) -> Pipeline:
    (folder / "pipeline.toml").write_text(text)
    return read_pipeline(folder / "pipeline.toml")


def test_tasks_are_read_each_behind_the_one_that_it_waits_for(tmp_path: Path) -> None:
    pipeline = read(tmp_path, PEOPLE)
    assert pipeline.tasks.tasks == (
        Task("tags_1", "tags", {"version": "2"}, main=True),
        Task("safe", "sfw", after="tags_1", when=parse('tags.auto kex "person"')),
        Task("ocr", "ocr", after="safe"),
        Task("page", "doc_detection", {"coords": "true", "preprocess": "true"}),
    )
    assert pipeline.rules == (
        TagRule(parse("sfw eq false"), label="needs-review"),
        TagRule(parse('all(sfw eq true, tags.auto."a \\"b\\"" gte 80)'), "family", 80, "safe & sound"),
    )
    assert pipeline.tags_version == 2


def test_one_task_of_tags_is_the_main_one_the_first_unless_another_says_so(tmp_path: Path) -> None:
    two = '[tasks.one]\ntask = "tags"\n[tasks.two]\ntask = "tags=version:1"\n'
    mains = [
        [task.name for task in read(tmp_path, text).tasks.tasks if task.main]
        for text in (two, f"{two}main = true", "[tasks.sfw]")
    ]
    assert mains == [["one"], ["two"], []]
    assert read(tmp_path, f"{two}main = true").tags_version == 1
    assert read(tmp_path, "[tasks.sfw]").tags_version is None


A = "[tasks.a]\n"
SFW = "[tasks.sfw]\n"
RULE = f"{SFW}[[rules]]\nwhen = 'sfw eq true'\n"
CYCLE = "[tasks.a]\ntask = 'sfw'\nafter = 'b'\n[tasks.b]\ntask = 'ocr'\nafter = 'a'\n[tasks.tags]"
TWO_MAINS = "[tasks.a]\ntask = 'tags'\nmain = true\n[tasks.b]\ntask = 'tags'\nmain = true"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "tasks: Field required"),
        ("[tasks]", "tasks: "),
        ("tasks = 3", "tasks: "),
        ("tasks = [", "Invalid value"),
        ("[[tasks]]\ntask = 'sfw'", "tasks: "),
        ("[task.a]", "task is no key of a pipeline; did you mean tasks?"),
        ("[tasks.a.b]", "tasks.a.b is no key of a pipeline; there are task, after, when, "),
        (f"{SFW}afterr = 'b'", "tasks.sfw.afterr is no key of a pipeline; did you mean after?"),
        (f"{SFW}main = 'yes'", "tasks.sfw.main: "),
        ("[tasks.'a b']\ntask = 'sfw'", "tasks.a b: a name is 1 to 64 letters"),
        (f"{A}task = 'swf'", "a: there is no task 'swf'; did you mean sfw?"),
        (f"{A}task = 'store'", "a: there is no task 'store'; there are tags, sfw, "),
        (f"{A}task = 'sfw'\n{A}task = 'ocr'", "Cannot declare ('tasks', 'a') twice"),
        (f"{SFW}after = 'b'", "sfw: there is no task 'b' to come after"),
        (f"{SFW}after = 'sfw'", "sfw: it waits for itself, by way of 'sfw'"),
        (CYCLE, "a: it waits for itself, by way of 'b'"),
        (f"{SFW}when = 'sfw eq true'", "sfw: `when` needs `after`"),
        (f"{A}task = 'tags=version:3'", "a: tags takes no parameter 'version:3'; it takes version:1|2"),
        (f"{A}task = 'sfw=deep:true'", "a: sfw takes no parameter 'deep:true'; it takes none"),
        (f"{A}task = 'doc_detection=coords:false'", "a: doc_detection takes no parameter 'coords:false'"),
        (f"{SFW}main = true", "sfw: only a task of tags can be the main one"),
        (TWO_MAINS, "b: there is another main task, a"),
        (RULE, "rules.1: say what it does: add_tag, label, or both"),
        (f"{SFW}[[rules]]\nlabel = 'x'", "rules.1.when: Field required"),
        (f"{RULE}label = ' '", "rules.1.label: write at least one character"),
        (f"{RULE}label = 'x'\nconfidence = 9", "rules.1: confidence is that of a tag"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_that_names_file_and_task(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, text)
    assert str(raised.value).startswith(f"{tmp_path}/pipeline.toml: {said}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("[tasks.tags]\n[tasks.a]\ntask='sfw'\nafter='tags'\nwhen='tags.auto kex sky'", "a"),
        ("[tasks.sfw]\n[[rules]]\nwhen='tags.auto kex sky'\nlabel='x'", "rule 1"),
    ],
)
def test_a_rule_that_cannot_be_read_is_shown_where(tmp_path: Path, text: str, name: str) -> None:
    with pytest.raises(RuleError) as raised:
        read(tmp_path, text)
    assert str(raised.value).startswith(f"{tmp_path}/pipeline.toml: {name}: column 15: write a value as JSON")
    assert raised.value.excerpt.splitlines()[1] == f"{'':14}^"


def test_what_the_documentation_shows_is_so(tmp_path: Path) -> None:
    page = (ROOT / "docs/pipelines.md").read_text()
    toml, console, mermaid = (
        re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
        for language in ("toml", "console", "mermaid")
    )
    pipeline = read(tmp_path, toml[0])
    assert draw(pipeline, Style.TEXT) == console[0].partition("\n")[2].strip()
    assert draw(pipeline, Style.MERMAID) == mermaid[0].strip()
    assert read_pipeline(ROOT / "examples/pipeline.toml").rules


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no pipeline file"):
        read_pipeline(tmp_path / "gone.toml")


def test_a_pipeline_is_drawn_as_text(tmp_path: Path) -> None:
    assert draw(read(tmp_path, PEOPLE), Style.TEXT).splitlines() == [
        "image",
        "  tags_1: tags=version:2 (main)",
        '    safe: sfw, when tags.auto kex "person"',
        "      ocr: ocr",
        "  page: doc_detection=coords:true,preprocess:true",
        "then, on all answers",
        "  sfw eq false → label 'needs-review'",
        "  all(sfw eq true, tags.auto.\"a \\\"b\\\"\" gte 80) → tag 'family' (80) and label 'safe & sound'",
    ]


def test_a_pipeline_is_drawn_for_mermaid(tmp_path: Path) -> None:
    assert draw(read(tmp_path, PEOPLE), Style.MERMAID).splitlines() == [
        "flowchart TD",
        "  image([image])",
        '  task1["tags_1: tags=version:2 (main)"]',
        '  task2["safe: sfw"]',
        '  task3["ocr: ocr"]',
        '  task4["page: doc_detection=coords:true,preprocess:true"]',
        "  image --> task1",
        '  task1 -->|"tags.auto kex #34;person#34;"| task2',
        "  task2 --> task3",
        "  image --> task4",
        "  answers([all answers])",
        *(f"  task{number} --> answers" for number in (1, 2, 3, 4)),
        '  answers -->|"sfw eq false"| rule1["label \'needs-review\'"]',
        (
            '  answers -->|"all(sfw eq true, tags.auto.#34;a \\#34;b\\#34;#34; gte 80)"| '
            "rule2[\"tag 'family' (80) and label 'safe #38; sound'\"]"
        ),
    ]
    assert "answers" not in draw(read(tmp_path, "[tasks.sfw]"), Style.MERMAID)
