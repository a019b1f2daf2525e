"""What is done to a finished run: retry, write again, undo. Each is a pass; nothing is paid for twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from servers.fleet import PIXEL, Deployment, Json, deployed, running_fleet
from servers.sandbox import running_sandbox
from servers.strict_s3 import running_strict_s3
from servers.strict_s3_http import Fault

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"
AWS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """A library of its own, and one run over it."""
    library = tmp_path / "photos"
    shutil.copytree(PHOTOS, library, ignore=shutil.ignore_patterns("*.tags.json", "damaged.jpg", "notes.jpg"))
    with deployed(tmp_path) as deployment:
        deployment.finish(deployment.start("run", "photos", "--run-id", "photos"))
        yield deployment


def rows_by_id(deployment: Deployment, run_id: str) -> dict[str, Json]:
    rows = deployment.run(run_id).rows()
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: row for row in rows}


def test_only_failed_images_are_asked_for_again(tmp_path: Path) -> None:
    with running_fleet(tmp_path, 60, latency_seconds=0.0) as fleet:
        deployment = fleet.deployment
        refused, broken = fleet.handles[3], fleet.handles[44]
        fleet.sandbox.faults(
            {"fault": "404", "images": [refused]}, {"fault": "unsupported", "images": [broken]}
        )
        deployment.worker()
        deployment.finish(fleet.run_all("twice"), code=1)
        paid = fleet.sandbox.stats()["calls"]
        fleet.sandbox.faults()
        listed = deployment.finish(deployment.start("failures", "twice", "--limit", "1", "--json")).json
        named = deployment.finish(deployment.start("failures", "twice", "--code", "missing")).stdout

        only = deployment.finish(
            deployment.start("retry", "twice", "--code", "missing", "--yes", "--json"), code=1
        ).json
        rest = deployment.finish(deployment.start("retry", "twice", "--yes", "--json"), code=0).json

        with deployment.explained():
            rows = rows_by_id(deployment, "twice")
            assert list(rows) == fleet.ids
            assert (listed["schema"], listed["failures"], len(listed["images"])) == (1, 2, 1)
            assert {(reason["code"], reason["images"]) for reason in listed["reasons"]} == {
                ("missing", 1),
                ("rejected", 1),
            }
            assert named.splitlines()[0] == "1 failed"
            assert f"filestack:{refused}: " in named
            assert (only["pass"], only["tagged"], only["failed"]) == (1, 59, 1)
            assert (rest["pass"], rest["tagged"], rest["failed"], rest["state"]) == (2, 60, 0, "completed")
            assert {row["pass"] for row in rows.values()} == {0, 1, 2}
            assert rows[f"filestack:{refused}"]["pass"] == 1
            assert [(row["shard"], row["index"]) for row in rows.values()] == [(0, n) for n in range(60)]
            assert fleet.sandbox.stats()["calls"] == paid + 2 == rest["calls"]
            assert sum(row["calls"] for row in rows.values()) == rest["calls"]
            assert (deployment.run("twice").folder / "failures.jsonl").read_text() == ""
            assert deployment.status("twice") == rest == deployment.run("twice").summary()


@pytest.mark.long
def test_a_pass_survives_the_death_of_everybody(tmp_path: Path) -> None:
    with running_fleet(tmp_path, 60, latency_seconds=0.0) as fleet:
        deployment = fleet.deployment
        fleet.sandbox.faults({"fault": "404"})
        worker = deployment.worker()
        deployment.finish(fleet.run_all("killed"), code=1)
        paid = fleet.sandbox.stats()["calls"]
        fleet.sandbox.faults(latency_ms=150)
        retry = deployment.start("retry", "killed", "--yes")
        fleet.await_calls(paid + 10)

        for process in [*worker.descendants(), *retry.descendants()]:
            process.kill()
        worker.kill()
        retry.kill()
        deployment.worker()
        fleet.hurry()
        resumed = deployment.finish(deployment.start("run", "--resume", "killed", "--json")).json

        with deployment.explained():
            assert list(rows_by_id(deployment, "killed")) == fleet.ids
            assert (resumed["pass"], resumed["tagged"], resumed["remaining"]) == (1, 60, 0)
            assert fleet.sandbox.stats()["calls"] - paid - 60 <= 2 * 4  # what was in flight
            assert fleet.sandbox.stats()["calls"] <= resumed["calls"]


def test_without_a_yes_or_anything_to_retry_no_pass_is_made(deployment: Deployment) -> None:
    refused = deployment.start("undo", "photos")
    deployment.finish(refused, code=2)
    assert "--yes" in refused.stderr.splitlines()[-1]
    retry = deployment.finish(deployment.start("retry", "photos", "--json"))
    assert "nothing to retry" in retry.stderr
    assert retry.json == deployment.run("photos").summary()
    assert not (deployment.run("photos").folder / "passes" / "0001").exists()


def test_a_run_that_goes_on_is_not_retried(tmp_path: Path) -> None:
    with running_fleet(tmp_path, 4) as fleet:
        deployment = fleet.deployment
        deployment.finish(fleet.run_all("planned", "--detach"))
        retry = deployment.finish(deployment.start("retry", "planned", "--yes"), code=2)
        assert "tagmill run --resume planned" in retry.stderr


def test_undo_removes_what_the_run_wrote_and_nothing_else(deployment: Deployment) -> None:
    library = deployment.folder / "photos"
    changed = library / "coffee.jpg.tags.json"
    before = json.loads(changed.read_text())
    changed.write_text(json.dumps({**before, "tags": {"auto": {"mine": 1}, "user": None}}))
    looked = deployment.finish(deployment.start("undo", "photos", "-n"))
    assert "sidecar" in looked.stderr
    assert len(list(library.rglob("*.tags.json"))) == 10

    undo = deployment.finish(deployment.start("undo", "photos", "--yes"))

    with deployment.explained():
        assert list(library.rglob("*.tags.json")) == [changed]
        assert f"left alone, changed since: file://{library / 'coffee.jpg'}" in undo.stdout
        summary = deployment.status("photos")
        assert (summary["pass"], summary["tagged"], summary["calls"]) == (1, 10, 10)
        assert (summary["writes"]["written"], summary["writes"]["stale"]) == (9, 1)
        rows = rows_by_id(deployment, "photos")
        assert all("undone" in row["flags"] and row["tags"]["auto"] for row in rows.values())

    again = deployment.finish(deployment.start("undo", "photos", "--yes", "--json")).json
    assert again["writes"]["unchanged"] == 9


def test_another_policy_costs_no_call(deployment: Deployment) -> None:
    (deployment.folder / "policy.toml").write_text('max_tags = 2\nprefix = "p-"\n')
    before = rows_by_id(deployment, "photos")

    retag = deployment.start("retag", "photos", "--policy", "policy.toml", "--yes", "--json")
    summary = deployment.finish(retag).json

    with deployment.explained():
        rows = rows_by_id(deployment, "photos")
        assert (summary["pass"], summary["tagged"], summary["calls"]) == (1, 10, 10)
        assert summary["writes"]["written"] == 10
        for image, row in rows.items():
            labels = row["tags"]["auto"]
            assert len(labels) == 2
            assert all(label.startswith("p-") for label in labels)
            for kept in ("raw_tags", "tagged_at", "engine_config", "calls"):
                assert row[kept] == before[image][kept]
            sidecar = json.loads(Path(f"{image.removeprefix('file://')}.tags.json").read_text())
            assert sidecar["tags"] == row["tags"]
            assert sidecar["policy"] == row["policy"] != before[image]["policy"]

    deployment.finish(deployment.start("undo", "photos", "--yes"))
    assert list((deployment.folder / "photos").rglob("*.tags.json")) == []


@pytest.mark.long
def test_the_failures_of_a_run_are_a_source(tmp_path: Path) -> None:
    with running_fleet(tmp_path, 20, latency_seconds=0.0) as fleet:
        deployment = fleet.deployment
        broken = fleet.handles[7]
        fleet.sandbox.faults({"fault": "unsupported", "images": [broken]})
        deployment.worker()
        deployment.finish(fleet.run_all("first"), code=1)
        fleet.sandbox.faults()
        failures = deployment.run("first").folder / "failures.jsonl"

        deployment.finish(deployment.start("run", str(failures), "--run-id", "second"))

        with deployment.explained():
            assert list(rows_by_id(deployment, "second")) == [f"filestack:{broken}"]


def test_failed_writes_are_repaired_without_a_call(tmp_path: Path) -> None:
    with ExitStack() as stack:
        s3 = stack.enter_context(running_strict_s3())
        sandbox = stack.enter_context(running_sandbox())
        bucket, client = s3.new_bucket(), s3.client()
        for number in range(12):
            client.put_object(Bucket=bucket, Key=f"in/{number:02d}.png", Body=PIXEL, ContentType="image/png")
        settings = {"TAGMILL_S3_ENDPOINT_URL": s3.url, "TAGMILL_PROBE": "off", **AWS}
        deployment = stack.enter_context(deployed(tmp_path, **sandbox.environment, **settings))
        s3.faults.always("CopyObject", lambda: Fault(403, "AccessDenied"))
        first = deployment.start("run", f"s3://{bucket}/in/", "--run-id", "closed", "--json")
        summary = deployment.finish(first, code=1).json
        assert (summary["tagged"], summary["writes"]["failed"]) == (12, 12)
        paid = sandbox.stats()["calls"]
        s3.faults.clear()

        repaired = deployment.finish(
            deployment.start("retry", "closed", "--writes-only", "--yes", "--json")
        ).json

        with deployment.explained():
            assert (repaired["writes"]["written"], repaired["writes"]["failed"]) == (12, 0)
            assert (repaired["pass"], repaired["calls"]) == (1, summary["calls"])
            assert sandbox.stats()["calls"] == paid
            heads = [client.head_object(Bucket=bucket, Key=f"in/{n:02d}.png") for n in range(12)]
            assert {head["Metadata"]["tagmill-run"] for head in heads} == {"closed"}

        s3.faults.always("CopyObject", lambda: Fault(403, "AccessDenied"))
        deployment.finish(deployment.start("undo", "closed", "--yes"), code=1)
        s3.faults.clear()
        again = deployment.finish(deployment.start("retry", "closed", "--writes-only", "--yes"))
        assert "nothing to write" in again.stderr  # what is to be undone is not written anew

        undone = deployment.finish(deployment.start("undo", "closed", "--yes", "--json")).json
        with deployment.explained():
            assert undone["writes"]["written"] == 12
            heads = [client.head_object(Bucket=bucket, Key=f"in/{n:02d}.png") for n in range(12)]
            assert [head["Metadata"] for head in heads] == [{}] * 12


def test_gc_says_first_and_deletes_only_when_told_to(deployment: Deployment) -> None:
    folder = deployment.run("photos").folder
    young = deployment.finish(deployment.start("gc", "--json")).json
    assert (young["deleted"], young["runs"]) == (False, [])
    said = deployment.finish(deployment.start("gc", "--older-than", "0d"))
    assert "run photos: completed since" in said.stdout
    assert "nothing was deleted" in said.stderr
    deployment.finish(deployment.start("gc", "--older-than", "0d", "--delete"), code=2)
    assert folder.exists()
    gone = deployment.start("gc", "--older-than", "0d", "--delete", "--yes", "--json")
    assert [run["run_id"] for run in deployment.finish(gone).json["runs"]] == ["photos"]
    assert not folder.exists()
    deployment.finish(deployment.start("status", "photos"), code=3)
