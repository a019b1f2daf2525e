"""Rules as people use them: a file that is checked, and tried on what a run has tagged."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.rows import a_row, finished_run
from fakes.runs import RUN, SmallRun
from servers.fleet import CLI, Deployment, deployed

from tagmill.worker.store.folder import Folder

FILE = """
[rules]
sky = 'tags.auto   kex "sky"'
sure = 'tags.auto.sky gte 80'
"""
WRONG = "sky: tags.auto kex sky\nsafe: sfw eq false\n"
COMPLAINT = (
    'tagmill: rules.txt: sky: column 15: write a value as JSON, text in double quotes: 80, true, "sky"'
)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with deployed(tmp_path) as deployment:
        (tmp_path / "rules.toml").write_text(FILE)
        (tmp_path / "rules.txt").write_text(WRONG)
        yield deployment


def test_rules_are_checked(deployment: Deployment) -> None:
    shown = deployment.finish(deployment.start("rules", "check", "rules.toml"))
    said = deployment.finish(deployment.start("rules", "check", "rules.toml", "--json"))
    assert shown.stdout == 'sky: tags.auto kex "sky"\nsure: tags.auto.sky gte 80\n'
    assert said.json == {
        "schema": 1,
        "rules": [
            {"name": "sky", "rule": 'tags.auto kex "sky"', "documented": True},
            {"name": "sure", "rule": "tags.auto.sky gte 80", "documented": False},
        ],
    }


def test_a_wrong_rule_is_told_in_one_line_and_the_others_are_checked_too(deployment: Deployment) -> None:
    shown = deployment.finish(deployment.start("rules", "check", "rules.txt"), code=2)
    said = deployment.finish(deployment.start("rules", "check", "rules.txt", "--json"), code=2)
    tried = deployment.finish(deployment.start("rules", "test", "rules.txt", RUN), code=2)
    assert (shown.stdout, tried.stdout) == ("safe: sfw eq false\n", "")
    assert shown.stderr == said.stderr == tried.stderr == f"{COMPLAINT}\n"
    assert [rule.get("column") for rule in said.json["rules"]] == [15, None]


def test_a_terminal_also_shows_the_place(deployment: Deployment) -> None:
    ours, theirs = pty.openpty()
    command = [*CLI, "rules", "check", "rules.txt"]
    subprocess.run(command, cwd=deployment.folder, stdout=subprocess.DEVNULL, stderr=theirs, check=False)
    os.close(theirs)
    with open(ours, "rb", buffering=0) as terminal:
        shown = terminal.read(10_000).decode().splitlines()
    assert shown == [COMPLAINT, "tags.auto kex sky", " " * 14 + "^"]


def test_rules_are_tried_on_a_run(deployment: Deployment) -> None:
    answers = [{"sky": 97}, {"sky": 41}, {"sea": 90}]
    finished_run(Folder(deployment.store), [a_row(raw_tags={"auto": auto, "user": None}) for auto in answers])
    tried = ("rules", "test", "rules.toml", RUN)
    found = deployment.finish(deployment.start(*tried, "--json", "--examples", "1")).json
    shown = deployment.finish(deployment.start(*tried)).stdout.splitlines()
    with deployment.explained():
        assert (found["images"], found["unanswered"]) == (3, 0)
        assert {rule["name"]: rule["images"] for rule in found["rules"]} == {"sky": 2, "sure": 1}
        assert [len(rule["examples"]) for rule in found["rules"]] == [1, 1]
        assert shown[:2] == ["3 images with an answer, 0 without", "       2  67%  sky"]
        gone = deployment.finish(deployment.start("rules", "test", "rules.toml", "nobody"), code=3)
        assert "no run nobody" in gone.stderr


def test_a_run_that_goes_on_is_tried_as_far_as_it_is_settled(deployment: Deployment) -> None:
    run = SmallRun(Folder(deployment.store))
    run.shard(4, chunk_size=2)
    run.commit(run.chunks[0])
    tried = deployment.finish(deployment.start("rules", "test", "rules.toml", RUN, "--json"))
    assert tried.json["images"] == 2
    assert "is not finished" in tried.stderr
