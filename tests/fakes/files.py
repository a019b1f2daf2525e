"""A run store in memory, and one whose user dies at a chosen write."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import BinaryIO

from tagmill.worker.store.base import PROBE


class MemoryFiles:
    """`contents` may be looked at and changed freely."""

    location = "memory"

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def create(self, name: str, data: bytes) -> bool:
        with self._lock:
            if name in self.contents:
                return False
            self.contents[name] = data
            return True

    def replace(self, name: str, data: Iterable[bytes]) -> None:
        self.contents[name] = b"".join(data)

    def read(self, name: str) -> bytes:
        try:
            return self.contents[name]
        except KeyError:
            raise FileNotFoundError(name) from None

    def open(self, name: str) -> BinaryIO:
        return io.BytesIO(self.read(name))

    def exists(self, name: str) -> bool:
        return name in self.contents

    def names(self, prefix: str, after: str = "") -> Iterator[str]:
        below = self._below(prefix)
        return iter(sorted(name for name in below if "/" not in name and name > after))

    def folders(self, prefix: str) -> Iterator[str]:
        below = self._below(prefix)
        return iter(sorted({name.partition("/")[0] for name in below if "/" in name}))

    def remove(self, name: str) -> None:
        self.contents.pop(name, None)

    def remove_below(self, prefix: str) -> None:
        for name in self._below(prefix):
            self.contents.pop(f"{prefix.rstrip('/')}/{name}")

    def leftovers(self) -> Iterator[tuple[str, datetime]]:
        long_ago = datetime(2026, 1, 1, tzinfo=UTC)
        return iter([(name, long_ago) for name in self.contents if name.startswith(PROBE)])

    def _below(self, prefix: str) -> list[str]:
        folder = f"{prefix.rstrip('/')}/" if prefix else ""
        names = list(self.contents)
        return [name.removeprefix(folder) for name in names if name.startswith(folder)]


class CountingFiles(MemoryFiles):
    """Knows how often it was asked for something."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = 0

    def read(self, name: str) -> bytes:
        self.requests += 1
        return super().read(name)

    def exists(self, name: str) -> bool:
        self.requests += 1
        return super().exists(name)

    def names(self, prefix: str, after: str = "") -> Iterator[str]:
        self.requests += 1
        return super().names(prefix, after)

    def folders(self, prefix: str) -> Iterator[str]:
        self.requests += 1
        return super().folders(prefix)


class Died(BaseException):
    """No handler of the program sees a death."""


class MortalFiles(MemoryFiles):
    """Dies at the write that `die_at` names, just before or just after it took place."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self._deadly, self._survives = 0, False

    def die_at(self, nth: int, *, written: bool) -> None:
        """Die at the nth write from now on; 0: at none."""
        self.writes, self._deadly, self._survives = 0, nth, written

    def create(self, name: str, data: bytes) -> bool:
        self._begin()
        created = super().create(name, data)
        self._end()
        return created

    def replace(self, name: str, data: Iterable[bytes]) -> None:
        self._begin()
        super().replace(name, data)
        self._end()

    def _begin(self) -> None:
        self.writes += 1
        if self.writes == self._deadly and not self._survives:
            raise Died

    def _end(self) -> None:
        if self.writes == self._deadly:
            raise Died
