"""A list without the handles whose file is gone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from tagmill.producer.sources.base import Cursor, Listed, Source
from tagmill.producer.sources.filtering import Skip
from tagmill.worker.models import Handle


class Present:
    """`deleted` gives the handles that the service's webhooks told of; a handle never comes back."""

    def __init__(self, source: Source, deleted: Callable[[], Collection[str]]) -> None:
        self._source, self._deleted = source, deleted

    def describe(self) -> str:
        return self._source.describe()

    def list(self, after: Cursor) -> Iterator[Listed]:
        deleted = self._deleted()
        for item in self._source.list(after):
            handle = item.ref.source if item.ref else None
            gone = isinstance(handle, Handle) and handle.handle in deleted
            yield Listed(None, item.cursor, Skip.GONE.value) if gone else item
