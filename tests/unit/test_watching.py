"""Watching a run to its end."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import orjson
import pytest
from fakes.files import MemoryFiles
from fakes.runs import FIRST_PASS, RUN, SmallRun
from rich.console import Console
from rich.live import Live

from tagmill.producer.details import Details
from tagmill.producer.live import LiveRun
from tagmill.producer.watching import PlainLines, Redrawn, open_screen, watch_run
from tagmill.worker.compaction import Compaction
from tagmill.worker.models import Json
from tagmill.worker.store.runs import Control, Runs, Verb


class Seen:
    def __init__(self) -> None:
        self.states: list[tuple[str, int]] = []

    def show(self, details: Json) -> None:
        self.states.append((details["run"]["state"], details["run"]["remaining"]))


@pytest.fixture
def run() -> SmallRun:
    run = SmallRun(MemoryFiles())
    run.shard(20, 10)
    return run


def control(run: SmallRun, verb: Verb) -> None:
    cancelled = 0 if verb is Verb.CANCEL else None
    Runs(run.files).set_control(RUN, Control(verb=verb, cancelled=cancelled))


def complete(run: SmallRun) -> None:
    for chunk in run.chunks:
        run.commit(chunk)
    run.finish_plan()
    compaction = Compaction(run.files, run.spec, FIRST_PASS)
    compaction.finish([compaction.compact(header, 0) for header in run.headers])


def watched(run: SmallRun, *steps: Callable[[], object]) -> list[tuple[str, int]]:
    """What is seen when these things happen between the looks."""
    seen, left = Seen(), list(steps)

    def sleep(_: float) -> None:
        left.pop(0)()

    closer = Details(LiveRun(run.files, RUN, None), None)
    watch_run(closer, seen, 2.0, sleep)
    assert not left
    return seen.states


def test_it_looks_until_the_run_is_completed(run: SmallRun) -> None:
    steps = [lambda: run.commit(run.chunks[0]), lambda: complete(run)]
    assert watched(run, *steps) == [("running", 20), ("running", 10), ("completed", 0)]


def test_it_ends_with_a_pause(run: SmallRun) -> None:
    assert watched(run, lambda: control(run, Verb.PAUSE)) == [("running", 20), ("paused", 20)]


def test_it_sees_a_cancelled_run_to_its_last_row(run: SmallRun) -> None:
    steps = [lambda: control(run, Verb.CANCEL), lambda: complete(run)]
    assert watched(run, *steps) == [("running", 20), ("cancelled", 20), ("cancelled", 0)]


def test_a_run_that_is_over_is_looked_at_once(run: SmallRun) -> None:
    complete(run)
    assert watched(run) == [("completed", 0)]


# --- how it is shown --------------------------------------------------------------------------------------


def look(run: SmallRun) -> Json:
    return Details(LiveRun(run.files, RUN, None), None).look()


def test_elsewhere_than_on_a_terminal_a_line_every_ten_seconds(
    run: SmallRun, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    lines = PlainLines(lambda: now[0])
    for now[0] in (0.0, 4.0, 9.9, 10.0, 12.0):
        lines.show(look(run))
    complete(run)
    lines.show(look(run))
    out = capsys.readouterr().out.splitlines()
    assert [line.partition(" · ")[0] for line in out[:2]] == ["0/20+", "0/20+"]
    assert out[2].startswith(f"run {RUN}: completed")


def test_as_json_every_look_is_one_object(run: SmallRun, capsys: pytest.CaptureFixture[str]) -> None:
    with open_screen(as_json=True) as screen:
        for _ in range(3):
            screen.show(look(run))
    objects = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [told["schema"] for told in objects] == [1] * 3


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_redrawn(run: SmallRun, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with open_screen(as_json=False) as screen:
        assert isinstance(screen, Redrawn)
        screen.show(look(run))
        run.commit(run.chunks[0])
        screen.show(look(run))
    shown = terminal.getvalue()
    assert "10 tagged, 10 remaining" in shown
    assert "\x1b[" in shown


def test_a_bar_shows_how_far_it_is(run: SmallRun) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100)
    run.commit(run.chunks[0])
    with Live(console=console, auto_refresh=False) as live:
        Redrawn(live).show(look(run))
    assert "━" in out.getvalue()
