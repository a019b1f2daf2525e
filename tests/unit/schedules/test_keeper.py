"""Due slots become runs: each once, whoever keeps the schedule, whatever dies, whatever the clock does."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fakes.files import Died, MemoryFiles, MortalFiles
from fakes.starter import FakeStarter
from hypothesis import given
from hypothesis import strategies as st

from tagmill.producer.schedules.keeper import RETRY, Keeper
from tagmill.producer.schedules.overview import overview
from tagmill.producer.schedules.schedule import Schedule
from tagmill.worker.errors import ConfigError, RunError, TaggingError
from tagmill.worker.store.base import Files
from tagmill.worker.store.plan import Plan
from tagmill.worker.store.runs import Control, Runs, Verb
from tagmill.worker.store.schedules import ScheduleLog

START = datetime(2026, 10, 12, 12, tzinfo=UTC)
WINTER = datetime(2026, 10, 26, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def a_schedule(**fields: Any) -> Schedule:
    return Schedule.model_validate({"name": "n", "cron": "0 2 * * *", "source": "s3://bucket", **fields})


class Keeping:
    """One schedule, its keeper, and a clock that a test moves."""

    def __init__(self, files: Files | None = None, **fields: Any) -> None:
        self.files, self.now = files or MemoryFiles(), START
        self.schedule, self.starter = a_schedule(**fields), FakeStarter(self.files)
        self.keeper = self.another()

    def another(self) -> Keeper:
        return Keeper(self.files, self.schedule, self.starter)

    def tick(self) -> None:
        self.keeper.tick(self.now)
        if self.keeper._planning is not None and self.starter.plans:
            with suppress(TaggingError, Died):
                self.keeper._planning.wait(10)

    def at(self, text: str) -> list[str]:
        """Move the clock, tick, and return all runs."""
        self.now = datetime.fromisoformat(text).replace(tzinfo=UTC)
        self.tick()
        return self.runs

    def complete(self) -> None:
        """Every run that there is."""
        for run_id in self.runs:
            self.starter.complete(run_id)

    @property
    def runs(self) -> list[str]:
        return list(Runs(self.files).ids())

    @property
    def shown(self) -> Any:
        return overview(self.files, [self.schedule], {}, self.now)[0]["last"]


@pytest.fixture
def keeping() -> Iterator[Keeping]:
    keeping = Keeping()
    keeping.tick()
    yield keeping
    keeping.keeper.rest()


# --- exactly the due runs ---------------------------------------------------------------------------------


def nights(first: datetime, count: int) -> list[str]:
    """02:00 of Berlin: an hour later by UTC from 2026-10-26 on."""
    days = (first + timedelta(days=day) for day in range(count))
    return [f"n-{day:%Y%m%d}t{'00' if day < WINTER else '01'}00z" for day in days]


def test_three_keepers_make_24_runs_of_24_slots() -> None:
    keeping = Keeping(time_zone="Europe/Berlin")
    keepers = [keeping.another() for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        for hours in range(24 * 24):
            now = START + hours * HOUR + timedelta(seconds=7)
            list(threads.map(lambda keeper: keeper.tick(now), keepers))  # noqa: B023 - used at once
            keeping.complete()
            if hours % 31 == 0:
                keepers = [keeping.another() for _ in range(3)]
    assert keeping.runs == nights(datetime(2026, 10, 13, tzinfo=UTC), 24)
    assert all(Plan(keeping.files, run_id, 0).summary() for run_id in keeping.runs)


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        ("all", ["n-20261013t0200z", "n-20261014t0200z", "n-20261015t0200z"]),
        ("latest", ["n-20261015t0200z"]),
        ("none", []),
    ],
)
def test_after_three_missed_slots(catch_up: str, expected: list[str]) -> None:
    keeping = Keeping(catch_up=catch_up)
    keeping.tick()
    keeping.keeper = keeping.another()  # the first one died
    for minute in range(10):
        keeping.at(f"2026-10-15T12:{minute:02d}")
        keeping.complete()
    assert keeping.runs == expected
    assert keeping.at("2026-10-16T02:00:30") == [*expected, "n-20261016t0200z"]


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("nth", range(1, 8))
def test_a_death_at_any_write_neither_doubles_nor_loses_a_run(nth: int, *, written: bool) -> None:
    files = MortalFiles()
    keeping = Keeping(files)
    keeping.tick()
    files.die_at(nth, written=written)
    deaths = 0
    for text in ["2026-10-13T02:00:10", *["2026-10-13T02:00:40"] * 3]:
        try:
            keeping.at(text)
        except Died:
            deaths += 1
            keeping.keeper = keeping.another()
    files.die_at(0, written=False)
    keeping.at("2026-10-13T02:05")
    assert keeping.runs == ["n-20261013t0200z"]
    assert Plan(files, "n-20261013t0200z", 0).summary() is not None
    keeping.complete()
    assert keeping.at("2026-10-13T03:00") == ["n-20261013t0200z"]
    assert deaths == (nth <= 5)  # start, pass, run, outcome, plan


@given(st.lists(st.integers(-1500, 3000), max_size=60), st.sampled_from(["latest", "all", "none"]))
def test_whatever_the_clock_does_no_slot_runs_twice(jumps: list[int], catch_up: str) -> None:
    keeping = Keeping(catch_up=catch_up, cron="0 */6 * * *")
    for minutes in jumps:
        keeping.now += minutes * MINUTE
        keeping.tick()
        keeping.complete()
        if minutes % 7 == 0:
            keeping.keeper = keeping.another()
    # Each run was made by one attempt, and no run is of a slot that was never in the past.
    assert len(keeping.starter.created) <= len(set(keeping.starter.created)) + sum(one < 0 for one in jumps)
    assert sorted(set(keeping.starter.created)) == keeping.runs


def test_a_clock_that_was_ahead_and_is_set_right_loses_no_slot(keeping: Keeping) -> None:
    keeping.at("2027-10-13T02:00:10")
    keeping.complete()
    assert keeping.at("2026-10-13T01:59") == ["n-20271013t0200z"]
    assert keeping.at("2026-10-13T02:00") == ["n-20261013t0200z", "n-20271013t0200z"]


def test_a_new_schedule_does_not_run_before_its_first_slot(keeping: Keeping) -> None:
    assert keeping.at("2026-10-13T01:59:59") == []
    assert keeping.at("2026-10-13T02:00") == ["n-20261013t0200z"]


def test_another_time_in_the_file_does_not_run_what_would_have_been(keeping: Keeping) -> None:
    keeping.at("2026-10-13T02:00")
    keeping.complete()
    keeping.keeper = Keeper(keeping.files, a_schedule(cron="0 9 * * *"), keeping.starter)
    assert keeping.at("2026-10-13T10:00") == ["n-20261013t0200z"]
    assert keeping.at("2026-10-14T09:00") == ["n-20261013t0200z", "n-20261014t0900z"]


# --- not beside its own ------------------------------------------------------------------------------------


def test_a_slot_waits_for_the_open_run_and_the_newest_comes_then(keeping: Keeping) -> None:
    keeping.at("2026-10-13T02:00")
    keeping.starter.runs.set_control("n-20261013t0200z", Control(verb=Verb.PAUSE, reason="budget"))
    assert keeping.at("2026-10-15T12:00") == ["n-20261013t0200z"]
    assert (keeping.shown["state"], keeping.shown["reason"], keeping.shown["open"]) == (
        "paused",
        "budget",
        True,
    )
    keeping.complete()
    assert keeping.at("2026-10-15T12:01") == ["n-20261013t0200z", "n-20261015t0200z"]


def test_a_cancelled_run_is_over(keeping: Keeping) -> None:
    keeping.at("2026-10-13T02:00")
    keeping.starter.runs.set_control("n-20261013t0200z", Control(verb=Verb.CANCEL, cancelled=0))
    assert keeping.at("2026-10-14T02:00")[-1] == "n-20261014t0200z"


def test_a_deleted_run_is_over_and_not_made_again(keeping: Keeping) -> None:
    keeping.at("2026-10-13T02:00")
    keeping.files.remove_below("runs/n-20261013t0200z")
    keeping.keeper = keeping.another()
    assert keeping.at("2026-10-13T03:00") == []
    assert keeping.shown["state"] == "deleted"


# --- what goes wrong ---------------------------------------------------------------------------------------


def test_a_run_that_cannot_be_made_is_tried_again_and_fails_when_the_next_is_due(keeping: Keeping) -> None:
    keeping.starter.fails = ConfigError("say --allow-new-versions")
    with pytest.raises(ConfigError):
        keeping.at("2026-10-13T02:00")
    for _ in range(5):
        with pytest.raises(ConfigError):  # said at every tick, but not tried
            keeping.tick()
    assert keeping.starter.created == ["n-20261013t0200z"]
    assert keeping.shown["state"] == "starting"
    keeping.now += RETRY
    with pytest.raises(ConfigError):
        keeping.tick()
    keeping.at("2026-10-14T02:00")
    assert (keeping.shown["state"], keeping.shown["error"]) == ("failed", "say --allow-new-versions")
    keeping.starter.fails = None
    assert keeping.at("2026-10-14T02:00:30") == ["n-20261014t0200z"]


def test_a_cause_that_goes_away_costs_no_slot(keeping: Keeping) -> None:
    keeping.starter.fails = RunError("S3 cannot list at the moment")
    with pytest.raises(RunError):
        keeping.at("2026-10-13T02:00")
    keeping.starter.fails = None
    assert keeping.at("2026-10-13T02:05") == ["n-20261013t0200z"]


def test_planning_that_fails_is_said_and_begun_again(keeping: Keeping) -> None:
    keeping.starter.planning_fails = RunError("S3 cannot list at the moment")
    keeping.at("2026-10-13T02:00")
    with pytest.raises(RunError, match="cannot list"):
        keeping.tick()
    keeping.starter.planning_fails = None
    keeping.tick()
    assert Plan(keeping.files, "n-20261013t0200z", 0).summary() is not None


def test_a_pause_stops_planning_until_it_is_lifted(keeping: Keeping) -> None:
    keeping.starter.plans = False
    keeping.at("2026-10-13T02:00")
    planning = keeping.keeper._planning
    assert planning is not None
    keeping.starter.runs.set_control("n-20261013t0200z", Control(verb=Verb.PAUSE))
    keeping.tick()
    assert planning.wait(10)
    keeping.tick()
    assert keeping.keeper._planning is None
    keeping.starter.runs.set_control("n-20261013t0200z", Control(verb=Verb.RESUME))
    keeping.starter.plans = True
    keeping.tick()
    assert Plan(keeping.files, "n-20261013t0200z", 0).summary() is not None


def test_who_rests_plans_no_more(keeping: Keeping) -> None:
    keeping.starter.plans = False
    keeping.at("2026-10-13T02:00")
    planning = keeping.keeper._planning
    assert planning is not None
    keeping.keeper.rest()
    assert planning.wait(0)


# --- the rate of the time of day ---------------------------------------------------------------------------


def by_hand(before: Control) -> Control:
    return dataclasses.replace(before, rate="1/s", rate_at="2026-10-13T09:00:00+00:00")


def rates(keeping: Keeping, *times: str) -> list[str | None]:
    found = []
    for text in times:
        keeping.at(text)
        found.append(keeping.starter.runs.control("n-20261013t0200z").rate)
    return found


def test_the_rate_changes_at_each_step_and_stays_what_people_set_until_the_next() -> None:
    keeping = Keeping(rate=[{"at": "08:00", "rate": "5/s"}, {"at": "20:00", "rate": "50/s"}])
    keeping.tick()
    keeping.at("2026-10-13T02:00")
    assert Runs(keeping.files).read("n-20261013t0200z").rate == "50/s"
    assert rates(keeping, "2026-10-13T07:59", "2026-10-13T08:00", "2026-10-13T08:01") == [None, "5/s", "5/s"]
    assert keeping.starter.runs.control("n-20261013t0200z").n == 1  # once
    keeping.starter.runs.change("n-20261013t0200z", by_hand)
    keeping.starter.runs.set_control(
        "n-20261013t0200z", Control(verb=Verb.PAUSE, at="2026-10-13T19:00:00+00:00")
    )
    assert rates(keeping, "2026-10-13T19:59", "2026-10-13T20:00") == ["1/s", "50/s"]
    keeping.keeper = keeping.another()
    assert rates(keeping, "2026-10-13T21:00", "2026-10-14T12:00") == ["50/s", "5/s"]


# --- the log ----------------------------------------------------------------------------------------------


def test_of_two_that_read_the_same_log_one_writes_it_on() -> None:
    first, second = (ScheduleLog(files, "n") for files in itertools.repeat(MemoryFiles(), 2))
    assert first.append(None, START, "n-1", START) is not None
    assert second.append(None, START + HOUR, "n-2", START) is None
    newest = second.newest()
    assert newest is not None and newest.run_id == "n-1"  # noqa: PT018 - one fact
