"""A pipeline of tasks as people use it: each is paid once whoever dies, and rules are changed for nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from servers.fleet import Deployment, Fleet, Json, assert_all_tagged, assert_every_call_counted, running_fleet

PIPELINE = """
[tasks.tags_1]
task = "tags"

[tasks.safe]
task = "sfw"
after = "tags_1"

[tasks.words]
task = "caption"
after = "safe"
when = "sfw eq true"

[[rules]]
when = "sfw eq false"
label = "needs-review"

[[rules]]
when = 'caption kex "red"'
add_tag = "warm"
confidence = 70
"""
OTHER_RULES = """
min_confidence = 90

[[rules]]
when = 'caption kex "blue"'
label = "cold"
"""
MOST_IN_FLIGHT = 8  #: of one worker: processes times lanes


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with running_fleet(tmp_path, 40, latency_seconds=0.0) as fleet:
        (tmp_path / "pipeline.toml").write_text(PIPELINE)
        yield fleet


@pytest.mark.long
def test_a_worker_that_dies_between_tasks_leaves_none_to_be_paid_again(fleet: Fleet) -> None:
    deployment = fleet.deployment
    fleet.sandbox.faults(latency_ms=60)
    worker = deployment.worker()
    run = fleet.run_all("piped", "--pipeline", "pipeline.toml", "--json")
    fleet.await_calls(50)
    for process in [*worker.descendants()]:
        process.kill()
    worker.kill()
    fleet.hurry()
    deployment.worker()
    summary = deployment.finish(run).json
    with deployment.explained():
        rows = assert_all_tagged(deployment.run("piped"), fleet.ids)
        assert {tuple(row["results"]) for row in rows} == {("tags_1", "safe", "words")}
        assert all(row["tags"]["auto"].items() <= row["raw_tags"]["auto"].items() for row in rows)
        billed = sum(image["billed"] for image in fleet.sandbox.stats(images=True)["images"].values())
        assert 120 <= billed <= 120 + MOST_IN_FLIGHT
        assert_every_call_counted(deployment.run("piped"), fleet.sandbox.stats()["calls"])
        assert 120 <= summary["calls"] <= 120 + summary["maybe_charged"] <= 120 + MOST_IN_FLIGHT


def test_tasks_run_as_rules_say_and_other_rules_cost_no_call(fleet: Fleet) -> None:
    deployment, folder = fleet.deployment, fleet.deployment.folder
    (folder / "other.toml").write_text(OTHER_RULES)
    (folder / "photos").mkdir()
    for colour in ("red", "blue", "magenta"):
        Image.new("RGB", (64, 48), colour).save(folder / f"photos/{colour}.png")
    source = ("photos", "--shared-path", "--pipeline", "pipeline.toml", "--run-id", "colours")
    plan = deployment.finish(
        deployment.start("plan", "photos", "--shared-path", "--pipeline", "pipeline.toml")
    )
    worker = deployment.worker()
    run = deployment.finish(deployment.start("run", *source, "--run-id", "colours"))
    first, sidecars = (
        rows_of(deployment),
        {path.name: read(path) for path in (folder / "photos").glob("*.json")},
    )
    paid = fleet.sandbox.stats()["calls"]
    retag = ("retag", "colours", "--policy", "other.toml", "--yes")
    diff = deployment.finish(
        deployment.start("policy", "diff", "colours", "--policy", "other.toml", "--json")
    ).json
    deployment.finish(deployment.start(*retag))
    second = rows_of(deployment)
    deployment.finish(deployment.start("undo", "colours", "--yes"))
    worker.terminate()

    with deployment.explained():
        assert "  calls: 6 to 9 and what is retried" in plan.stdout.splitlines()
        assert "with filestack (tags_1, safe, words) at" in run.stderr
        calls = {
            name: (row["calls"], row["labels"], row["tags"]["auto"].get("warm"))
            for name, row in first.items()
        }
        assert calls == {
            "blue.png": (3, [], None),
            "magenta.png": (2, ["needs-review"], None),
            "red.png": (3, [], 70),
        }
        assert first["red.png"]["results"]["safe"] == {"data": {"sfw": True}}
        assert first["red.png"]["raw_tags"] == first["red.png"]["results"]["tags_1"]["data"]["tags"]
        for name, row in first.items():
            assert sidecars[f"{name}.tags.json"]["tags"] == row["tags"]
            assert sidecars[f"{name}.tags.json"].get("labels", []) == row["labels"]
        assert {name: row["labels"] for name, row in second.items()} == {
            "blue.png": ["cold"],
            "magenta.png": [],
            "red.png": [],
        }
        assert (diff["labels_gained"], diff["labels_lost"]) == ({"cold": 1}, {"needs-review": 1})
        assert "warm" in diff["lost"]
        assert fleet.sandbox.stats()["calls"] == paid == 8
        assert list((folder / "photos").glob("*.json")) == []


def test_a_retry_takes_up_tasks_that_failed_and_pays_for_no_other(tmp_path: Path) -> None:
    with running_fleet(tmp_path, 3, latency_seconds=0.0) as fleet:
        deployment, lost = fleet.deployment, fleet.handles[0]
        (tmp_path / "pipeline.toml").write_text(
            '[tasks.tags]\n[tasks.words]\ntask = "caption"\nafter = "tags"\n[tasks.safe]\ntask = "sfw"\n'
        )
        deployment.worker()
        fleet.sandbox.faults({"operation": "caption", "fault": "400", "images": fleet.handles[:2]})
        run = fleet.run_all("partly", "--pipeline", "pipeline.toml", "--json")
        assert deployment.finish(run).json["calls"] == 9
        before = {row["source"]["handle"]: row for row in deployment.run("partly").rows()}
        retry = ("retry", "partly", "--tasks-only", "--yes", "--json")

        fleet.sandbox.faults({"operation": "caption", "fault": "404", "images": [lost]})
        again = deployment.finish(deployment.start(*retry)).json
        after = {row["source"]["handle"]: row for row in deployment.run("partly").rows()}

    with deployment.explained():
        assert (again["pass"], again["calls"], again["tagged"], again["failed"]) == (1, 11, 3, 0)
        assert [len(row["flags"]) for row in before.values()] == [1, 1, 0]
        assert {handle: row["flags"] for handle, row in after.items() if row["flags"]} == {lost: ["partial"]}
        assert after[lost]["results"]["words"]["error"]["code"] == "missing"
        assert all(after[one]["results"]["words"]["data"]["caption"] for one in fleet.handles[1:])
        assert {one: row["raw_tags"] for one, row in after.items()} == {
            one: row["raw_tags"] for one, row in before.items()
        }


def test_a_pipeline_that_is_wrong_starts_nothing_and_is_drawn_when_it_is_right(fleet: Fleet) -> None:
    deployment = fleet.deployment
    drawn = deployment.finish(deployment.start("pipeline", "show", "pipeline.toml", "--format", "mermaid"))
    (deployment.folder / "wrong.toml").write_text('[tasks.safe]\ntask = "sfw"\nwhen = "sfw eq true"\n')
    said = "tagmill: wrong.toml: safe: `when` needs `after`, the task on whose answer it is\n"
    for arguments in (("run", "-"), ("pipeline", "show", "wrong.toml")):
        program = deployment.start(*arguments, TAGMILL_PIPELINE="wrong.toml")
        assert (deployment.finish(program, code=2).stdout, program.stderr) == ("", said)
    style = deployment.finish(
        deployment.start("pipeline", "show", "pipeline.toml", "--format", "svg"), code=2
    )
    both = deployment.finish(
        deployment.start(
            *("run", "-", "--pipeline", "pipeline.toml", "--engine", "filestack-workflow"),
            *("--workflow-id", "11111111-2222-4333-8444-555555555555"),
        ),
        code=2,
    )
    assert drawn.stdout.startswith("flowchart TD\n  image([image])\n")
    assert style.stderr == "tagmill: --format svg: use one of text, mermaid\n"
    assert both.stderr.startswith("tagmill: --engine filestack-workflow has tasks of its own: leave out")
    assert not (deployment.store / "runs").exists()


def rows_of(deployment: Deployment) -> dict[str, Json]:
    return {row["source"]["path"]: row for row in deployment.run("colours").rows()}


def read(path: Path) -> Json:
    content: Json = json.loads(path.read_text())
    return content
