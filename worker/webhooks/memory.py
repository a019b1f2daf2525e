"""Which events were seen lately: senders repeat what they are not sure of."""

from __future__ import annotations

from collections import OrderedDict

from tagmill.worker.store.webhook_events import Event

MOST = 200_000  #: marks, of which a result has two; the oldest are forgotten


class Memory:
    """By id within an endpoint, and results by job. It saves work; forgetting is harmless."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._seen: OrderedDict[str, None] = OrderedDict()

    def knows(self, event: Event) -> bool:
        return any(mark in self._seen for mark in marks(event))

    def add(self, event: Event) -> None:
        self.load(marks(event))

    def load(self, marks: list[str]) -> None:
        """Take over what another process has seen."""
        self._seen.update(dict.fromkeys(marks))
        while len(self._seen) > self._most:
            self._seen.popitem(last=False)


def marks(event: Event) -> list[str]:
    """What tells an event from all others, whoever sent it again."""
    own = [f"{event.endpoint} {event.id!r}"]
    return own if event.job is None else [*own, f"job {event.job}"]
