"""Grants: durable shares of a cap. What was granted can never be granted again, whatever Redis forgets."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import orjson

from tagmill.worker.store.base import Files
from tagmill.worker.store.layout import run_folder

MOST_CALLS = 1_000  #: of a grant
SHARE = 100  #: a grant is at most the hundredth part of what is left
LEAST_UNCAPPED = 100  #: of a grant without a cap
_NUMBER_WIDTH = 8


class Period(StrEnum):
    """What a cap counts over; days and months are those of UTC."""

    RUN = "run"
    DAY = "day"
    MONTH = "month"

    def at(self, now: datetime) -> str:
        """Name the period that `now` is in: a folder and part of a key."""
        match self:
            case Period.RUN:
                return self.value
            case Period.DAY:
                return f"{now:%Y-%m-%d}"
            case Period.MONTH:
                return f"{now:%Y-%m}"

    def end(self, now: datetime) -> datetime | None:
        """Return when the next one begins; None: never."""
        if self is Period.RUN:
            return None
        midnight = datetime(now.year, now.month, now.day, tzinfo=UTC)
        if self is Period.DAY:
            return midnight + timedelta(days=1)
        return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)


@dataclass(frozen=True, slots=True)
class Grant:
    """One file. Numbers have no gaps, so the newest tells all that is granted."""

    number: int = 0
    calls: int = 0  #: below 0: so many calls of earlier grants came back, surely not made
    through: int = 0  #: calls granted up to here


class Grants:
    """Those in one folder: of a run or an account, in one period. Raises `RunStoreUnavailableError`."""

    def __init__(self, files: Files, folder: str) -> None:
        self._files, self.folder = files, folder
        self._newest = Grant()

    def open(self, cap: int | None) -> Grant | None:
        """Grant the next share to the caller alone; None when the cap is reached."""
        while share := _share(cap, self.granted()):
            if (grant := self._add(share)) is not None:
                return grant
        return None

    def give_back(self, calls: int) -> None:
        """Take back calls that the caller drew, for good, and has not made."""
        while self._add(-calls) is None:
            self.granted()

    def granted(self) -> int:
        """Calls granted so far."""
        newest = max(self._files.names(self.folder, _file(self._newest.number)), default=None)
        if newest is not None:
            value = orjson.loads(self._files.read(f"{self.folder}/{newest}"))
            self._newest = Grant(int(newest.removesuffix(".json")), value["calls"], value["through"])
        return self._newest.through

    def _add(self, calls: int) -> Grant | None:
        """Return None when another process was faster."""
        grant = Grant(self._newest.number + 1, calls, self._newest.through + calls)
        # The token makes the file the writer's own: a store takes a repeated write of the same bytes for one.
        value = {"calls": grant.calls, "through": grant.through, "token": secrets.token_hex(8)}
        if not self._files.create(f"{self.folder}/{_file(grant.number)}", orjson.dumps(value)):
            return None
        self._newest = grant
        return grant


def run_grants(files: Files, run_id: str) -> Grants:
    """All calls of a run, those of its later passes too."""
    return Grants(files, f"{run_folder(run_id)}/grants/{Period.RUN}")


def _share(cap: int | None, granted: int) -> int:
    if cap is None:
        return min(max(granted // SHARE, LEAST_UNCAPPED), MOST_CALLS)
    return min(max((cap - granted) // SHARE, 1), MOST_CALLS) if granted < cap else 0


def _file(number: int) -> str:
    return f"{number:0{_NUMBER_WIDTH}d}.json"
