"""What the run store asks of the place that keeps its files, and the probe that a place must pass."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import BinaryIO, Protocol

from tagmill.worker.errors import ConfigError

PROBE = ".probe-"  #: begins the name of a scratch file at the root


class Files(Protocol):
    """Named byte strings below one root. Raise `RunStoreUnavailableError` when the place cannot answer."""

    location: str  #: for people; no secrets

    def create(self, name: str, data: bytes) -> bool:
        """Write the file whole and durably, unless it exists; False when it does."""
        ...

    def replace(self, name: str, data: Iterable[bytes]) -> None:
        """Swap a derived view in atomically."""
        ...

    def read(self, name: str) -> bytes:
        """Raise FileNotFoundError when there is none."""
        ...

    def open(self, name: str) -> BinaryIO:
        """Return a seekable stream of a file of any size; raise FileNotFoundError when there is none."""
        ...

    def exists(self, name: str) -> bool: ...

    def names(self, prefix: str, after: str = "") -> Iterator[str]:
        """Files directly below the folder `prefix`, in name order, those beyond the file name `after`."""
        ...

    def folders(self, prefix: str) -> Iterator[str]:
        """Folders directly below the folder `prefix`, in name order."""
        ...

    def remove(self, name: str) -> None:
        """Take away a scratch file, or a sidecar that is undone; nothing else is ever removed."""
        ...

    def remove_below(self, prefix: str) -> None:
        """Take away a folder with all that is in it; only `tagmill gc` does."""
        ...

    def leftovers(self) -> Iterator[tuple[str, datetime]]:
        """Scratch files that somebody's death left, and when they were made."""
        ...


def probe(files: Files) -> None:
    """Refuse a place without create-if-absent: two committers would both believe that they were first."""
    name = f"{PROBE}{secrets.token_hex(8)}"
    try:
        first, second = files.create(name, b"1"), files.create(name, b"2")
        kept = files.read(name)
    finally:
        files.remove(name)
    if not first or second or kept != b"1":
        raise ConfigError(
            f"{files.location} has no create-if-absent; use a local folder, Amazon S3 or a store that "
            "honours If-None-Match"
        )
