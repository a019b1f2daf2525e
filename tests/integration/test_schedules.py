"""A beat with a real Redis and a real source: what it makes is what `tagmill run --detach` makes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from servers.fleet import PIXEL
from servers.redis import RedisUnderTest
from servers.s3 import S3UnderTest
from servers.strict_s3 import running_strict_s3

from tagmill.config.settings import Settings
from tagmill.producer.launch import open_runs
from tagmill.producer.reach import open_board
from tagmill.producer.safety import Dialogue
from tagmill.producer.schedules.beat import Beat
from tagmill.producer.schedules.keeper import Keeper
from tagmill.producer.schedules.now import start_now
from tagmill.producer.schedules.schedule import schedules_of
from tagmill.producer.schedules.starting import Starter
from tagmill.worker.errors import ConfigError, TaggingError
from tagmill.worker.state.board import Board
from tagmill.worker.store.plan import Plan
from tagmill.worker.store.runs import Runs, RunSpec
from tagmill.worker.store.schedules import ScheduleLog

_prefixes = itertools.count()
RUN = "n-20261013t0200z"
LEADER_SECONDS = 600.0


class Deck:
    """Settings with one schedule over a folder of two pictures, and a clock."""

    def __init__(self, folder: Path, redis: RedisUnderTest) -> None:
        self.folder, self.redis_url = folder / "photos", redis.url
        self.folder.mkdir()
        for name in ("a", "b"):
            (self.folder / f"{name}.png").write_bytes(PIXEL)
        self.now = datetime(2026, 10, 12, 12, tzinfo=UTC)
        self.table: dict[str, Any] = {
            "name": "n",
            "cron": "0 2 * * *",
            "source": str(self.folder),
            "shared_path": True,
        }
        self._settings: dict[str, Any] = {
            "redis_url": redis.url,
            "redis_prefix": f"schedules-{next(_prefixes)}",
            "run_store": str(folder / "store"),
            "filestack_api_key": "key",
            "filestack_app_secret": "secret",
        }

    @property
    def settings(self) -> Settings:
        return Settings(**self._settings, schedule=(self.table,))

    @property
    def runs(self) -> Runs:
        return open_runs(self.settings)

    @property
    def board(self) -> Board:
        return open_board(self.settings, self.redis_url)

    def beat(self, check: Callable[[], None] = lambda: None) -> Beat:
        starter = Starter(self.settings, self.runs, self.redis_url)
        keepers = [Keeper(self.runs.files, one, starter) for one in schedules_of(self.settings)]
        return Beat(keepers, self.board, check, leader_seconds=LEADER_SECONDS, clock=lambda: self.now)

    def run(self) -> RunSpec:
        return self.runs.read(RUN)


@pytest.fixture
def deck(tmp_path: Path, redis_server: RedisUnderTest) -> Deck:
    return Deck(tmp_path, redis_server)


@pytest.fixture
def beats() -> Iterator[list[Beat]]:
    beats: list[Beat] = []
    yield beats
    for beat in beats:
        beat.close()


def begun(deck: Deck, beats: list[Beat]) -> Beat:
    """A beat that has seen the schedule before the slot that has come now."""
    beats.append(beat := deck.beat())
    beat.tick()
    deck.now += timedelta(hours=14, seconds=5)
    return beat


def test_a_due_run_has_what_the_schedule_says_and_is_planned(deck: Deck, beats: list[Beat]) -> None:
    deck.table |= {"rate": [{"at": "00:00", "rate": "5/s"}, {"at": "12:00", "rate": "9/s"}]}
    deck.table |= {"write_back": "none", "max_calls": 7, "include": "a*", "mode": "all"}
    beat = begun(deck, beats)
    beat.tick()
    spec = deck.run()
    assert (spec.embedded, spec.lane, spec.rate, spec.write_back) == (False, "nightly", "5/s", ())
    assert (spec.max_calls, spec.mode, spec.state["base"]) == (7, "all", 0)
    beat.close()
    beat.tick()  # goes on where the planning was left
    (planning,) = (keeper._planning for keeper, _ in beat._keepers)
    assert planning is None or planning.wait(10)
    whole = Plan(deck.runs.files, RUN, 0).summary()
    assert whole is not None
    assert whole.images == 1

    deck.now += timedelta(hours=10)
    beat.tick()
    control = deck.runs.control(RUN)
    assert (control.rate, control.by) == ("9/s", "schedule n")
    noted = deck.board.control(RUN)
    assert noted is not None
    assert noted.rate == "9/s"  # workers hear of it at once


def test_one_of_several_leads_until_it_leaves(deck: Deck, beats: list[Beat]) -> None:
    first = begun(deck, beats)
    beats.append(second := deck.beat())
    second.tick()
    assert list(deck.runs.ids()) == []
    first.close()
    second.tick()
    assert list(deck.runs.ids()) == [RUN]
    assert deck.board.beats()


def test_what_is_in_the_way_is_told_until_it_is_gone(deck: Deck, beats: list[Beat]) -> None:
    beat = begun(deck, beats)
    deck.folder.rename(deck.folder.with_name("elsewhere"))
    for _ in range(2):
        beat.tick()
        assert "no folder or file" in deck.board.troubles()["n"]
    deck.folder.with_name("elsewhere").rename(deck.folder)
    deck.now += timedelta(minutes=5)
    beat.tick()
    assert (deck.board.troubles(), deck.run().lane) == ({}, "nightly")


def test_a_machine_that_had_better_not_lead_leaves_it_to_another(deck: Deck, beats: list[Beat]) -> None:
    def refuse() -> None:
        raise ConfigError("this machine's clock is 3600 s off Redis' clock")

    begun(deck, beats).close()
    beats.append(wrong := deck.beat(refuse))
    wrong.tick()
    assert list(deck.runs.ids()) == []
    assert not deck.board.beats()


def test_a_beat_that_is_faster_than_the_command_makes_its_run(
    deck: Deck, beats: list[Beat], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command says what a write-back brings about, and asks; a beat does not wait for an answer."""
    with running_strict_s3() as server:
        for name, value in S3UnderTest(server.url).environment.items():
            monkeypatch.setenv(name, value)
        bucket = server.new_bucket()
        server.client().put_object(Bucket=bucket, Key="a.png", Body=PIXEL)
        deck.table |= {"source": f"s3://{bucket}/", "shared_path": False, "probe": "off"}
        beats.append(beat := deck.beat())
        (schedule,) = schedules_of(deck.settings)
        launch = start_now(deck.settings, schedule, Dialogue(lambda _: beat.tick()), deck.now)
    assert launch.spec.run_id == "n-20261012t1200z"
    start = ScheduleLog(deck.runs.files, "n").newest()
    assert start is not None
    outcome = ScheduleLog(deck.runs.files, "n").outcome(start)
    assert outcome is not None
    assert outcome.error is None


def test_what_could_never_start_is_found_before(deck: Deck) -> None:
    deck.table |= {"shared_path": False}
    starter = Starter(deck.settings, deck.runs, deck.redis_url)
    (schedule,) = schedules_of(deck.settings)
    with pytest.raises(TaggingError, match="shared-path"):
        starter.check(schedule, deck.now)
