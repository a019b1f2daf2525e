"""The CDN's memory of answers: https://www.filestack.com/docs/delivery/cdn/."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from tagmill.sandbox.replies import Reply

DAY_SECONDS = 86_400.0
LIFETIME_SECONDS = 30 * DAY_SECONDS
LONGEST_SECONDS = 365 * DAY_SECONDS  #: `cache=expiry:max`
ERROR_SECONDS = 60.0  #: ours: cached errors were seen (filestack-ruby#15), their lifetime was not
MOST_ENTRIES = 100_000  #: rarely used answers go earlier, as they do at the service


class EdgeCache:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._entries: OrderedDict[str, tuple[float, Reply]] = OrderedDict()
        self._clock = clock

    def get(self, key: str) -> Reply | None:
        entry = self._entries.get(key)
        if entry is None or entry[0] <= self._clock():
            return None
        self._entries.move_to_end(key)
        return replace(entry[1], headers=(*entry[1].headers, ("X-Cache", "HIT")))

    def put(self, key: str, reply: Reply, seconds: float) -> None:
        self._entries[key] = (self._clock() + seconds, reply)
        self._entries.move_to_end(key)
        if len(self._entries) > MOST_ENTRIES:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        self._entries.clear()
