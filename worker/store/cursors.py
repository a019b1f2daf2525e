"""Up to where the listeners of one name have read the received webhook events."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from tagmill.worker.store.base import Files
from tagmill.worker.store.layout import webhooks_folder
from tagmill.worker.store.webhook_events import Cursor

ROOT = webhooks_folder("cursors")


class Cursors:
    """Numbered files in a folder for each day that events were received on; the newest one counts."""

    def __init__(self, files: Files, name: str) -> None:
        self._files, self.folder = files, f"{ROOT}/{name}"
        self._day = max(files.folders(self.folder), default="")
        name_of_last = max(files.names(f"{self.folder}/{self._day}"), default="0.json")
        self._number = int(name_of_last.removesuffix(".json"))
        #: As it was when this was made, or as it was kept here; {}: nothing was read.
        self.newest: Cursor = orjson.loads(files.read(self._name())) if self._day else {}

    def keep(self, cursor: Cursor) -> None:
        """It is further than the newest, or the same."""
        if cursor == self.newest:
            return
        day = max(cursor).partition("/")[0]
        self._day, self._number = day, self._number + 1 if day == self._day else 1
        while not self._files.create(self._name(), orjson.dumps(cursor)):
            self._number += 1
        self.newest = cursor

    def _name(self) -> str:
        return f"{self.folder}/{self._day}/{self._number:08d}.json"


def listeners(files: Files) -> Iterator[str]:
    """Names of those who have read anything."""
    return files.folders(ROOT)
