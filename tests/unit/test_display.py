from __future__ import annotations

import io
import sys
from typing import Any

import pytest
from fakes.runs import FIRST_PASS, a_spec

from tagmill.producer.display import BarDisplay, PlainDisplay, describe, open_display, settled
from tagmill.worker.counts import Counts
from tagmill.worker.errors import RedisUnavailableError
from tagmill.worker.models import Json
from tagmill.worker.pace import Pace, Sample
from tagmill.worker.state.pulse import Waits
from tagmill.worker.summary import summary


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def look(tagged: int, planned: int = 100, **counts: Any) -> Json:
    return summary(
        a_spec(),
        FIRST_PASS,
        location="",
        planned=planned,
        counts=Counts(tagged=tagged, calls=tagged, **counts),
    )


def moving(clock: Clock, *, per_second: float, held: float = 0.0) -> Pace:
    pace = Pace(1_000.0)
    for second in range(11):
        pace.note(Sample(clock.now + second, int(second * per_second), second * held, second))
    return pace


def test_it_tells_outcomes_pace_limiter_calls_and_the_end(clock: Clock) -> None:
    line = describe(look(50, failed=3, skipped=1), moving(clock, per_second=5.0, held=0.25))
    assert line == "50 tagged, 3 failed, 1 skipped · 5.0/s · limiter 25% · 50 calls · ETA 9 s"


@pytest.mark.parametrize(
    ("left", "eta"),
    [(0, "0 s"), (59, "59 s"), (61, "1 min 01 s"), (3_600, "1 h 00 min"), (90_061, "25 h 01 min")],
)
def test_the_end_is_told_in_units_for_people(clock: Clock, left: int, eta: str) -> None:
    line = describe(look(0, planned=left), moving(clock, per_second=1.0))
    assert line.endswith(f"· ETA {eta}")


def test_while_nothing_moves_the_end_is_unknown(clock: Clock) -> None:
    assert describe(look(0), moving(clock, per_second=0)).endswith("· 0 calls · ETA unknown")


def test_settled_is_all_that_has_an_outcome() -> None:
    assert settled(look(50, failed=3, quarantined=2)) == 55


def test_without_a_terminal_there_is_a_line_every_ten_seconds(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with PlainDisplay(Pace(10.0), clock) as display:
        for second in range(31):
            display.update(look(second, planned=40), planning=second < 15)
            clock.now += 1
    output = capsys.readouterr()
    assert output.out == ""
    assert [line.partition(" · ")[0] for line in output.err.splitlines()] == ["10/40+", "20/40", "30/40"]


def test_the_limiter_s_share_comes_from_the_run(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    display = PlainDisplay(Pace(10.0), clock)
    display.waits = lambda: Waits(3 * (clock.now - 100), 4 * (clock.now - 100))
    for _ in range(2):
        display.update(look(1), planning=False)
        clock.now += 10
    assert "limiter 75%" in capsys.readouterr().err


def test_redis_away_is_no_line(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    def away() -> Waits:
        raise RedisUnavailableError("away")

    display = PlainDisplay(Pace(10.0), clock)
    display.waits = away
    clock.now += 60
    display.update(look(1), planning=False)
    assert capsys.readouterr().err == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_and_lines_above_it_untorn(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with open_display(Pace(10.0)) as display:
        assert isinstance(display, BarDisplay)
        display.update(look(25), planning=True)
        display.print_line("a log line with [markup] and a very " + "long " * 60 + "tail")
    shown = terminal.getvalue()
    assert "planning, tagging" in shown
    assert "25/100" in shown
    assert "a log line with [markup] and a very " + "long " * 60 + "tail" in shown


def test_elsewhere_there_are_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(open_display(Pace(10.0)), PlainDisplay)
