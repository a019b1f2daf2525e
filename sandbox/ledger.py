"""The independent record of what clients asked and what they were billed for.

It outlives any client. Memory grows by eight bytes a call; the rest is a file.
"""

from __future__ import annotations

import json
import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

Json = dict[str, Any]
POLL = "workflow_status"
NO_ANSWER = 0  #: stands for the status where a connection was reset or left hanging


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request for a task on its way."""

    number: int
    monotonic: float
    wall: float


class Ledger:
    """`path` None: counts and times only, as fast as can be."""

    def __init__(self, path: str | None, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._monotonic = monotonic
        self._log: BinaryIO | None = None
        self.reset()

    def reset(self) -> None:
        self.close()
        self.times = array("d")  #: monotonic seconds of every request for a task
        self.billed = 0
        self.cached = 0
        self.throttled = 0
        self.uploads = 0
        self.deletes = 0
        self.polls = 0  #: `workflow_status`, which nobody is billed for
        self._by_status: Counter[int] = Counter()
        self._log = open(self._path, "wb", buffering=0) if self._path else None  # noqa: SIM115 - kept open

    def arrive(self) -> Arrival:
        now = self._monotonic()
        self.times.append(now)
        return Arrival(len(self.times), now, self._clock())

    def settle(self, arrival: Arrival, task: str, image: str, status: int, *, billed: bool) -> None:
        """Written before the answer leaves, so a charge is on record whatever becomes of the client."""
        self.billed += billed
        self._by_status[status] += 1
        self.polls += task == POLL
        if self._log is not None:
            row = {"n": arrival.number, "monotonic": arrival.monotonic, "wall": arrival.wall}
            line = json.dumps(
                {**row, "task": task, "image": image, "status": status, "billed": billed},
                separators=(",", ":"),
            )
            self._log.write(f"{line}\n".encode())

    def answered(self, times: int) -> None:
        """Billed successes that kept no record of their own."""
        self.billed += times
        self._by_status[200] += times

    def stats(self) -> Json:
        return {
            "calls": len(self.times) - self.polls,
            "polls": self.polls,
            "billed": self.billed,
            "cached": self.cached,
            "throttled": self.throttled,
            "uploads": self.uploads,
            "deletes": self.deletes,
            "by_status": {str(status): count for status, count in sorted(self._by_status.items())},
        }

    def requests(self) -> Iterator[Json]:
        """Every settled request, in the order they were settled. Reads a file."""
        if self._path is None or not os.path.exists(self._path):
            return
        with open(self._path, "rb") as lines:
            for line in lines:
                yield json.loads(line)

    def images(self) -> dict[str, Json]:
        """Calls and billed calls of each image. Reads a file."""
        counts: dict[str, Json] = {}
        for request in self.requests():
            count = counts.setdefault(request["image"], {"calls": 0, "billed": 0})
            count["calls"] += 1
            count["billed"] += request["billed"]
        return counts

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None
