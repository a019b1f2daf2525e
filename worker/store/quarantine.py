"""Webhook events that were signed and could not be understood or attributed, for people to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tagmill.worker.store import jsonl
from tagmill.worker.store.base import Files
from tagmill.worker.store.layout import webhooks_folder

ROOT = webhooks_folder("quarantined")


@dataclass(frozen=True, slots=True)
class Quarantined:
    endpoint: str
    received_at: str  #: RFC 3339, UTC
    reason: str  #: such as `several_sources`
    body: Any  #: as it was received; text where it is no JSON


class Quarantine:
    def __init__(self, files: Files) -> None:
        self._files = files

    def add(self, name: str, found: Sequence[Quarantined], now: datetime) -> None:
        """Keep them durably; `name` is the writer's own, and adding them again under it changes nothing."""
        self._files.create(f"{ROOT}/{now:%Y%m%d}/{name}.jsonl.gz", jsonl.pack(found))

    def __iter__(self) -> Iterator[Quarantined]:
        """Day by day."""
        for day in self._files.folders(ROOT):
            for name in self._files.names(f"{ROOT}/{day}"):
                for value in jsonl.unpack(self._files.read(f"{ROOT}/{day}/{name}")):
                    yield Quarantined(**value)
