"""What was started of a schedule, and when: `schedules/<name>/`, files that are created and never changed.

The starts are a log: whoever has read the newest one alone can write the next, so of several that find a slot
due one starts it, and it is known for good, whatever becomes of the run.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import datetime

import orjson

from tagmill.worker.models import Json, canonical_hash
from tagmill.worker.store.base import Files
from tagmill.worker.store.layout import schedule_folder, shard_name


@dataclass(frozen=True, slots=True)
class Start:
    """A slot that somebody began to start."""

    number: int  #: from 1
    slot: datetime
    run_id: str
    at: datetime  #: when that was


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a start: a run, or an error that another attempt would meet, too."""

    error: str | None = None


class ScheduleLog:
    def __init__(self, files: Files, name: str) -> None:
        self._files, self._name = files, name
        self._newest = 0  #: number, as last read

    def since(self, timing: Json, now: datetime) -> datetime:
        """Return when somebody first kept the schedule with this timing."""
        name = f"{self._folder('since')}/{canonical_hash(timing)}.json"
        with contextlib.suppress(FileNotFoundError):
            return datetime.fromisoformat(orjson.loads(self._files.read(name))["at"])
        self._files.create(name, orjson.dumps({**timing, "at": now.isoformat()}))
        return self.since(timing, now)  # of whoever came first

    def newest(self) -> Start | None:
        """Return None before the first start."""
        beyond = _name(self._newest - 1) if self._newest else ""
        last = max(self._files.names(self._folder("starts"), beyond), default=None)
        self._newest = int(last.removesuffix(".json")) if last else 0
        return self.read(self._newest) if self._newest else None

    def read(self, number: int) -> Start:
        value = orjson.loads(self._files.read(f"{self._folder('starts')}/{_name(number)}"))
        slot, at = (datetime.fromisoformat(value[name]) for name in ("slot", "at"))
        return Start(number, slot, value["run_id"], at)

    def newest_slot(self, now: datetime) -> datetime | None:
        """Return the newest started slot that is not in the future, where a wrong clock may have put some."""
        starts = (self.read(number) for number in range(self._newest, 0, -1))
        return next((start.slot for start in starts if start.slot <= now), None)

    def append(self, after: Start | None, slot: datetime, run_id: str, now: datetime) -> Start | None:
        """Begin to start a slot; return None when somebody else has begun another one after `after`."""
        start = Start(after.number + 1 if after else 1, slot, run_id, now)
        value = {"slot": slot.isoformat(), "run_id": run_id, "at": now.isoformat()}
        if not self._files.create(f"{self._folder('starts')}/{_name(start.number)}", orjson.dumps(value)):
            return None
        self._newest = start.number
        return start

    def outcome(self, start: Start) -> Outcome | None:
        """Return None until it is known."""
        with contextlib.suppress(FileNotFoundError):
            name = f"{self._folder('outcomes')}/{_name(start.number)}"
            return Outcome(**orjson.loads(self._files.read(name)))
        return None

    def settle(self, start: Start, outcome: Outcome) -> None:
        """The first outcome counts."""
        name = f"{self._folder('outcomes')}/{_name(start.number)}"
        self._files.create(name, orjson.dumps({"error": outcome.error}))

    def _folder(self, part: str) -> str:
        return schedule_folder(self._name, part)


def _name(number: int) -> str:
    return f"{shard_name(number)}.json"
