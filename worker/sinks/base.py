"""What the pipeline asks of a place that tags are written to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tagmill.worker.models import ImageRef, Write, WriteStatus

#: Stores, before a write, our own keys' previous values: `{"sink", "run": whose they are or None, …}`.
Keep = Callable[[Mapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Tagging:
    """What is to be written for one image."""

    run_id: str
    engine: str
    engine_config: str
    policy: str
    tags: Mapping[str, Any]  #: `{"auto": {label: confidence}, "user": …}` after tag policy and rules
    tagged_at: str
    labels: tuple[str, ...] = ()  #: that rules gave the image

    @property
    def marker(self) -> str:
        return marker(self.engine_config, self.policy)


def marker(engine_config: str, policy: str) -> str:
    """Return how a place says which settings its tags come from."""
    return f"{engine_config}.{policy}"


def skipped(reason: str) -> Write:
    """Return what a sink says of an image that it leaves alone."""
    return Write(WriteStatus.SKIPPED, reason=reason)


@dataclass(frozen=True, slots=True)
class Tagged:
    """What a run planned and was answered for one image, by its manifest."""

    ref: ImageRef
    tagging: Tagging


@dataclass(frozen=True, slots=True)
class Written:
    """What a run left at a place, as far as its files tell."""

    run_id: str
    write: Mapping[str, Any] | None  #: the row's `writes[sink]`
    previous: Mapping[str, Any] | None  #: what `keep` got before the run's first write, if anything
    earlier: Callable[[str], Awaitable[Tagged | None]]  #: by run id, what its manifest says of the image
    tagging: Tagging | None = None  #: what the row has for the sinks; None: nothing to compare with

    @property
    def as_written(self) -> Tagging | None:
        """What stands there unless somebody changed it; None after a failure, which may have left either."""
        return None if self._status is WriteStatus.FAILED else self.tagging

    def kept(self, replaced: str | None) -> Mapping[str, Any] | None:
        """Return `previous` if it holds the values that the run replaced, by what the place itself says."""
        return self.previous if self.previous is not None and self.previous["run"] == replaced else None

    def not_ours(self) -> Write:
        """Return what is said of a place that shows something else than this run's write."""
        if self._status in {WriteStatus.WRITTEN, WriteStatus.STALE}:
            return Write(WriteStatus.STALE, reason="changed_since")
        return Write(WriteStatus.UNCHANGED)

    @property
    def _status(self) -> WriteStatus | None:
        return WriteStatus(self.write["status"]) if self.write else None


class Sink(Protocol):
    """One place. A repeated call finds the work done and answers `unchanged`.

    All methods raise `SinkConflictError` to be called again, `SinkRejectedError` when that is no use.
    """

    name: str  #: the key in the row's `writes`

    async def write(self, ref: ImageRef, tagging: Tagging, keep: Keep) -> Write:
        """Say these tags, and which run's they replace, unless the place says so already."""
        ...

    async def undo(self, ref: ImageRef, written: Written) -> Write:
        """Put back what stood there before the run: `written`; `stale` where somebody changed it since.

        `unchanged` where nothing of the run stands.
        """
        ...

    async def marked(self, ref: ImageRef, engine_config: str, policy: str, run_id: str) -> bool | None:
        """Return whether another run than `run_id` wrote here, on this content, with these settings.

        None: here is no place for this image, and never will be.
        A run's own marker does not count: what it wrote and then lost with Redis still needs its row.
        """
        ...

    async def aclose(self) -> None: ...
