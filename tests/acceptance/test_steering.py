"""Runs are paused, resumed, changed and cancelled from another process; what is paid for is never dropped."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.fleet import (
    SUMMARY_KEYS,
    Deployment,
    Fleet,
    Json,
    Program,
    RunFiles,
    assert_all_tagged,
    assert_every_call_counted,
    deployed,
    paid_twice,
    running_fleet,
)

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"
CHUNK = 20


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with running_fleet(tmp_path, 200) as fleet:
        yield fleet


def say(deployment: Deployment, *arguments: str, code: int = 0) -> Program:
    """Finish `tagmill ARGUMENTS`."""
    return deployment.finish(deployment.start(*arguments), code=code)


def tagged(run: RunFiles) -> list[Json]:
    return [row for row in run.rows() if row["status"] == "tagged"]


def billed(fleet: Fleet) -> set[str]:
    images = fleet.sandbox.stats(images=True)["images"]
    return {f"filestack:{name}" for name, image in images.items() if image["billed"]}


def assert_cancelled(run: RunFiles, ids: list[str]) -> dict[str, list[str]]:
    """Every image has one row, in plan order; return their ids by status."""
    summary, rows = run.summary(), run.rows()
    assert [row["id"] for row in rows] == ids[: len(rows)]
    assert (summary["state"], summary["planned"], summary["remaining"]) == ("cancelled", len(rows), 0)
    assert run.finished
    by_status: dict[str, list[str]] = {"tagged": [], "cancelled": []}
    for row in rows:
        by_status[row["status"]].append(row["id"])
    assert {name: summary[name] for name in by_status} == {name: len(of) for name, of in by_status.items()}
    return by_status


# --- a fleet ----------------------------------------------------------------------------------------------


def test_a_paused_run_waits_and_goes_on_when_it_is_resumed(fleet: Fleet) -> None:
    deployment = fleet.deployment
    deployment.worker()
    run = fleet.run_all("paused", "--json")
    fleet.await_calls(30)

    paused = say(deployment, "pause", "paused", "--json").json
    say(deployment, "pause", "paused")  # once more changes nothing

    deployment.finish(run, code=12)
    with deployment.explained():
        assert list(paused) == SUMMARY_KEYS
        assert (run.json["state"], run.json["reason"]) == (paused["state"], paused["reason"])
        assert (paused["state"], paused["reason"]) == ("paused", "requested")
        [control] = deployment.run("paused").controls()
        assert " on " in control["by"]

    deployment.until(lambda: no_chunk_in_work(fleet), "the calls in flight are finished")
    calls = fleet.sandbox.stats()["calls"]
    assert calls < len(fleet.ids)
    fleet.hurry()
    resumed = say(deployment, "resume", "paused", "--json").json
    assert resumed["state"] == "running"
    deployment.until(lambda: deployment.run("paused").finished, "the workers go on without a producer")
    with deployment.explained():
        assert_all_tagged(deployment.run("paused"), fleet.ids)
        assert paid_twice(fleet.sandbox) == 0


def no_chunk_in_work(fleet: Fleet) -> bool:
    with fleet.redis.sync_client() as client:
        return not list(client.scan_iter("tagmill:lease:*"))


def test_a_cancelled_run_keeps_every_answer_that_was_paid_for(fleet: Fleet) -> None:
    deployment = fleet.deployment
    workers = [deployment.worker(), deployment.worker()]
    run = fleet.run_all("ended")
    fleet.await_calls(30)
    workers[0].kill()  # its chunks wait for the end of their leases

    cancelled = say(deployment, "cancel", "ended", "--yes", "--json")

    deployment.finish(run, code=12)
    files = deployment.run("ended")
    with deployment.explained():
        by_status = assert_cancelled(files, fleet.ids)
        assert cancelled.json == files.summary()
        in_flight_at_the_kill = 2 * 4
        assert len(billed(fleet) - set(by_status["tagged"])) <= in_flight_at_the_kill
        assert set(by_status["tagged"]) <= billed(fleet)
        assert by_status["cancelled"]
        assert_every_call_counted(files, fleet.sandbox.stats()["calls"])

    for verb in (["resume"], ["run", "--resume"], ["retry", "--yes"], ["pause"], ["set", "--rate", "1/s"]):
        refused = say(deployment, *verb, "ended", code=2)
        assert len(refused.stderr.splitlines()) == 1
        assert "cancelled" in refused.stderr
    again = say(deployment, "cancel", "ended", "--json")
    assert again.json == cancelled.json


@pytest.mark.long
def test_without_workers_a_run_is_cancelled_by_the_command_itself(fleet: Fleet) -> None:
    """And what was paid before a pause is in the journal only."""
    deployment = fleet.deployment
    worker = deployment.worker()
    run = fleet.run_all("ended", TAGMILL_CHUNK_SIZE="100")
    fleet.await_calls(30)
    say(deployment, "pause", "ended")
    deployment.finish(run, code=12)
    worker.terminate()
    deployment.finish(worker)

    say(deployment, "cancel", "ended", "--yes")

    with deployment.explained():
        by_status = assert_cancelled(deployment.run("ended"), fleet.ids)
        assert set(by_status["tagged"]) == billed(fleet)
        assert len(by_status["tagged"]) >= 30
        assert deployment.run("ended").summary()["calls"] == fleet.sandbox.stats()["calls"]


def test_planning_stops_at_once_and_what_is_not_planned_gets_no_rows(tmp_path: Path) -> None:
    with running_fleet(tmp_path, 40, {"TAGMILL_SHARD_SIZE": "10"}) as fleet:
        deployment = fleet.deployment
        run = deployment.start("run", "-", "--run-id", "cut", "--detach", said=None)
        with run.stdin as stdin:
            stdin.write("\n".join(fleet.handles).encode())
        deployment.finish(run)
        planned = deployment.run("cut").first_pass
        (planned / "plan.json").unlink()  # as if the producer had died after two shards
        for shard in ("00000002", "00000003"):
            (planned / "plan" / f"{shard}.jsonl.gz").unlink()

        say(deployment, "cancel", "cut", "--yes")

        with deployment.explained():
            by_status = assert_cancelled(deployment.run("cut"), fleet.ids)
            assert len(by_status["cancelled"]) == 20
            assert fleet.sandbox.stats()["calls"] == 0


def test_a_rate_that_is_set_holds_at_once(fleet: Fleet) -> None:
    deployment = fleet.deployment
    deployment.worker()
    run = fleet.run_all("faster", "--rate", "2/s")
    fleet.await_calls(3)

    refused = say(deployment, "set", "faster", "--rate", "1000/s", code=2)
    changed = say(deployment, "set", "faster", "--rate", "1000/s", "--concurrency", "8", "--yes", "--json")

    deployment.finish(run)  # at the old rate it would take longer than a test is waited for
    with deployment.explained():
        assert "rate from 2/s to 1000/s" in refused.stderr
        assert "--yes" in refused.stderr
        assert (changed.json["rate"], changed.json["concurrency"]) == ("1000/s", 8)
        assert_all_tagged(deployment.run("faster"), fleet.ids)
        assert paid_twice(fleet.sandbox) == 0
    assert "completed" in say(deployment, "set", "faster", "--rate", "1/s", code=2).stderr


# --- on one machine ---------------------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Deployment]:
    """Ten photographs, one call a second."""
    photos = tmp_path / "photos"
    shutil.copytree(PHOTOS, photos, ignore=shutil.ignore_patterns("*.tags.json", "damaged.jpg", "notes.jpg"))
    with deployed(tmp_path, TAGMILL_RATE="1/s") as deployment:
        yield deployment


def sidecars(deployment: Deployment) -> list[Path]:
    return list((deployment.folder / "photos").rglob("*.tags.json"))


def await_tagged(deployment: Deployment) -> None:
    deployment.until(lambda: len(sidecars(deployment)) >= 2, "two images are tagged")


def test_an_embedded_run_is_paused_and_resumed_from_another_terminal(library: Deployment) -> None:
    run = library.start("run", "photos", "--run-id", "photos", "--json")
    await_tagged(library)

    say(library, "pause", "photos")

    library.finish(run, code=12)
    assert run.json["state"] == "paused"
    resumed = library.finish(library.start("resume", "photos", "--json", TAGMILL_RATE="1000/s"))
    with library.explained():
        assert resumed.json["state"] == "completed"
        assert resumed.json["calls"] == resumed.json["tagged"] == len(sidecars(library))
    assert "completed" in say(library, "pause", "photos", code=2).stderr


def test_an_embedded_run_is_cancelled_while_it_goes_on(library: Deployment) -> None:
    run = library.start("run", "photos", "--run-id", "photos", "--json")
    await_tagged(library)

    cancelled = say(library, "cancel", "photos", "--yes", "--json")

    library.finish(run, code=12)
    with library.explained():
        assert run.json == cancelled.json == library.run("photos").summary()
        counts = Counter(row["status"] for row in library.run("photos").rows())
        assert counts["cancelled"] == run.json["cancelled"] > 0
        assert counts["tagged"] == run.json["calls"]


@pytest.mark.long
def test_an_embedded_run_that_nobody_works_on_is_cancelled_and_can_be_undone(library: Deployment) -> None:
    run = library.start("run", "photos", "--run-id", "photos")
    await_tagged(library)
    run.interrupt()
    library.finish(run, code=130)
    written = len(sidecars(library))

    say(library, "cancel", "photos", "--yes")

    rows = library.run("photos").rows()
    assert len([row for row in rows if row["status"] == "tagged"]) == written >= 2
    assert len([row for row in rows if row["status"] == "cancelled"]) == len(rows) - written > 0
    undone = say(library, "undo", "photos", "--yes", "--json", code=12)
    assert (undone.json["state"], undone.json["pass"]) == ("cancelled", 1)
    assert sidecars(library) == []
