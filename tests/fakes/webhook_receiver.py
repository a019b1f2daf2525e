"""A receiver over a run store in memory, on a clock that stands still."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
from fakes.files import MemoryFiles

from tagmill.config.logs import Redactor
from tagmill.sandbox.webhooks import Letter, to_body
from tagmill.worker.store.quarantine import Quarantine, Quarantined
from tagmill.worker.store.webhook_events import Event, WebhookEvents
from tagmill.worker.webhooks.app import create_app
from tagmill.worker.webhooks.memory import Memory
from tagmill.worker.webhooks.receiver import Receiver
from tagmill.worker.webhooks.signature import Endpoint

SECRET, NEXT_SECRET = "example-webhook-secret-not-real", "another-webhook-secret-not-real"
NOW = 1_893_456_000
URL = "https://cdn.filestackcontent.com/AbCdEfGhIjKlMnOpQr01"


def an_event(number: int = 1, action: str = "fp.upload", **text: Any) -> dict[str, Any]:
    return {"id": number, "action": action, "timestamp": NOW, "text": text or {"url": URL}}


@dataclass
class ReceiverUnderTest:
    files: MemoryFiles
    told: list[Event] = field(default_factory=list)  #: what those who wait would hear
    seconds: float = 0.0  #: of its clock

    def __post_init__(self) -> None:
        endpoints = {
            name: Endpoint(name, [NEXT_SECRET, SECRET], max_age_seconds=None, clock=lambda: NOW)
            for name in ("main", "other")
        }
        self.receiver = Receiver(
            self.files,
            endpoints,
            Memory(),
            redact=Redactor([SECRET, NEXT_SECRET]),
            stored=self.told.append,
            now=lambda: datetime.fromtimestamp(NOW, UTC),
            clock=lambda: self.seconds,
        )
        transport = httpx.ASGITransport(create_app(self.receiver), raise_app_exceptions=True)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://receiver")

    async def send(self, event: Any, endpoint: str = "main", secret: str = SECRET) -> httpx.Response:
        body = event if isinstance(event, bytes) else to_body(event)
        letter = Letter.signed(body, secret, NOW)
        return await self.client.post(
            f"/webhooks/filestack/{endpoint}", content=letter.body, headers=dict(letter.headers)
        )

    def events(self) -> list[Event]:
        return list(WebhookEvents(self.files).since(datetime.fromtimestamp(NOW, UTC)))

    def quarantined(self) -> list[Quarantined]:
        return list(Quarantine(self.files))
