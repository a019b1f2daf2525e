"""Uploads and overwrites that the webhook receiver has kept, each from where the last listener stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tagmill.producer.listeners.base import Delivery
from tagmill.worker.events import Event
from tagmill.worker.models import Handle, ImageRef
from tagmill.worker.store.base import Files
from tagmill.worker.store.cursors import Cursors
from tagmill.worker.store.plan import Planned
from tagmill.worker.store.webhook_events import OVERWRITE, UPLOAD, WebhookEvents
from tagmill.worker.store.webhook_events import Event as Received

LOOK_SECONDS = 0.5
MOST = 500  #: events at a time


class WebhookFeed:
    """What is told twice stands in the logs already."""

    def __init__(self, files: Files, name: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep
        self._received, self._cursors = WebhookEvents(files), Cursors(files, name)

    def take(self) -> Sequence[Delivery]:
        found: list[Delivery] = []
        for cursor, event in self._received.after(self._cursors.newest, {UPLOAD, OVERWRITE}):
            found.append(Delivery(_due(event), token=cursor))
            if len(found) >= MOST:
                break
        if not found:
            self._sleep(LOOK_SECONDS)
        return found

    def done(self, deliveries: Sequence[Delivery]) -> None:
        self._cursors.keep(deliveries[-1].token)

    def close(self) -> None:
        """There is nothing to end."""


def _due(event: Received) -> tuple[Event, ...]:
    if event.handle is None:
        return ()
    image = ImageRef(Handle(event.handle), fresh=event.action == OVERWRITE)
    return (Event(f"webhook:{event.endpoint}:{event.id}", Planned(image)),)
