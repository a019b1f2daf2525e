"""Rates as people write them: `20/s`, or several windows at once: `20/s,600/m`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
DAY_SECONDS = UNIT_SECONDS["d"]
RULE = "write calls per unit, such as 20/s or 20/s,5000/d (units s, m, h, d)"
_WINDOW = re.compile(r"(?P<calls>\d+(?:\.\d+)?)\s*/\s*(?P<unit>[smhd])")


@dataclass(frozen=True, slots=True)
class Window:
    """At most `calls` in every `seconds`."""

    calls: float
    seconds: int

    @property
    def per_second(self) -> float:
        return self.calls / self.seconds

    def __str__(self) -> str:
        unit = next(name for name, seconds in UNIT_SECONDS.items() if seconds == self.seconds)
        return f"{self.calls:g}/{unit}"


@dataclass(frozen=True, slots=True)
class Rate:
    """All windows hold at once. A day's is a budget, opened anew every day of UTC; the others set a pace."""

    windows: tuple[Window, ...]

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Raise ValueError, with the rule as its text, for anything but positive windows."""
        return cls(tuple(_parse_window(part) for part in text.split(",")))

    @property
    def per_second(self) -> float:
        """The pace: what the tightest window allows; infinite where only a day's budget is given."""
        paces = (window.per_second for window in self.windows if window.seconds < DAY_SECONDS)
        return min(paces, default=math.inf)

    @property
    def per_day(self) -> int | None:
        """The day's budget."""
        calls = (int(window.calls) for window in self.windows if window.seconds == DAY_SECONDS)
        return min(calls, default=None)

    def paced(self, default: Rate) -> Rate:
        """Return this rate, with the pace of another where it has none."""
        return self if math.isfinite(self.per_second) else Rate((*default.windows, *self.windows))

    def __str__(self) -> str:
        return ",".join(str(window) for window in self.windows)


def _parse_window(text: str) -> Window:
    match = _WINDOW.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(RULE)
    window = Window(float(match["calls"]), UNIT_SECONDS[match["unit"]])
    if window.calls <= 0 or (window.seconds == DAY_SECONDS and window.calls < 1):
        raise ValueError(RULE)
    return window
