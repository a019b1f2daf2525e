"""SIGKILL and TERM at bad moments: every image ends as one row, and only calls in flight are paid again."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import servers.poison_worker
from servers.fleet import (
    PIXEL,
    WAIT_SECONDS,
    Deployment,
    Fleet,
    Program,
    RunFiles,
    any_alive,
    assert_all_tagged,
    assert_every_call_counted,
    assert_whole,
    deployed,
    paid_twice,
    running_fleet,
)
from servers.redis import running_redis
from servers.s3 import canned_s3

LANES = 4  #: calls in flight of a process
PROCESSES = 2  #: of a worker


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with running_fleet(tmp_path, 200) as fleet:
        yield fleet


def test_a_worker_killed_in_mid_chunk_costs_no_more_than_its_calls_in_flight(fleet: Fleet) -> None:
    deployment = fleet.deployment
    run = fleet.run_all("killed")
    doomed, _ = deployment.worker(), deployment.worker()
    fleet.await_calls(40)
    children = doomed.descendants()

    doomed.kill()
    fleet.hurry()

    deployment.until(lambda: not any_alive(children), "no child outlives it")
    deployment.finish(run)
    with deployment.explained():
        assert_all_tagged(deployment.run("killed"), fleet.ids)
        assert paid_twice(fleet.sandbox) <= PROCESSES * LANES
        assert_every_call_counted(deployment.run("killed"), fleet.sandbox.stats()["calls"])


def test_a_killed_child_is_replaced_and_costs_no_more_than_its_calls_in_flight(fleet: Fleet) -> None:
    deployment = fleet.deployment
    run = fleet.run_all("child")
    worker = deployment.worker()
    fleet.await_calls(40)

    worker.descendants()[0].kill()
    fleet.hurry()

    deployment.finish(run)
    with deployment.explained():
        assert worker.running
        assert_all_tagged(deployment.run("child"), fleet.ids)
        assert paid_twice(fleet.sandbox) <= LANES
        assert_every_call_counted(deployment.run("child"), fleet.sandbox.stats()["calls"])


@pytest.mark.long
def test_a_new_worker_finishes_what_a_fleet_left_that_was_killed_to_the_last(fleet: Fleet) -> None:
    deployment = fleet.deployment
    left = deployment.finish(fleet.run_all("last", "--detach", "--json")).json
    assert (left["state"], left["planned"], left["calls"]) == ("running", len(fleet.handles), 0)
    worker = deployment.worker()
    fleet.await_calls(40)
    worker.kill()
    fleet.hurry()

    deployment.worker()

    deployment.until(lambda: deployment.run("last").finished, "the run is finished")
    with deployment.explained():
        assert_all_tagged(deployment.run("last"), fleet.ids)
        assert paid_twice(fleet.sandbox) <= PROCESSES * LANES
        assert_every_call_counted(deployment.run("last"), fleet.sandbox.stats()["calls"])
        assert deployment.status("last") == deployment.run("last").summary()


def test_a_worker_that_is_told_to_stop_parks_its_chunks_and_nothing_is_paid_twice(fleet: Fleet) -> None:
    deployment = fleet.deployment
    run = fleet.run_all("term")
    first = deployment.worker()
    fleet.await_calls(40)

    first.terminate()

    deployment.finish(first, within=30)
    assert fleet.sandbox.stats()["calls"] < len(fleet.handles)
    fleet.hurry()
    deployment.worker()
    deployment.finish(run)
    with deployment.explained():
        rows = assert_all_tagged(deployment.run("term"), fleet.ids)
        assert fleet.sandbox.stats()["billed"] == len(fleet.handles)
        assert {(row["attempts"], row["calls"], row["maybe_charged"]) for row in rows} == {(1, 1, 0)}


def test_an_image_that_kills_its_worker_is_quarantined_and_the_others_are_tagged(tmp_path: Path) -> None:
    with running_fleet(tmp_path, 45) as fleet:
        deployment, poison = fleet.deployment, fleet.handles[27]
        run = fleet.run_all("poison")
        deployment.start_command(
            [sys.executable, "-m", servers.poison_worker.__name__, poison],
            "poison-worker",
            PYTHONPATH=str(Path(servers.poison_worker.__file__).parents[1]),
        )

        deployment.finish(run, code=1)

        with deployment.explained():
            rows = assert_whole(deployment.run("poison"), fleet.ids)
            assert {row["id"]: row["status"] for row in rows if row["status"] != "tagged"} == {
                f"filestack:{poison}": "quarantined"
            }
            [bad] = [row for row in rows if row["status"] == "quarantined"]
            assert bad["error"]["code"] == "quarantined"
            assert (
                bad["calls"] == bad["maybe_charged"] >= 2
            )  # intents at deaths; whether they left is unknown
            assert poison not in fleet.sandbox.stats(images=True)["images"]
            assert paid_twice(fleet.sandbox) <= LANES


# --- the producer -----------------------------------------------------------------------------------------


def test_a_folder_planned_by_a_producer_that_was_killed_is_planned_the_same(tmp_path: Path) -> None:
    library = tmp_path / "library"
    for number in range(1500):
        folder = library / f"{number % 7}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.{'txt' if number % 5 == 0 else 'jpg'}").write_bytes(b"x")
    settings = {
        "TAGMILL_SHARD_SIZE": "5",
        "TAGMILL_FILESTACK_API_KEY": "Akey",
        "TAGMILL_FILESTACK_APP_SECRET": "s",
    }
    with running_redis(0) as redis, deployed(tmp_path, TAGMILL_REDIS_URL=redis.url, **settings) as deployment:
        command = ["run", str(library), "--shared-path", "--detach", "--run-id"]
        deployment.finish(deployment.start(*command, "calm"))
        kill_in_mid_plan(deployment, deployment.start(*command, "killed"), "killed")

        deployment.finish(deployment.start("run", "--resume", "killed", "--detach"))

        assert deployment.run("killed").plan() == deployment.run("calm").plan()
        plans = [
            deployment.folder / "store/runs" / run / "passes/0000/plan.json" for run in ("calm", "killed")
        ]
        assert plans[0].read_bytes() == plans[1].read_bytes()


class HeldListing:
    """An S3 whose second page comes when it is let go: a producer that waits for it is in mid-plan."""

    def __init__(self, keys: list[str]) -> None:
        self._keys = keys
        self.reached, self.open = threading.Event(), threading.Event()

    def __call__(self, query: dict[str, str]) -> tuple[int, str]:
        after = query.get("continuation-token") or query.get("start-after", "")
        if after:
            self.reached.set()
            self.open.wait(WAIT_SECONDS)
        left = [key for key in self._keys if key > after]
        return 200, listing_page(left[:PAGE], more=len(left) > PAGE)


PAGE = 50


def listing_page(keys: list[str], *, more: bool) -> str:
    stamp = "<LastModified>2026-01-02T03:04:05.000Z</LastModified>"
    items = "".join(
        f'<Contents><Key>{key}</Key>{stamp}<ETag>"e"</ETag><Size>9</Size></Contents>' for key in keys
    )
    token = f"<NextContinuationToken>{keys[-1]}</NextContinuationToken>" if more else ""
    return (
        f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}{items}</ListBucketResult>"
    )


@pytest.mark.long
def test_a_run_whose_producer_was_killed_in_mid_plan_is_finished_by_resuming_it(tmp_path: Path) -> None:
    keys = [f"{number:05d}.png" for number in range(230)]
    library = tmp_path / "library"
    library.mkdir()
    for key in keys:
        (library / key).write_bytes(PIXEL)
    listing = HeldListing(keys)
    settings = {
        "TAGMILL_SHARD_SIZE": "20",
        "TAGMILL_FILESTACK_STORAGE_ALIAS": "library",
        "TAGMILL_WRITE_BACK": "none",
    }
    with (
        canned_s3(listing) as s3,
        running_fleet(
            tmp_path, 0, {**settings, **s3.environment}, aliases={"library": str(library)}
        ) as fleet,
    ):
        deployment, run = fleet.deployment, fleet.deployment.run("resumed")
        worker = deployment.worker()
        killed = deployment.start("run", "s3://bucket", "--run-id", "resumed")
        deployment.until(listing.reached.is_set, "the second page is asked for")
        deployment.until(lambda: len(run.plan()) == PAGE // 20, "the first page is planned")
        killed.kill()
        listing.open.set()

        resumed = deployment.finish(deployment.start("run", "--resume", "resumed", "--json"))

        worker.kill()  # nobody is to tag the images again for the run that only shows the plan
        elsewhere = tmp_path / "elsewhere"  # where nobody knows the source
        calm = ["run", "s3://bucket", "--run-id", "calm", "--run-store", str(elsewhere), "--detach"]
        deployment.finish(deployment.start(*calm))
        with deployment.explained():
            assert run.plan() == RunFiles(elsewhere / "runs" / "calm").plan()
            assert_all_tagged(run, [f"s3://bucket/{key}" for key in keys])
            assert resumed.json == run.summary()
            requests = fleet.sandbox.stats(images=True)["images"]
            assert {requests[f"src://library/{key}"]["billed"] for key in keys} == {1}


def kill_in_mid_plan(deployment: Deployment, producer: Program, run_id: str) -> None:
    deployment.until(lambda: len(deployment.run(run_id).plan()) >= 3, "three shards are planned")
    producer.process.send_signal(signal.SIGKILL)
    assert producer.wait() == -signal.SIGKILL
    assert not deployment.run(run_id).planned
