"""What the pipeline asks of a place that tags are written to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tagmill.worker.models import ImageRef, Write

Keep = Callable[[Mapping[str, Any]], Awaitable[None]]  #: stores our own keys' previous values, before a write


@dataclass(frozen=True, slots=True)
class Tagging:
    """What is to be written for one image."""

    run_id: str
    engine: str
    engine_config: str
    policy: str
    tags: Mapping[str, Any]  #: `{"auto": {label: confidence}, "user": …}` after the tag policy
    tagged_at: str


class Sink(Protocol):
    """One place. `write` is idempotent: a repeated write answers `unchanged`."""

    name: str  #: the key in the row's `writes`

    async def write(self, ref: ImageRef, tagging: Tagging, keep: Keep) -> Write:
        """Raise `SinkConflictError` to be called again, `SinkRejectedError` when that is no use."""
        ...

    async def aclose(self) -> None: ...
