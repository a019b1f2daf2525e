"""What waits to be read, in a file in `TMPDIR` that has no name and is gone with its user."""

from __future__ import annotations

import errno
import os
import tempfile
from bisect import bisect_left, insort
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tagmill.worker.errors import RunError

GRAIN = 1 << 16  #: bytes; room comes in multiples of it, so that what one gives back fits another


@dataclass(frozen=True, slots=True, order=True)
class Room:
    bytes: int
    start: int


class Spill:
    """Room that is given back is used again. Not for two threads at once."""

    def __init__(self, file: int) -> None:
        self._file, self._end = file, 0
        self._free: list[Room] = []  #: the smallest first
        self.used = 0  #: bytes of room

    def put(self, content: bytes) -> tuple[Room, int]:
        """Return where it is, and how long. Raise `RunError`."""
        room = self._take_room(len(content))
        with _translated():
            if os.pwrite(self._file, content, room.start) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return room, len(content)

    def take(self, room: Room, length: int) -> bytes:
        """Read it, and give its room back."""
        insort(self._free, room)
        self.used -= room.bytes
        with _translated():
            return os.pread(self._file, length, room.start)

    def _take_room(self, length: int) -> Room:
        fitting = bisect_left(self._free, Room(length, 0))
        if fitting < len(self._free):
            room = self._free.pop(fitting)
        else:
            room = Room(-(-length // GRAIN) * GRAIN, self._end)
            self._end += room.bytes
        self.used += room.bytes
        return room


@contextmanager
def open_spill() -> Iterator[Spill]:
    """Raise `RunError`."""
    with ExitStack() as stack:
        with _translated():
            file = stack.enter_context(tempfile.TemporaryFile(buffering=0))
        yield Spill(file.fileno())


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            f"no room for what is listed ahead ({error.strerror}): set TMPDIR to a folder with more, "
            "or say --list-workers 1",
            code="disk",
        ) from None
