"""A tag policy as people use it: a file, a run under it, and what is said of a file that is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.fleet import PIXEL, Deployment, deployed

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
