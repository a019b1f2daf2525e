"""What the planner asks of an image library."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from tagmill.worker.models import ImageRef, Json

Cursor = dict[str, Any]  #: JSON; a source continues after it, `{}` is the beginning


@dataclass(frozen=True, slots=True)
class Listed:
    """One thing the source came upon: an image to plan, or (`ref` None) what it passed over and why."""

    ref: ImageRef | None
    cursor: Cursor  #: continue after this very item
    skipped: str | None = None  #: such as `folder`, `empty`, `extension`, `excluded`, `size`, `older`
    row: Json | None = None  #: the row that stands for the image so far, or whose answer it gets once more
    why: str | None = None  #: over a known source: why it is planned, or is not
    passed_over: str | None = None  #: id of what is skipped and there, where cursors do not tell it


class Source(Protocol):
    """Enumerates images in a fixed order; an unchanged library gives identical items."""

    def describe(self) -> str:
        """One line for people, without secrets."""
        ...

    def list(self, after: Cursor) -> Iterator[Listed]:
        """Raise `NotFoundError` when the library is not there, `ConfigError` when it cannot be read."""
        ...


@dataclass(frozen=True, slots=True)
class Filters:
    """What of a library is wanted; sizes in bytes, `since` an RFC 3339 time in UTC."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    min_size: int | None = None
    max_size: int | None = None
    since: str | None = None
    extensions: tuple[str, ...] = field(default=())
