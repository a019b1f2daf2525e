"""Rates as people write them: `20/s`, or several windows at once: `20/s,600/m`."""

from __future__ import annotations

import re
from dataclasses import dataclass

UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
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
    """All windows hold at once."""

    windows: tuple[Window, ...]

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Raise ValueError, with the rule as its text, for anything but positive windows."""
        return cls(tuple(_parse_window(part) for part in text.split(",")))

    @property
    def per_second(self) -> float:
        """The sustained rate: what the tightest window allows."""
        return min(window.per_second for window in self.windows)

    def __str__(self) -> str:
        return ",".join(str(window) for window in self.windows)


def _parse_window(text: str) -> Window:
    match = _WINDOW.fullmatch(text.strip().lower())
    if match is None or float(match["calls"]) <= 0:
        raise ValueError(RULE)
    return Window(float(match["calls"]), UNIT_SECONDS[match["unit"]])
