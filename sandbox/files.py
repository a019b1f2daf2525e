"""Uploads on disk, so that memory stays flat whatever is stored."""

from __future__ import annotations

import json
import os
import re
import secrets
import string
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import asdict, dataclass

MOST_BYTES = 2**30  #: of one upload
HANDLE_LENGTH = 20
_ALPHABET = string.ascii_letters + string.digits
_SAFE = re.compile(r"[A-Za-z0-9_-]{10,64}")


class TooMuchError(Exception):
    """An upload beyond MOST_BYTES."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    handle: str
    filename: str
    mimetype: str
    size: int
    uploaded: float  #: milliseconds since 1970
    key: str  #: its name in the storage behind


class FileStore:
    def __init__(self, folder: str) -> None:
        self._folder = folder
        os.makedirs(os.path.join(folder, "incoming"), exist_ok=True)

    async def receive(self, content: AsyncIterator[bytes]) -> str:
        """A file nobody knows yet; `add` or `overwrite` takes it over. Raise TooMuchError."""
        path = self.scratch()
        size = 0
        try:
            with open(path, "wb") as incoming:  # noqa: ASYNC230 - small writes to a local disk
                async for block in content:
                    size += len(block)
                    _check_size(size)
                    incoming.write(block)
        except BaseException:
            discard(path)
            raise
        return path

    def scratch(self) -> str:
        """A free path beside the stored files."""
        return os.path.join(self._folder, "incoming", secrets.token_hex(12))

    def add(self, incoming: str, filename: str, mimetype: str) -> StoredFile:
        handle = "".join(secrets.choice(_ALPHABET) for _ in range(HANDLE_LENGTH))
        stored = StoredFile(
            handle=handle,
            filename=filename,
            mimetype=mimetype,
            size=os.path.getsize(incoming),
            uploaded=round(time.time() * 1_000),
            key=f"{secrets.token_hex(8)}_{filename}",
        )
        os.makedirs(os.path.dirname(self.path(handle)), exist_ok=True)
        self._write(stored)
        os.replace(incoming, self.path(handle))
        return stored

    def get(self, handle: str) -> StoredFile | None:
        try:
            with open(self._record(handle), "rb") as record:
                return StoredFile(**json.load(record))
        except FileNotFoundError:
            return None

    def overwrite(self, stored: StoredFile, incoming: str) -> StoredFile:
        """New content under the old name and type, as the service keeps them."""
        changed = StoredFile(**{**asdict(stored), "size": os.path.getsize(incoming)})
        os.replace(incoming, self.path(stored.handle))
        self._write(changed)
        return changed

    def remove(self, handle: str) -> bool:
        if self.get(handle) is None:
            return False
        discard(self._record(handle))
        discard(self.path(handle))
        return True

    def path(self, handle: str) -> str:
        if not _SAFE.fullmatch(handle):  # it becomes a file name
            raise FileNotFoundError(handle)
        return os.path.join(self._folder, "files", handle[:2], handle)

    def _record(self, handle: str) -> str:
        return f"{self.path(handle)}.json"

    def _write(self, stored: StoredFile) -> None:
        with open(self._record(stored.handle), "w", encoding="utf-8") as record:
            json.dump(asdict(stored), record)


def _check_size(size: int) -> None:
    if size > MOST_BYTES:
        raise TooMuchError


def discard(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
