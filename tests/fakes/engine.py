"""An engine that remembers what it was asked, and fails when told to."""

from __future__ import annotations

from dataclasses import dataclass, field

from tagmill.worker.engines.base import Locator, Whereabouts
from tagmill.worker.errors import ImageNotFoundError, ItemError, TaggingError
from tagmill.worker.models import Answer, TagSets


@dataclass
class FakeEngine:
    """`failures` are raised by `start` one a call, first to last, before anything is answered."""

    name: str = "fake"
    version: str = "1"
    config_hash: str = "fa4efa4efa4efa4e"
    tags: dict[str, TagSets] = field(default_factory=dict)  #: locator value -> its own answer
    gone: set[str] = field(default_factory=set)  #: values of images that are not there
    failures: list[TaggingError] = field(default_factory=list)
    asked: list[Locator] = field(default_factory=list)  #: every call of `start`
    uploads: dict[str, bytes] = field(default_factory=dict)  #: handle -> content, until discarded
    places: dict[str, Whereabouts] = field(default_factory=dict)  #: handle -> where its bytes are

    async def start(self, locator: Locator, so_far: Answer | None = None) -> Answer:  # noqa: ARG002 - one call is all
        self.asked.append(locator)
        if self.failures:
            raise self.failures.pop(0)
        if locator.value in self.gone:
            raise ImageNotFoundError("no such image", http_status=404, calls=1)
        tags = self.tags.get(locator.value, {"auto": {"sky": 97}, "user": None})
        return Answer(tags, http_status=200, latency_ms=1)

    def without(self, so_far: Answer | None, error: ItemError) -> Answer | None:  # noqa: ARG002 - the protocol's
        return None

    async def upload(self, content: bytes, content_type: str, filename: str) -> str:  # noqa: ARG002 - the protocol's
        handle = f"fakeupload{len(self.uploads) + len(self.gone):010}"
        self.uploads[handle] = content
        return handle

    async def discard(self, handle: str) -> None:
        if self.uploads.pop(handle, None) is not None:
            self.gone.add(handle)

    async def whereabouts(self, handle: str) -> Whereabouts | None:
        if handle in self.gone:
            raise ImageNotFoundError("no such file", http_status=404)
        return self.places.get(handle)

    async def aclose(self) -> None:
        """Nothing is held open."""
