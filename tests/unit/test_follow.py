"""Following a run; its parts here are as small as the follower's use of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from fakes.files import MemoryFiles
from fakes.runs import FIRST_PASS, RUN, SmallRun
from structlog.testing import capture_logs

from tagmill.producer.display import Display
from tagmill.producer.follow import TICK_SECONDS, Follower
from tagmill.producer.interrupts import Interrupt
from tagmill.producer.live import LiveRun
from tagmill.worker.compaction import Compaction
from tagmill.worker.errors import NotFoundError, RedisUnavailableError, RunStoreUnavailableError
from tagmill.worker.models import Json
from tagmill.worker.pace import Pace
from tagmill.worker.refill import Refill
from tagmill.worker.store.runs import Control, Runs, Verb


class Ticking:
    """Stands for the refill; each tick does what comes next."""

    def __init__(self, *steps: Callable[[], None]) -> None:
        self._steps = list(steps)
        self.ticks = 0
        self.leads = True

    def tick(self) -> bool:
        self.ticks += 1
        if self._steps:
            self._steps.pop(0)()
        return self.leads


class Shown(Display):
    def __init__(self) -> None:
        super().__init__(Pace(10.0))
        self.looks: list[tuple[str, bool]] = []

    def show(self, summary: Json, line: str, *, planning: bool) -> None:  # noqa: ARG002 - the display's own
        self.looks.append((summary["state"], planning))


class Following:
    def __init__(self, *steps: Callable[[], None]) -> None:
        self.run = SmallRun(MemoryFiles())
        self.run.shard(10, 10)
        self.refill, self.display, self.interrupt = Ticking(*steps), Shown(), Interrupt()
        self.slept: list[float] = []
        self.supervised = 0

    def follow(self, **changes: Any) -> Json:
        parts: dict[str, Any] = {
            "interrupt": self.interrupt,
            "check_planner": lambda: None,
            "supervise": self._supervise,
            "sleep": self.slept.append,
        }
        refill = cast("Refill", self.refill)
        live = LiveRun(self.run.files, RUN, None)
        return Follower(live, refill, self.display, **(parts | changes)).follow()

    def _supervise(self) -> None:
        self.supervised += 1

    def complete(self) -> None:
        self.run.commit(self.run.chunks[0])
        self.run.finish_plan()
        compaction = Compaction(self.run.files, self.run.spec, FIRST_PASS)
        compaction.finish([compaction.compact(self.run.headers[0], 0)])

    def control(self, verb: Verb) -> None:
        Runs(self.run.files).set_control(
            RUN, Control(verb=verb, reason="why", cancelled=0 if verb is Verb.CANCEL else None)
        )


def nothing() -> None:
    """A tick without anything due."""


def redis_away() -> None:
    raise RedisUnavailableError("away")


def store_away() -> None:
    raise RunStoreUnavailableError("away")


def test_it_ticks_and_shows_until_the_run_is_completed() -> None:
    following = Following(nothing, nothing)
    following.refill._steps.append(following.complete)
    assert following.follow()["state"] == "completed"
    assert following.display.looks == [("running", True), ("running", True), ("completed", False)]
    assert following.slept == [TICK_SECONDS] * 2
    assert following.supervised == 3


def test_it_ends_when_somebody_pauses_the_run() -> None:
    following = Following(nothing)
    following.refill._steps.append(lambda: following.control(Verb.PAUSE))
    summary = following.follow()
    assert (summary["state"], summary["reason"]) == ("paused", "why")


def test_a_cancelled_run_is_followed_until_it_has_all_its_rows() -> None:
    following = Following()
    following.refill._steps = [lambda: following.control(Verb.CANCEL), nothing, following.complete]
    summary = following.follow()
    assert (summary["state"], summary["remaining"]) == ("cancelled", 0)
    assert following.refill.ticks == 3


@pytest.mark.parametrize(("leads", "nudges"), [(True, 0), (False, 2)])
def test_whoever_leads_the_refill_looks_as_often_as_somebody_follows(leads: bool, nudges: int) -> None:  # noqa: FBT001 - a parameter of pytest's
    told: list[None] = []
    following = Following(nothing)
    following.refill._steps.append(following.complete)
    following.refill.leads = leads
    assert following.follow(nudge=lambda: told.append(None))["state"] == "completed"
    assert len(told) == nudges


def test_ctrl_c_leaves_the_run_as_it_is() -> None:
    following = Following()
    assert following.follow(sleep=lambda _: setattr(following.interrupt, "asked", True))["state"] == "running"
    assert following.refill.ticks == 2


def test_redis_away_is_waited_out_and_said_once_for_each_time() -> None:
    following = Following(redis_away, redis_away, nothing, redis_away)
    following.refill._steps.append(following.complete)
    with capture_logs() as logs:
        assert following.follow()["state"] == "completed"
    assert [entry["event"] for entry in logs] == ["redis_unavailable"] * 2


def test_a_run_store_away_ends_it() -> None:
    with pytest.raises(RunStoreUnavailableError):
        Following(nothing, store_away).follow()


def test_what_ended_planning_early_ends_it() -> None:
    def fail() -> None:
        raise NotFoundError("the bucket is gone")

    with pytest.raises(NotFoundError):
        Following().follow(check_planner=fail)


def test_a_run_that_is_completed_already_is_looked_at_once() -> None:
    following = Following()
    following.complete()
    assert following.follow(check_planner=redis_away)["state"] == "completed"
    assert following.slept == []
