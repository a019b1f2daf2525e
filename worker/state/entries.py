"""What a chunk's journal says of one image, and how that changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tagmill.worker.models import S3Object

DEADLY_DEATHS = 2  #: alone in flight at so many deaths, an image is what kills


@dataclass(frozen=True, slots=True)
class Job:
    """A workflow job that an image's call has started, or may have."""

    source: str  #: where the service was told to find the image, without what may be a signature
    transfer: str
    since: float  #: when it was started, Unix seconds
    behind: S3Object | None = None  #: of a handle, the object that keeps its bytes
    id: str | None = None  #: None: the start is in flight, or its answer was lost
    polls: int = 0
    poll_at: float = 0.0  #: when to ask for it next, Unix seconds

    def __post_init__(self) -> None:
        if isinstance(self.behind, Mapping):  # out of JSON
            object.__setattr__(self, "behind", S3Object(**self.behind))


@dataclass(frozen=True, slots=True)
class Entry:
    """One image, over all workers that had its chunk."""

    calls: int = 0  #: requests to a billable endpoint, those of unknown fate included
    maybe_charged: int = 0  #: requests of unknown fate
    attempts: int = 0
    alone_deaths: int = 0  #: deaths at which it was the only image in flight
    in_flight: bool = False  #: a paid call was begun and has no end
    suspect: bool = False  #: was in flight at a death and has not come back since: goes first, alone
    result: Mapping[str, Any] | None = None  #: terminal: whatever `settle` was given
    answer: Mapping[str, Any] | None = None  #: of an image that takes several calls, what came of the first
    answered_attempts: int = 0  #: those of `attempts` that were for these
    upload: str | None = None  #: handle of an upload not yet discarded
    job: Job | None = None  #: what its answer is to come from

    def __post_init__(self) -> None:
        if isinstance(self.job, Mapping):  # out of JSON
            object.__setattr__(self, "job", Job(**self.job))

    @property
    def deadly(self) -> bool:
        return self.alone_deaths >= DEADLY_DEATHS

    @property
    def lasting(self) -> Entry:
        """Without what is cheap to lose: how often the service was asked for the job."""
        return self if self.job is None else replace(self, job=replace(self.job, polls=0, poll_at=0.0))


NOT_BEGUN = Entry()


def after_death(entry: Entry, deaths: int) -> Entry:
    """What was in flight when its worker died is of unknown fate; `deaths`: 1 when it was so alone.

    A job that may have been started is waited for. All else is a suspect.
    """
    return replace(
        entry,
        in_flight=False,
        suspect=entry.job is None,
        calls=entry.calls + 1,
        maybe_charged=entry.maybe_charged + 1,
        alone_deaths=entry.alone_deaths + deaths,
    )


def after_call(entry: Entry, calls: int, maybe_charged: int, attempts: int, job: Job | None = None) -> Entry:
    """What came back; `job`: what goes on of it."""
    return replace(
        entry,
        in_flight=False,
        suspect=False,
        calls=entry.calls + calls,
        maybe_charged=entry.maybe_charged + maybe_charged,
        attempts=entry.attempts + attempts,
        job=job,
    )
