"""What a listener asks of whoever is told of events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tagmill.worker.events import Event


@dataclass(frozen=True, slots=True)
class Delivery:
    """One thing that came in."""

    events: tuple[Event, ...] = ()
    passed_over: Mapping[str, int] = field(default_factory=dict)  #: what it told beside them, by reason
    token: Any = None  #: what the feed knows it by


class Feed(Protocol):
    """Tells of everything at least once, until it hears that it is done with."""

    def take(self) -> Sequence[Delivery]:
        """Wait a moment for what comes in; raise `TaggingError` when it cannot be had."""
        ...

    def done(self, deliveries: Sequence[Delivery]) -> None:
        """Forget them: their images are planned durably, or nobody's business."""
        ...

    def close(self) -> None:
        """Ask for nothing more."""
        ...
