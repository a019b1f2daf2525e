"""Look at a run again and again until it ends: redrawn on a terminal, lines elsewhere, JSON if asked."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from tagmill.producer.describing import describe_details, eta_text, pace_text
from tagmill.producer.details import Details
from tagmill.producer.display import LINE_SECONDS, settled
from tagmill.producer.report import describe_summary, print_json, print_text
from tagmill.worker.models import Json

BAR_WIDTH = 60


class Screen(Protocol):
    def show(self, details: Json) -> None: ...


def watch_run(
    closer: Details, screen: Screen, interval: float, sleep: Callable[[float], None] = time.sleep
) -> Json:
    """Return the summary of a run that is completed, paused or cancelled."""
    details = closer.look()
    screen.show(details)
    while details["run"]["state"] in {"running", "cancelled"} and not closer.live.over:
        sleep(interval)
        details = closer.look()
        screen.show(details)
    summary: Json = details["run"]
    return summary


@contextlib.contextmanager
def open_screen(*, as_json: bool) -> Iterator[Screen]:
    if as_json:
        yield JsonLines()
    elif sys.stdout.isatty():
        with Live(console=Console(), auto_refresh=False) as live:
            yield Redrawn(live)
    else:
        yield PlainLines()


class JsonLines:
    """One object a look."""

    def show(self, details: Json) -> None:
        print_json(details)


class PlainLines:
    """A line every ten seconds, and all at the end."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._next_line = clock, clock()

    def show(self, details: Json) -> None:
        summary = details["run"]
        if summary["state"] != "running":
            print_text(_text(details))
        elif self._clock() >= self._next_line:
            self._next_line = self._clock() + LINE_SECONDS
            planned = f"{summary['planned']}{'+' if details['planning'] else ''}"
            parts = [f"{settled(summary)}/{planned}", pace_text(details), f"ETA {eta_text(details)}"]
            print_text(" · ".join(part for part in parts if part))


class Redrawn:
    """The whole of it in place."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, details: Json) -> None:
        summary = details["run"]
        bar = ProgressBar(summary["planned"], settled(summary), width=BAR_WIDTH)
        self._live.update(Group(bar, Text(_text(details))), refresh=True)


def _text(details: Json) -> str:
    return "\n".join(
        [describe_summary(details["run"], details["control"]["message"]), *describe_details(details)]
    )
