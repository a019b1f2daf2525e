"""What runs are doing, as told from outside: status, watch and list."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.fleet import SUMMARY_KEYS, Deployment, Fleet, Json, Program, running_fleet

DETAILS_KEYS = [
    *("schema", "at", "run", "kind", "lane", "source", "created_at", "planning", "control", "caps", "errors"),
    *("pace", "workers", "limiter", "breaker", "foreign_messages"),
]
PACE_KEYS = ["images_per_second", "average_per_second", "limit_per_second", "limiter_share", "eta_s"]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with running_fleet(tmp_path, 200) as fleet:
        yield fleet


def say(deployment: Deployment, *arguments: str, code: int = 0) -> Program:
    return deployment.finish(deployment.start(*arguments), code=code)


def details(deployment: Deployment, run_id: str) -> Json:
    return say(deployment, "status", run_id, "--details", "--json").json


def test_a_run_is_watched_and_looked_at_closely_while_it_goes_on(fleet: Fleet) -> None:
    deployment = fleet.deployment
    deployment.worker()
    (deployment.folder / "list.txt").write_text("\n".join([*fleet.handles, "no handle!"]))
    run = deployment.start("run", "list.txt", "--run-id", "seen", "--rate", "5/s")
    fleet.await_calls(10)
    screens = [deployment.start("watch", "seen", *how) for how in ((), ("--json", "--interval", "0.5"))]
    commands = ["status", "seen", "--details", "--json"], ["status", "seen"], ["list", "--json"]
    programs = [deployment.start(*command) for command in commands]
    looked, text, listed = (deployment.finish(program) for program in programs)
    deployment.until(lambda: all(screen.stdout for screen in screens), "both watch")
    say(deployment, "set", "seen", "--rate", "1000/s", "--yes")

    deployment.finish(run, code=1)
    for screen in screens:
        deployment.finish(screen, code=1)
    with deployment.explained():
        seen = looked.json
        assert (list(seen), list(seen["run"]), list(seen["pace"])) == (DETAILS_KEYS, SUMMARY_KEYS, PACE_KEYS)
        assert (seen["schema"], seen["run"]["state"], seen["caps"]["rate"]) == (1, "running", "5/s")
        assert seen["pace"]["limit_per_second"] == 5.0
        [worker] = seen["workers"]
        assert (worker["alive"], worker["processes"]) == (True, 2)
        assert worker["chunks"]
        assert seen["limiter"] == {"blocked_s": 0.0, "share_of_rate": 1.0}
        assert f"worker {worker['name']} (2 processes)" in text.stdout
        assert "ETA" in text.stdout

        [in_list] = listed.json["runs"]
        assert (listed.json["schema"], in_list["run_id"], in_list["state"]) == (1, "seen", "running")
        assert in_list["planned"] == 201
        assert in_list["tagged"] >= 5

        looks = [json.loads(line) for line in screens[1].stdout.splitlines()]
        assert [look["run"]["state"] for look in looks[:-1]] == ["running"] * (len(looks) - 1)
        assert looks[-1]["run"] == deployment.run("seen").summary()
        assert looks[-1]["errors"] == {"bad_line": 1}
        assert "run seen: completed, 201 images" in screens[0].stdout
        assert "errors: 1 bad_line" in say(deployment, "status", "seen").stdout
        [in_list] = say(deployment, "list", "--json").json["runs"]
        assert (in_list["state"], in_list["failed"], in_list["calls"]) == ("completed", 1, 200)
        assert "completed  201 images, 200 tagged, 1 failed" in say(deployment, "list").stdout


@pytest.mark.long
def test_after_a_flush_the_counts_are_those_of_the_files_and_then_of_redis_again(fleet: Fleet) -> None:
    """Nobody works meanwhile, so that nothing but the flush could change them."""
    deployment = fleet.deployment
    worker = deployment.worker()
    run = fleet.run_all("wiped")
    fleet.await_calls(60)
    say(deployment, "pause", "wiped")
    deployment.finish(run, code=12)
    worker.terminate()
    deployment.finish(worker)
    committed = 20 * len(deployment.run("wiped").parts())
    assert committed

    with fleet.redis.sync_client() as client:
        client.flushall()
        by_files = details(deployment, "wiped")
        assert not client.exists("tagmill:counted:wiped:0000")
        deployment.worker()
        deployment.until(lambda: client.exists("tagmill:counted:wiped:0000"), "a worker recounts")
        by_redis = details(deployment, "wiped")

    with deployment.explained():
        assert by_files["run"]["tagged"] == by_redis["run"]["tagged"] == committed
        assert by_files["run"]["remaining"] == by_redis["run"]["remaining"] == 200 - committed
        assert by_files["run"]["calls"] == by_redis["run"]["calls"] == committed


def test_without_redis_status_tells_what_the_files_do(fleet: Fleet) -> None:
    deployment = fleet.deployment
    deployment.finish(fleet.run_all("planned", "--detach"))
    fleet.redis.kill()
    told = deployment.finish(deployment.start("status", "planned", "--details", "--json"))
    assert (told.json["run"]["planned"], told.json["workers"]) == (200, None)
    assert "from the run store" in told.stderr


@pytest.mark.long
def test_the_end_of_a_steady_run_is_known_to_a_tenth_after_a_twentieth_of_it(tmp_path: Path) -> None:
    """A minute at 20 calls a second, looked at every other second until little is left."""
    with running_fleet(tmp_path, 1_200, {"TAGMILL_CHUNK_SIZE": "50"}, load=True) as fleet:
        deployment = fleet.deployment
        deployment.worker()
        deployment.worker()
        run = fleet.run_all("steady", "--rate", "20/s")
        fleet.await_calls(60)
        watch = deployment.start("watch", "steady", "--json")
        deployment.finish(run, within=120)
        deployment.finish(watch)

        looks = [json.loads(line) for line in watch.stdout.splitlines()]
        ended = looks[-1]["run"]["duration_s"]
        guesses = [
            (ended - look["run"]["duration_s"], look["pace"]["eta_s"])
            for look in looks
            if look["run"]["remaining"] > 100
        ]
        with deployment.explained():
            assert len(guesses) > 10
            assert [pair for pair in guesses if abs(pair[1] - pair[0]) > 0.1 * pair[0]] == []
