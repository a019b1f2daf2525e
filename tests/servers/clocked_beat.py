"""A real beat that takes the time of day from the file `clock`, and looks far more often."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path

from tagmill.config.logs import configure_logs
from tagmill.config.settings import load_settings
from tagmill.producer.schedules import beat


def read_clock() -> datetime:
    return datetime.fromisoformat(Path("clock").read_text())


def set_clock(folder: Path, now: datetime) -> None:
    """In one step, as it is read all the time."""
    new = folder / "clock.new"
    new.write_text(now.isoformat())
    new.replace(folder / "clock")


def _say(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201 - as the command does


if __name__ == "__main__":
    settings = load_settings()
    configure_logs(settings.log_level, settings.log_format, settings.secrets())
    beat.serve(settings, _say, clock=read_clock, every_seconds=0.05)
