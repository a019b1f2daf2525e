"""Webhook events as they were received: small files, numbered by each writer, in a folder for each hour.

A sender repeats what it is not sure of, so an event may stand here more than once, and later than others.
"""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from tagmill.worker.addresses import names
from tagmill.worker.models import HANDLE, Json
from tagmill.worker.store import jsonl
from tagmill.worker.store.base import Files
from tagmill.worker.store.layout import webhooks_folder

ROOT = webhooks_folder("received")
LATE = timedelta(hours=2)  #: a file comes into the folder of its hour within this, clocks of hosts included
SKEW = timedelta(minutes=5)  #: between the clocks of hosts
WORKFLOW, UPLOAD, OVERWRITE, DELETE = "fs.workflow", "fp.upload", "fp.overwrite", "fp.delete"
_HOUR = "%Y%m%d/%H"
_SUFFIX = ".jsonl.gz"
_NUMBER_WIDTH = 8

Cursor = Mapping[str, int]  #: a writer's folder -> its last file that was read; {}: nothing was


@dataclass(frozen=True, slots=True)
class Event:
    """One event, signed with a secret of its endpoint."""

    endpoint: str
    received_at: str  #: RFC 3339, UTC
    id: int | str  #: unique for the endpoint
    action: str
    text: Json

    @property
    def handle(self) -> str | None:
        """Of the file that was uploaded, overwritten or deleted: the last segment of its address."""
        path = re.split(r"[?#]", str(self.text.get("url", "")))[0]
        handle = path.rstrip("/").rpartition("/")[2].partition("+")[0]
        return handle if HANDLE.fullmatch(handle) else None

    @property
    def source(self) -> str:
        """Of a result: the one source of its job, without a query."""
        return self.sources[0]

    @property
    def sources(self) -> tuple[str, ...]:
        """All that it may be known by, without what may be signed."""
        return names(str(self.text["sources"][0]))

    @property
    def job(self) -> str | None:
        """Of a result: what tells its job from all others."""
        if self.action != WORKFLOW:
            return None
        text = self.text
        return str(
            text.get("jobid") or f"{text['workflow']} {text.get('createdAt') or self.id} {self.source}"
        )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(**value)


class EventWriter:
    """One process's files; one write at a time."""

    def __init__(self, files: Files) -> None:
        self._files, self.name = files, secrets.token_hex(8)
        self._numbers = itertools.count(1)

    def write(self, events: Sequence[Event], now: datetime) -> None:
        """Return once they are durable; raise `RunStoreUnavailableError` otherwise."""
        number = next(self._numbers)
        name = f"{ROOT}/{now:{_HOUR}}/{self.name}/{number:0{_NUMBER_WIDTH}d}{_SUFFIX}"
        self._files.create(name, jsonl.pack(events))


class WebhookEvents:
    def __init__(self, files: Files) -> None:
        self._files = files
        #: For these actions: where the reader stands, and how far nothing is of interest to it.
        self._ahead: dict[frozenset[str], tuple[Cursor, Cursor]] = {}

    def after(
        self, cursor: Cursor, actions: Collection[str] | None, latest: datetime | None = None
    ) -> Iterator[tuple[Cursor, Event]]:
        """Yield events with these actions (None: all), each with the cursor to go on from after it.

        Of the last file before that cursor some may come again, as they may anyway. `latest`: a writer's
        events end before the first file with one that was received later; other writers' go on.
        """
        wanted, here = frozenset(actions or ()), dict(cursor)
        base, ahead = self._ahead.get(wanted, ({}, {}))
        if base == here:
            here = dict(ahead)
        done: Cursor = dict(cursor)
        too_young = set[str]()
        for folder, number in self._numbered(here):
            if folder in too_young:
                continue
            events = list(self._read(folder, number))
            if latest is not None and datetime.fromisoformat(events[-1].received_at) > latest:
                too_young.add(folder)
                continue
            beyond = _moved(here, folder, number)
            found = [event for event in events if not wanted or event.action in wanted]
            for left, event in zip(reversed(range(len(found))), found, strict=True):
                done = done if left else beyond
                yield done, event
            here = beyond
            self._ahead[wanted] = (done, here)

    def since(self, start: datetime) -> Iterator[Event]:
        """Yield all that was received from about then on."""
        for folder in self._folders(start - SKEW):
            for number in self._numbers(folder):
                yield from self._read(folder, number)

    def _numbered(self, cursor: Cursor) -> Iterator[tuple[str, int]]:
        for folder in self._folders(begins(cursor)):
            for number in self._numbers(folder, cursor.get(folder, 0)):
                yield folder, number

    def _folders(self, start: datetime | None) -> Iterator[str]:
        """Writers' folders as `20261125/00/WRITER`, hour by hour."""
        first = f"{start:{_HOUR}}" if start else ""
        for day in self._files.folders(ROOT):
            if day < first[: len(day)]:
                continue
            for hour in self._files.folders(f"{ROOT}/{day}"):
                if f"{day}/{hour}" >= first:
                    yield from (
                        f"{day}/{hour}/{name}" for name in self._files.folders(f"{ROOT}/{day}/{hour}")
                    )

    def _numbers(self, folder: str, after: int = 0) -> Iterator[int]:
        beyond = f"{after:0{_NUMBER_WIDTH}d}{_SUFFIX}"
        for name in self._files.names(f"{ROOT}/{folder}", beyond):
            yield int(name.removesuffix(_SUFFIX))

    def _read(self, folder: str, number: int) -> Iterator[Event]:
        data = self._files.read(f"{ROOT}/{folder}/{number:0{_NUMBER_WIDTH}d}{_SUFFIX}")
        return map(Event.from_json, jsonl.unpack(data))


def find_result(files: Files, workflow_id: str, source_values: Iterable[str], since: datetime) -> Json | None:
    """Return the `text` of an event about that workflow and one of these sources alone; None: there is none.

    `since`: when the job was started, by the clock of whoever started it.
    """
    wanted, earliest = {names(value)[-1] for value in source_values}, (since - SKEW).astimezone(UTC)
    for event in WebhookEvents(files).since(since):
        late_enough = datetime.fromisoformat(event.received_at) >= earliest
        is_about_it = event.action == WORKFLOW and event.text["workflow"] == workflow_id
        if late_enough and is_about_it and wanted.intersection(event.sources):
            return event.text
    return None


def begins(cursor: Cursor) -> datetime | None:
    """From which hour on a reader goes on; None: from the beginning."""
    return _hour_of(max(cursor)) - LATE if cursor else None


def _moved(cursor: Cursor, folder: str, number: int) -> dict[str, int]:
    """Go on to that file; folders to which nothing can be added any more are forgotten."""
    moved = {**cursor, folder: number}
    first = f"{begins(moved):{_HOUR}}"
    return {name: read for name, read in moved.items() if name >= first}


def _hour_of(folder: str) -> datetime:
    return datetime.strptime(folder.rpartition("/")[0], _HOUR).replace(tzinfo=UTC)
