"""Uploads and overwrites that the webhook receiver has kept, each from where the last listener stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import orjson

from tagmill.producer.listeners.base import Delivery
from tagmill.worker.events import Event
from tagmill.worker.models import Handle, ImageRef
from tagmill.worker.store.base import Files
from tagmill.worker.store.layout import webhooks_folder
from tagmill.worker.store.plan import Planned
from tagmill.worker.store.webhook_events import OVERWRITE, UPLOAD, Cursor, WebhookEvents
from tagmill.worker.store.webhook_events import Event as Received

LOOK_SECONDS = 0.5
MOST = 500  #: events at a time


class WebhookFeed:
    """A cursor is a numbered file, the newest one counts. What is told twice stands in the logs already."""

    def __init__(self, files: Files, name: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._files, self._sleep = files, sleep
        self._folder = f"{webhooks_folder('cursors')}/{name}"
        self._received = WebhookEvents(files)
        self._number, self._cursor = self._newest()

    def take(self) -> Sequence[Delivery]:
        found: list[Delivery] = []
        for cursor, event in self._received.after(self._cursor, {UPLOAD, OVERWRITE}):
            found.append(Delivery(_due(event), token=cursor))
            if len(found) >= MOST:
                break
        if not found:
            self._sleep(LOOK_SECONDS)
        return found

    def done(self, deliveries: Sequence[Delivery]) -> None:
        self._cursor = deliveries[-1].token
        self._number += 1
        while not self._files.create(self._name(self._number), orjson.dumps(self._cursor)):
            self._number += 1

    def close(self) -> None:
        """There is nothing to end."""

    def _newest(self) -> tuple[int, Cursor]:
        name = max(self._files.names(self._folder), default=None)
        if name is None:
            return 0, {}
        return int(name.removesuffix(".json")), orjson.loads(self._files.read(f"{self._folder}/{name}"))

    def _name(self, number: int) -> str:
        return f"{self._folder}/{number:08d}.json"


def _due(event: Received) -> tuple[Event, ...]:
    if event.handle is None:
        return ()
    image = ImageRef(Handle(event.handle), fresh=event.action == OVERWRITE)
    return (Event(f"webhook:{event.endpoint}:{event.id}", Planned(image)),)
