"""A local folder, or one file of it: regular files below it in the byte order of their relative paths."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote_from_bytes, unquote_to_bytes

from tagmill.producer.sources.base import Cursor, Filters, Listed
from tagmill.producer.sources.filtering import Sieve, Skip, listed
from tagmill.worker.errors import ConfigError, NotFoundError
from tagmill.worker.models import ImageRef, LocalFile

IMAGE_EXTENSIONS = (
    *("avif", "bmp", "gif", "heic", "heif", "jpeg", "jpg"),
    *("png", "psd", "svg", "tif", "tiff", "webp"),
)
_EFFECTIVE_IDS = os.access in os.supports_effective_ids

Identity = tuple[int, int]  #: device and inode


@dataclass(frozen=True, slots=True)
class _Level:
    """A folder being walked."""

    path: bytes  #: relative, with a slash at the end; empty for the root
    names: Iterator[bytes]
    identity: Identity


class Folder:
    """Memory is one folder's names for each level; names may hold any byte."""

    def __init__(self, root: bytes, filters: Filters) -> None:
        self._root = root
        self._sieve = Sieve(filters)

    def describe(self) -> str:
        return self._root.decode(errors="replace")

    def list(self, after: Cursor) -> Iterator[Listed]:
        done = unquote_to_bytes(after.get("after", ""))
        if os.path.isfile(self._root):
            folder, name = os.path.split(self._root)
            walked: Iterator[tuple[bytes, Skip | None]] = iter([(name, None)] if name > done else [])
        else:
            folder, walked = self._root, self._walk(done)
        for path, skip in walked:
            yield listed(skip or self._examine(folder, path), {"after": quote_from_bytes(path)})

    def _walk(self, done: bytes) -> Iterator[tuple[bytes, Skip | None]]:
        """Paths after `done`; a folder appears only when it is passed over, with a slash at its end.

        Folders are sorted with that slash, so that whole paths come in order: `a.b` is before `a/b`.
        """
        levels = [self._open_root()]
        while levels:
            path = next(levels[-1].names, None)
            if path is None:
                levels.pop()
            elif _is_behind(path, done):
                continue
            elif not path.endswith(b"/"):
                yield path, None
            else:
                entered = self._enter(path, levels)
                if isinstance(entered, Skip):
                    yield path, entered
                else:
                    levels.append(entered)

    def _open_root(self) -> _Level:
        try:
            return self._open(b"", self._identify(b""))
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError(f"no folder or file {self.describe()!r}") from None
        except OSError as error:
            raise ConfigError(f"cannot read {self.describe()!r}: {error.strerror}") from None

    def _enter(self, path: bytes, levels: Sequence[_Level]) -> _Level | Skip:
        if _is_hidden(path):
            return Skip.HIDDEN
        try:
            identity = self._identify(path)
            if any(identity == level.identity for level in levels):
                return Skip.LOOP
            return self._open(path, identity)
        except OSError:
            return Skip.UNREADABLE

    def _identify(self, path: bytes) -> Identity:
        status = os.stat(os.path.join(self._root, path))
        return status.st_dev, status.st_ino

    def _open(self, path: bytes, identity: Identity) -> _Level:
        with os.scandir(os.path.join(self._root, path)) as entries:
            names = sorted(entry.name + b"/" if _is_folder(entry) else entry.name for entry in entries)
        return _Level(path, (path + name for name in names), identity)

    def _examine(self, folder: bytes, path: bytes) -> ImageRef | Skip:
        name = path.decode(errors="surrogateescape")
        skip = Skip.HIDDEN if _is_hidden(path) else self._sieve.check_name(name)
        if skip:
            return skip
        absolute = os.path.join(folder, path)
        try:
            status = os.stat(absolute)
            readable = os.access(absolute, os.R_OK, effective_ids=_EFFECTIVE_IDS)
        except OSError:
            return Skip.UNREADABLE
        if not stat.S_ISREG(status.st_mode):
            return Skip.SPECIAL
        skip = self._sieve.check_facts(status.st_size, status.st_mtime) if readable else Skip.UNREADABLE
        return skip or ImageRef(LocalFile.at(folder, path, status.st_size, status.st_mtime_ns))


def _is_behind(path: bytes, done: bytes) -> bool:
    """A folder that `done` lies in is not behind it: the rest of it is to come."""
    holds_done = path.endswith(b"/") and done.startswith(path) and done != path
    return path <= done and not holds_done


def _is_hidden(path: bytes) -> bool:
    return path.rstrip(b"/").rpartition(b"/")[2].startswith(b".")


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a symbolic link to itself
        return False
