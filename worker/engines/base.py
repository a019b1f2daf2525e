"""What the pipeline asks of a tagging service."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from tagmill.worker.addresses import bare, names
from tagmill.worker.errors import ItemError
from tagmill.worker.models import Answer, Json, Pending


class Transfer(StrEnum):
    """How the service comes by the image's bytes; the row's `transfer`."""

    HANDLE = "handle"
    ALIAS = "alias"
    URL = "url"
    UPLOAD = "upload"


@dataclass(frozen=True, slots=True)
class Locator:
    """Where the service finds one image. A URL may be signed, so `value` stays out of `repr`."""

    transfer: Transfer
    value: str
    fresh: bool = False
    of_version: bool = False  #: other versions of the same object are tagged, too

    @property
    def public(self) -> str:
        """The value without what may be a signature."""
        if self.transfer is not Transfer.URL:
            return self.value
        return names(self.value)[-1] if self.of_version else bare(self.value)

    def __repr__(self) -> str:
        return f"Locator({self.transfer.value})"


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where the service keeps a file's bytes."""

    container: str  #: of Amazon S3 a bucket
    key: str


class Engine(Protocol):
    """A tagging service. Every method raises only `tagmill.worker.errors` classes."""

    name: str  #: the row's `engine`
    version: str  #: the row's `engine_version`
    config_hash: str  #: the row's `engine_config`: changes whenever the service would answer otherwise

    async def start(self, locator: Locator, so_far: Answer | None = None) -> Answer | Pending:
        """One paid call. Raise an `ItemError` that counts its calls, or a `RunError`.

        `so_far`: what an earlier call answered that was not all of it.
        """
        ...

    def without(self, so_far: Answer | None, error: ItemError) -> Answer | None:
        """Return the answer that does without the next call, which failed; None: the image fails with it."""
        ...

    async def upload(self, content: bytes, content_type: str, filename: str) -> str:
        """Store bytes at the service and return the handle that `start` takes."""
        ...

    async def discard(self, handle: str) -> None:
        """Delete an earlier upload; one that is already gone is no error."""
        ...

    async def whereabouts(self, handle: str) -> Whereabouts | None:
        """Return where a file's bytes are, None when the service does not tell. No paid call."""
        ...

    async def aclose(self) -> None: ...


class Collector(Protocol):
    """An engine whose answers come later. No method here is a paid call; each raises like an engine."""

    async def collect(self, job_id: str) -> Answer | Pending:
        """Ask what became of a job."""
        ...

    def read(self, told: Json) -> Answer | Pending:
        """Understand what the service told of a job without being asked."""
        ...
