"""A cap is a wall: what the service bills stays within it, through kills and a wiped Redis, and gets near."""

from __future__ import annotations

import shutil
from pathlib import Path

from servers.fleet import Fleet, assert_whole, deployed, logged_calls, running_fleet

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"
IN_FLIGHT = 2 * 4  #: processes of a worker and their lanes


def test_no_call_beyond_a_cap_is_billed_whatever_is_killed(tmp_path: Path) -> None:
    cap, of_month = 150, 220
    with running_fleet(tmp_path, 400, {"TAGMILL_MAX_CALLS_PER_MONTH": str(of_month)}) as fleet:
        deployment, sandbox = fleet.deployment, fleet.sandbox
        run = fleet.run_all("capped", "--max-calls", str(cap), "--price-per-1000", "2", "--json")
        doomed, _ = deployment.worker(), deployment.worker()
        fleet.await_calls(30)
        doomed.kill()
        with fleet.redis.sync_client() as redis:
            redis.flushall()
        third = deployment.worker()
        fleet.await_calls(80)
        third.descendants()[0].kill()
        fleet.hurry()

        paused = deployment.finish(run, code=8).json

        await_rest(fleet)
        billed = sandbox.stats()["billed"]
        with deployment.explained():
            assert (paused["state"], paused["reason"]) == ("paused", "budget")
            assert billed <= cap
            assert cap - billed <= 3 * IN_FLIGHT  # two deaths, and what was open at the flush
            shown = deployment.status("capped")
            assert shown["calls"] + shown["unaccounted"] <= cap
            assert shown["cost"] == shown["calls"] * 2 / 1000

        raised = deployment.start("run", "--resume", "capped", "--max-calls", "1000")
        deployment.finish(raised, code=8)

        await_rest(fleet)
        with deployment.explained():
            assert f"of this month of {of_month} calls is used up until 20" in raised.stdout
            assert cap < sandbox.stats()["billed"] <= of_month


def await_rest(fleet: Fleet) -> None:
    """Calls in flight of other chunks may end after the run was paused."""
    with fleet.redis.sync_client() as redis:
        fleet.deployment.until(lambda: not redis.keys("tagmill:lease:*"), "no chunk is in work")


def test_a_run_without_a_fleet_uses_its_cap_to_the_last_call_and_goes_on_under_a_higher_one(
    tmp_path: Path,
) -> None:
    shutil.copytree(PHOTOS, tmp_path / "photos", ignore=shutil.ignore_patterns("*.tags.json"))
    with deployed(tmp_path) as deployment:
        first = deployment.start("run", "photos", "--run-id", "photos", "--max-calls", "4", "--json")
        paused = deployment.finish(first, code=8).json
        with deployment.explained():
            assert (paused["calls"], paused["unaccounted"], paused["reason"]) == (4, 0, "budget")

        again = deployment.start("run", "--resume", "photos", "--max-calls", "500", "--json")
        done = deployment.finish(again, code=1).json

        with deployment.explained():
            ids = sorted(row["id"] for row in deployment.run("photos").rows())
            assert len(assert_whole(deployment.run("photos"), ids)) == done["planned"]
            calls = len(logged_calls(deployment.folder / "state" / "sandbox"))
            assert (done["calls"], done["unaccounted"]) == (4 + calls, 0)
            granted = max((deployment.run("photos").folder / "grants/run").iterdir()).read_text()
            assert f'"through":{done["calls"]},' in granted  # what was open was put back


def test_a_run_of_which_too_much_fails_stops_itself_and_goes_on_when_more_is_allowed(tmp_path: Path) -> None:
    with running_fleet(tmp_path, 300, {"TAGMILL_FAILURE_SAMPLE": "60"}, latency_seconds=0.05) as fleet:
        deployment, bad = fleet.deployment, fleet.handles[::3]
        fleet.sandbox.faults({"fault": "unreadable", "images": bad})
        for _ in range(2):
            deployment.worker()

        stopped = deployment.finish(fleet.run_all("bad", "--json"), code=11).json

        with deployment.explained():
            assert (stopped["state"], stopped["reason"]) == ("paused", "failure_rate")
            assert stopped["remaining"] > 0
            assert "tagmill failures" in deployment.run("bad").controls()[-1]["message"]

        resumed = deployment.start("resume", "bad", "--max-failure-rate", "50%", "--follow", "--json")
        done = deployment.finish(resumed, code=1).json

        with deployment.explained():
            assert_whole(deployment.run("bad"), fleet.ids)
            assert (done["failed"], done["tagged"]) == (len(bad), 300 - len(bad))
