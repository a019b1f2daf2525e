"""Progress on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from tagmill.worker.errors import RedisUnavailableError
from tagmill.worker.models import Json
from tagmill.worker.pace import Pace, Sample
from tagmill.worker.state.pulse import Waits

LINE_SECONDS = 10.0
Print = Callable[[str], None]


def no_worker(lane: str) -> str:
    """Why nothing moves in a lane that nobody serves, and what to do."""
    return f"no worker serves the lane {lane}: start `tagmill worker`"


def settled(summary: Json) -> int:
    return int(summary["planned"] - summary["remaining"])


def describe(summary: Json, pace: Pace) -> str:
    """Outcomes, pace, limiter, calls, and when it will be done."""
    outcomes = ", ".join(
        f"{summary[name]} {name}"
        for name in ("tagged", "failed", "skipped", "quarantined", "duplicate", "cancelled")
        if summary[name] or name == "tagged"
    )
    eta = pace.eta_seconds(summary["remaining"])
    return (
        f"{outcomes} · {pace.per_second:.1f}/s · limiter {pace.held_share:.0%} · "
        f"{summary['calls']} calls · ETA {duration(eta)}"
    )


class Display:
    """Knows the pace; how it is shown is the subclass's matter."""

    def __init__(self, pace: Pace, clock: Callable[[], float] = time.monotonic) -> None:
        self.pace, self._clock = pace, clock
        self.waits: Callable[[], Waits] = Waits
        self.trouble: Callable[[], str | None] = lambda: None  #: why nothing moves, if that is known

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    def update(self, summary: Json, *, planning: bool) -> None:
        """Show where the run stands."""
        with contextlib.suppress(RedisUnavailableError):
            waits = self.waits()
            self.pace.limit_to(waits.limit or self.pace.limit)
            sample = Sample(self._clock(), settled(summary), waits.held_seconds, waits.lane_seconds)
            self.pace.note(sample)
            line, trouble = describe(summary, self.pace), self.trouble()
            self.show(summary, f"{line} · {trouble}" if trouble else line, planning=planning)

    def show(self, summary: Json, line: str, *, planning: bool) -> None: ...

    def print_line(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - this is the display


class PlainDisplay(Display):
    """One line every ten seconds."""

    def __init__(self, pace: Pace, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(pace, clock)
        self._next_line = clock() + LINE_SECONDS

    def show(self, summary: Json, line: str, *, planning: bool) -> None:
        if self._clock() >= self._next_line:
            self._next_line = self._clock() + LINE_SECONDS
            planned = f"{summary['planned']}{'+' if planning else ''}"
            self.print_line(f"{settled(summary)}/{planned} · {line}")


class BarDisplay(Display):
    def __init__(self, pace: Pace) -> None:
        super().__init__(pace)
        self._progress = Progress(
            TextColumn("{task.fields[state]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[line]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._bar = self._progress.add_task("", total=None, state="planning", line="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, summary: Json, line: str, *, planning: bool) -> None:
        self._progress.update(
            self._bar,
            total=summary["planned"],
            completed=settled(summary),
            state="planning, tagging" if planning else "tagging",
            line=line,
        )

    def print_line(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


def open_display(pace: Pace) -> Display:
    return BarDisplay(pace) if sys.stderr.isatty() else PlainDisplay(pace)


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    )
