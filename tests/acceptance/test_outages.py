"""What the fleet stands on goes away for a while, or refuses it: nothing is lost, little is paid again."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from servers.fleet import (
    LATENCY_SECONDS,
    Fleet,
    assert_all_tagged,
    assert_every_call_counted,
    assert_whole,
    deployed,
    logged_calls,
    paid_twice,
    running_fleet,
    stock,
)
from servers.redis import free_port, running_redis
from servers.sandbox import running_sandbox

CHUNK = 20
LANES, PROCESSES = 4, 2
OPEN_IMAGES = 2 * PROCESSES * CHUNK  #: of the chunks that two workers work on


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with running_fleet(tmp_path, 240) as fleet:
        yield fleet


# --- Redis ------------------------------------------------------------------------------------------------


def test_a_run_finishes_after_all_messages_of_the_broker_are_deleted(fleet: Fleet) -> None:
    deployment = fleet.deployment
    run = fleet.run_all("messages")
    deployment.worker()
    fleet.await_calls(30)

    with fleet.redis.sync_client() as client:
        assert client.delete("tagmill:backfill") == 1
        client.delete("tagmill:unacked", "tagmill:unacked_index")
    fleet.hurry()

    deployment.finish(run)
    with deployment.explained():
        assert_all_tagged(deployment.run("messages"), fleet.ids)
        assert fleet.sandbox.stats()["billed"] == len(fleet.handles)


def test_a_flush_of_redis_costs_at_most_the_open_chunks(fleet: Fleet) -> None:
    deployment = fleet.deployment
    run = fleet.run_all("flushed")
    deployment.worker()
    deployment.worker()
    fleet.await_calls(70)

    with fleet.redis.sync_client() as client:
        client.flushall()
    fleet.hurry()

    deployment.finish(run)
    with deployment.explained():
        assert_all_tagged(deployment.run("flushed"), fleet.ids)
        assert paid_twice(fleet.sandbox) <= OPEN_IMAGES
        # A worker that lost its chunk cannot know which of its calls the next one still found journaled.
        excess = deployment.run("flushed").summary()["calls"] - fleet.sandbox.stats()["calls"]
        assert 0 <= excess <= OPEN_IMAGES


def test_a_redis_that_is_killed_and_comes_back_costs_nothing(fleet: Fleet) -> None:
    deployment = fleet.deployment
    run = fleet.run_all("restarted")
    deployment.worker()
    fleet.await_calls(70)

    fleet.redis.restart()

    fleet.hurry()
    deployment.finish(run)
    with deployment.explained():
        assert_all_tagged(deployment.run("restarted"), fleet.ids)
        assert paid_twice(fleet.sandbox) <= PROCESSES * LANES
        assert_every_call_counted(deployment.run("restarted"), fleet.sandbox.stats()["calls"])


def test_a_worker_with_a_process_to_spare_outlives_an_outage_of_redis(tmp_path: Path) -> None:
    """One process works, the other waits for a message: kombu's connections notice one after the other."""
    settings = {"TAGMILL_CHUNK_SIZE": "40", "TAGMILL_RATE": "10/s"}
    with running_fleet(tmp_path, 40, settings) as fleet:
        deployment = fleet.deployment
        run = fleet.run_all("outlived")
        worker = deployment.worker()
        fleet.await_calls(5)

        worker.process.send_signal(signal.SIGSTOP)
        with fleet.redis.sync_client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")  # the broadcasts' first, if it has any
        fleet.redis.kill()
        worker.process.send_signal(signal.SIGCONT)
        deployment.until(lambda: "Cannot connect" in worker.stderr, "the worker waits for Redis")
        fleet.redis.restart()

        deployment.finish(run)
        with deployment.explained():
            assert_all_tagged(deployment.run("outlived"), fleet.ids)
            assert worker.running
            assert "Traceback" not in worker.stderr
            assert "Warning" not in worker.stderr


