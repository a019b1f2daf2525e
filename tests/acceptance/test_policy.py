"""A tag policy as people use it: a file, a run under it, and what is said of a file that is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.rows import a_row, finished_run
from fakes.runs import RUN
from servers.fleet import PIXEL, Deployment, deployed

from tagmill.worker.models import canonical_hash
from tagmill.worker.store.folder import Folder

POLICY = """
max_tags = 2
deny = ["*tone*"]
prefix = "ai:"
case = "upper"
"""


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with deployed(tmp_path) as deployment:
        (tmp_path / "photos").mkdir()
        for number in range(3):
            (tmp_path / f"photos/{number}.png").write_bytes(PIXEL)
        yield deployment


def refused(deployment: Deployment, *arguments: str, code: int = 2) -> str:
    program = deployment.finish(deployment.start(*arguments), code=code)
    assert program.stdout == ""
    (line,) = program.stderr.splitlines()
    return line


LIBRARY = [
    {"sky": 97, "blur": 41},
    {"automobile": 80, "sky": 70},
]
NEW = """
min_confidence = 50
[vocabulary]
automobile = "car"
"""


def test_a_policy_is_checked(deployment: Deployment) -> None:
    (deployment.folder / "policy.toml").write_text('deny = ["Blur", "blur"]\nmin_confidence = 50.0\n')
    said = deployment.finish(deployment.start("policy", "check", "policy.toml", "--json")).json
    assert said == {
        "schema": 1,
        "hash": canonical_hash({"min_confidence": 50, "deny": ["blur"]}),
        "policy": {"min_confidence": 50, "deny": ["blur"]},
    }
    shown = deployment.finish(deployment.start("policy", "check", "policy.toml")).stdout
    assert shown.startswith(f"{said['hash']}\n{{\n")
    (deployment.folder / "policy.toml").write_text("colour = 3")
    assert "policy.toml: colour is no key of a policy" in refused(
        deployment, "policy", "check", "policy.toml"
    )


def test_what_another_policy_would_change_is_shown_and_nothing_is_changed(deployment: Deployment) -> None:
    finished_run(Folder(deployment.store), [a_row(raw_tags={"auto": auto, "user": None}) for auto in LIBRARY])
    (deployment.folder / "new.toml").write_text(NEW)
    before = files_of(deployment)
    diff = ("policy", "diff", RUN)
    found = deployment.finish(
        deployment.start(*diff, "--policy", "new.toml", "--json", "--examples", "1")
    ).json
    shown = deployment.finish(deployment.start(*diff, TAGMILL_POLICY="new.toml")).stdout.splitlines()
    with deployment.explained():
        assert (found["images"], found["changed"], found["lost"]) == (2, 2, {"blur": 1})
        assert found["renamed"] == [{"from": "automobile", "to": "car", "images": 1}]
        assert len(found["examples"]) == 1
        assert shown[0] == "2 of 2 images change; 0 would have no tags left"
        assert "  renamed: automobile → car (1)" in shown
        assert files_of(deployment) == before
    assert refused(deployment, *diff) == "tagmill: name the other policy: --policy FILE"
    assert "no run nobody" in refused(deployment, "policy", "diff", "nobody", "--policy", "new.toml", code=3)


def files_of(deployment: Deployment) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in deployment.store.rglob("*") if path.is_file()}


def test_a_run_is_tagged_under_the_policy_that_its_file_held_at_the_start(deployment: Deployment) -> None:
    file = deployment.folder / "policy.toml"
    file.write_text(POLICY)
    run = deployment.finish(deployment.start("run", "photos", "--run-id", "mine", "--policy", "policy.toml"))
    file.write_text("max_tags = 1")
    deployment.finish(deployment.start("run", "--resume", "mine", TAGMILL_POLICY="policy.toml"))

    with deployment.explained():
        rows = deployment.run("mine").rows()
        (policy,) = {row["policy"] for row in rows}
        assert f"policy: {policy}" in run.stderr
        for row in rows:
            assert len(row["raw_tags"]["auto"]) > 2
            assert len(row["tags"]["auto"]) == 2
            assert all(name.startswith("ai:") and name[3:].isupper() for name in row["tags"]["auto"])
            sidecar = json.loads(
                (deployment.folder / f"photos/{row['source']['path']}.tags.json").read_text()
            )
            assert sidecar["tags"] == row["tags"]


def test_a_policy_that_is_wrong_or_missing_starts_nothing(deployment: Deployment) -> None:
    (deployment.folder / "policy.toml").write_text("max_tagz = 2")
    said = "tagmill: policy.toml: max_tagz is no key of a policy; did you mean max_tags?"
    assert refused(deployment, "run", "photos", "--policy", "policy.toml") == said
    by_environment = deployment.finish(
        deployment.start("run", "photos", TAGMILL_POLICY="policy.toml"), code=2
    )
    assert by_environment.stderr == f"{said}\n"
    gone = refused(deployment, "run", "photos", "--policy", "gone.toml", code=3)
    assert gone == "tagmill: no policy file gone.toml"
    frozen = refused(deployment, "run", "--resume", "mine", "--policy", "policy.toml")
    assert "--resume goes on with what was planned" in frozen
    assert not deployment.store.exists()
