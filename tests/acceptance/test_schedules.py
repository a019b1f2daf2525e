"""Schedules from outside: real beats, several at once, killed, restarted, with a clock that a test sets."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import servers.clocked_beat
from servers.clocked_beat import set_clock
from servers.fleet import Fleet, Json, Program, running_fleet
from servers.s3 import S3UnderTest
from servers.strict_s3 import StrictS3UnderTest, running_strict_s3

from tagmill.config.celery import LANES
from tagmill.worker.publisher import Publisher
from tagmill.worker.refill import Refill
from tagmill.worker.state.board import Board
from tagmill.worker.state.keys import Keys
from tagmill.worker.store.folder import Folder

NIGHTLY = """
[[schedule]]
name = "nightly"
cron = "0 2 * * *"
time_zone = "Europe/Berlin"
source = "handles.txt"
"""
BEATS = 3


class Nights:
    """A fleet whose schedule is kept by real beats."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet, self.deployment = fleet, fleet.deployment
        folder = self.deployment.folder
        (folder / "handles.txt").write_text("\n".join(fleet.handles))
        (folder / "tagmill.toml").write_text(NIGHTLY)
        self.beats: list[Program] = []

    def schedule(self, *arguments: str, code: int = 0) -> Program:
        return self.deployment.finish(self.deployment.start("schedule", *arguments), code=code)

    def listed(self) -> Json:
        found: Json = self.schedule("list", "--json").json["schedules"][0]
        return found

    def beat(self) -> Program:
        return self.deployment.start_command(
            [sys.executable, "-m", servers.clocked_beat.__name__],
            "beat",
            PYTHONPATH=str(Path(servers.clocked_beat.__file__).parents[1]),
        )

    def finisher(self) -> Callable[[str], None]:
        """Refill here, at once, instead of waiting until a worker looks for new runs."""
        url, ahead = self.fleet.redis.url, itertools.count(step=10)
        board = Board(self.fleet.redis.sync_client(), Keys("tagmill"), *LANES)
        refill = Refill(
            Folder(str(self.deployment.store)), board, Publisher(url, "tagmill"), clock=lambda: next(ahead)
        )

        def finish(run_id: str) -> None:
            run = self.deployment.run(run_id)
            self.deployment.until(
                lambda: run.finished or (refill.tick() and run.finished), f"the end of {run_id}"
            )

        return finish

    @property
    def runs(self) -> list[str]:
        return sorted(path.name for path in (self.deployment.store / "runs").glob("*"))


@pytest.fixture
def nights(tmp_path: Path) -> Iterator[Nights]:
    with running_fleet(tmp_path, 3, {"TAGMILL_PROCESSES": "1"}, latency_seconds=0) as fleet:
        yield Nights(fleet)


@pytest.mark.parametrize("slots", [3, pytest.param(24, marks=pytest.mark.long)])
def test_killed_beats_start_exactly_the_due_runs(nights: Nights, slots: int) -> None:
    """Over the night of 2026-10-25, in which 02:00 comes twice in Berlin."""
    first = datetime(2026, 10, 26, 1, tzinfo=UTC) - timedelta(days=slots - 1)
    due = [
        day if day.day == 26 or day.month == 11 else day - timedelta(hours=1)
        for day in (first + timedelta(days=number) for number in range(slots))
    ]
    set_clock(nights.deployment.folder, first - timedelta(hours=12))
    nights.deployment.worker()
    nights.beats = [nights.beat() for _ in range(BEATS)]
    since = nights.deployment.store / "schedules" / "nightly" / "since"
    nights.deployment.until(lambda: since.exists() and any(since.iterdir()), "the schedule was seen")
    finish = nights.finisher()
    for number, slot in enumerate(due):
        set_clock(nights.deployment.folder, slot + timedelta(seconds=number % 7))
        for _ in range(1 if number % 4 else BEATS):  # every fourth time all of them
            nights.beats.pop(0).kill()
            nights.beats.append(nights.beat())
        finish(f"nightly-{slot:%Y%m%dt%H%M}z")
    with nights.deployment.explained():
        assert nights.runs == [f"nightly-{slot:%Y%m%dt%H%M}z" for slot in due]
        assert nights.fleet.sandbox.stats()["calls"] == len(
            nights.fleet.handles
        )  # later nights find nothing new
    nights.beats[0].terminate()
    nights.deployment.finish(nights.beats[0])


def test_a_schedule_from_outside(nights: Nights) -> None:
    assert "no beat keeps them" in nights.schedule("list").stderr
    assert len(nights.schedule("next", "nightly", "-n", "2").stdout.splitlines()) == 2
    assert "there are nightly" in nights.schedule("run", "weekly", code=2).stderr

    started = nights.schedule("run", "nightly", "--json")
    run_id = started.json["run_id"]
    assert (started.json["planned"], started.json["state"]) == (3, "running")
    last = nights.listed()["last"]
    assert (last["run_id"], last["state"], last["open"]) == (run_id, "running", True)
    assert f"run {run_id} of this schedule is not over" in nights.schedule("run", "nightly", code=2).stderr

    nights.deployment.worker()
    nights.finisher()(run_id)
    assert (nights.listed()["last"]["state"], nights.runs) == ("completed", [run_id])
    beat = nights.deployment.start("beat")
    nights.deployment.until(lambda: nights.schedule("list", "--json").json["beat"], "a beat")
    beat.interrupt()
    assert "beat_started" in nights.deployment.finish(beat).stderr


@pytest.fixture
def s3() -> Iterator[StrictS3UnderTest]:
    with running_strict_s3() as server:
        yield server


def test_consent_that_is_missing_fails_the_run_visibly(nights: Nights, s3: StrictS3UnderTest) -> None:
    bucket = s3.new_bucket(versioned=True)
    s3.client().put_object(Bucket=bucket, Key="a.png", Body=b"x")
    folder = nights.deployment.folder
    (folder / "tagmill.toml").write_text(NIGHTLY.replace("handles.txt", f"s3://{bucket}/"))
    nights.deployment.environment |= S3UnderTest(s3.url).environment
    assert "--allow-new-versions" in nights.schedule("run", "nightly", code=2).stderr
    last = nights.listed()["last"]
    assert (last["state"], last["open"], nights.runs) == ("failed", False, [])
    assert "--allow-new-versions" in last["error"]


def test_a_beat_refuses_what_could_never_run(nights: Nights) -> None:
    def refusal(table: str) -> str:
        (nights.deployment.folder / "tagmill.toml").write_text(table)
        ended = nights.deployment.finish(nights.deployment.start("beat"), code=2)
        assert len(ended.stderr.splitlines()) == 1
        return ended.stderr

    assert "schedule nightly: cron: bad hour" in refusal(NIGHTLY.replace("0 2", "0 24"))
    assert "schedule nightly: --write-back metadata" in refusal(NIGHTLY + 'write_back = "metadata"\n')
    assert "no schedule is set up" in refusal("")