# --- the service ------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_service_that_is_down_fails_no_image_and_costs_no_attempt(tmp_path: Path) -> None:
    """Only calls that were cut off in flight may count: they may have been answered, and paid."""
    data, port = tmp_path / "sandbox", free_port()
    handles = stock(data, 160)
    config = {"data_folder": str(data), "cache": False, "latency_seconds": LATENCY_SECONDS, "port": port}
    with ExitStack() as stack:
        server = stack.enter_context(running_redis(0, aof=True))
        first = stack.enter_context(running_sandbox(**config))
        deployment = stack.enter_context(
            deployed(tmp_path, TAGMILL_REDIS_URL=server.url, **first.environment)
        )
        fleet = Fleet(server, first, deployment, handles)
        run = fleet.run_all("down")
        deployment.worker()
        fleet.await_calls(40)

        first.process.kill()
        first.process.wait()
        calls = len(logged_calls(data))
        with fleet.redis.sync_client() as client:
            deployment.until(lambda: is_calling_off(client), "calling is off")
        fleet.sandbox = stack.enter_context(running_sandbox(**config))
        fleet.hurry()

        deployment.finish(run)
        with deployment.explained():
            rows = assert_all_tagged(deployment.run("down"), fleet.ids)
            assert {row["attempts"] - row["maybe_charged"] for row in rows} == {1}
            assert sum(row["maybe_charged"] for row in rows) <= PROCESSES * LANES
            assert_every_call_counted(deployment.run("down"), calls + fleet.sandbox.stats()["calls"])


@pytest.mark.long
def test_a_service_that_answers_500_for_a_while_fails_no_image(fleet: Fleet) -> None:
    deployment = fleet.deployment
    run = fleet.run_all("failing")
    deployment.worker()
    fleet.await_calls(40)

    fleet.sandbox.faults({"fault": "500"})
    with fleet.redis.sync_client() as client:
        deployment.until(lambda: is_calling_off(client), "calling is off")
    fleet.sandbox.faults(latency_ms=0)

    deployment.finish(run)
    with deployment.explained():
        rows = assert_all_tagged(deployment.run("failing"), fleet.ids)
        assert max(row["attempts"] for row in rows) <= 3
        assert sum(row["calls"] for row in rows) == fleet.sandbox.stats()["calls"]


def is_calling_off(client: redis.Redis) -> bool:
    return any(client.hexists(key, "opened") for key in client.scan_iter("tagmill:breaker:*"))


def test_throttling_slows_the_fleet_down_and_fails_no_image(tmp_path: Path) -> None:
    limits = {"rate_limit": "40/s", "latency_seconds": 0}
    with running_fleet(tmp_path, 160, {"TAGMILL_RATE": "200/s"}, **limits) as fleet:
        deployment = fleet.deployment
        run = fleet.run_all("throttled", "--json")
        deployment.worker()

        deployment.finish(run)

        with deployment.explained():
            rows = assert_all_tagged(deployment.run("throttled"), fleet.ids)
            stats = fleet.sandbox.stats()
            assert stats["billed"] == len(fleet.handles)
            assert 0 < stats["throttled"] < len(fleet.handles)
            assert 0 < run.json["throttled"] <= stats["throttled"]
            assert {row["attempts"] for row in rows} == {1}
            assert sum(row["calls"] for row in rows) == stats["calls"]


# --- the account ------------------------------------------------------------------------------------------


def test_a_wrong_secret_pauses_the_run_and_the_right_one_finishes_it(tmp_path: Path) -> None:
    with running_fleet(tmp_path, 120, {"TAGMILL_CONCURRENCY": "16"}) as fleet:
        deployment, refused = fleet.deployment, fleet.handles[50]
        wrong = {"TAGMILL_FILESTACK_APP_SECRET": "not-the-secret"}
        run = fleet.run_all("refused", **wrong)
        worker = deployment.worker(**wrong)

        deployment.finish(run, code=7)

        with deployment.explained():
            assert sum("Filestack denies access" in line for line in run.stdout.splitlines()) == 1
            assert "tagmill resume refused" in run.stdout
            assert "Traceback" not in run.stderr + worker.stderr
            assert fleet.sandbox.stats()["by_status"].keys() == {"403"}
            assert not deployment.run("refused").parts()
        deployment.until(lambda: not is_working(fleet), "all chunks are given back")
        denied = fleet.sandbox.stats()["calls"]
        assert denied <= PROCESSES * 16 * 2
        worker.kill()

        fleet.sandbox.faults({"fault": "403", "images": [refused]})
        deployment.worker()
        deployment.finish(deployment.start("run", "--resume", "refused"), code=1)

        with deployment.explained():
            rows = assert_whole(deployment.run("refused"), fleet.ids)
            assert [row["id"] for row in rows if row["status"] != "tagged"] == [f"filestack:{refused}"]
            assert_every_call_counted(deployment.run("refused"), fleet.sandbox.stats()["calls"])


def is_working(fleet: Fleet) -> bool:
    with fleet.redis.sync_client() as client:
        return any(True for _ in client.scan_iter("tagmill:lease:*"))
