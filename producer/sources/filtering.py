"""Which of the things in a library are wanted, and why the others are passed over."""

from __future__ import annotations

import math
from datetime import datetime
from enum import StrEnum

from tagmill.producer.sources.base import Cursor, Filters, Listed
from tagmill.producer.sources.globs import compile_globs
from tagmill.worker.models import ImageRef

SIDECAR_SUFFIX = ".tags.json"


class Skip(StrEnum):
    """Why something that a source came upon is not planned; counted by these names."""

    FOLDER = "folder"  #: an object whose key ends in a slash
    EMPTY = "empty"
    EXTENSION = "extension"
    EXCLUDED = "excluded"  #: by a glob
    SIZE = "size"
    OLDER = "older"
    HIDDEN = "hidden"  #: its name begins with a dot
    LOOP = "loop"  #: a symbolic link to a folder that it is in
    SPECIAL = "special"  #: a pipe, socket or device
    UNREADABLE = "unreadable"  #: no permission, or gone since it was listed
    SIDECAR = "sidecar"  #: tags that Tagmill itself wrote
    GONE = "gone"  #: a handle whose file was deleted at the service
    PROBE = "probe"  #: left by a probe that was killed
    ARCHIVED = "archived"  #: in a storage class that cannot be read at once
    NOT_SAMPLED = "not_sampled"
    DELETED = "deleted"  #: a delete marker
    NOT_LATEST = "not_latest"  #: an earlier version of an object
    ELSEWHERE = "elsewhere"  #: an event of another bucket or prefix
    OWN = "own"  #: an event of our own write-back


def listed(found: ImageRef | Skip, cursor: Cursor) -> Listed:
    return Listed(None, cursor, found.value) if isinstance(found, Skip) else Listed(found, cursor)


class Sieve:
    """Compiled `Filters`: each method says why something is passed over, or None."""

    def __init__(self, filters: Filters) -> None:
        self._extensions = frozenset(filters.extensions)
        self._include = compile_globs(filters.include)
        self._exclude = compile_globs(filters.exclude)
        self._min_size = filters.min_size or 0
        self._max_size = math.inf if filters.max_size is None else filters.max_size
        self._since = datetime.fromisoformat(filters.since).timestamp() if filters.since else -math.inf

    def check_name(self, name: str) -> Skip | None:
        """`name` is relative to the source."""
        if name.endswith(SIDECAR_SUFFIX):
            return Skip.SIDECAR
        if self._extensions and extension(name) not in self._extensions:
            return Skip.EXTENSION
        if self._include and not self._include.fullmatch(name):
            return Skip.EXCLUDED
        if self._exclude and self._exclude.fullmatch(name):
            return Skip.EXCLUDED
        return None

    def check_facts(self, size: int, modified: float) -> Skip | None:
        """`size` in bytes, `modified` in seconds since 1970."""
        if size == 0:
            return Skip.EMPTY
        if not self._min_size <= size <= self._max_size:
            return Skip.SIZE
        return Skip.OLDER if modified < self._since else None


def extension(name: str) -> str:
    """In lower case, without the dot; empty when there is none."""
    _, dot, last = name.rpartition(".")
    return last.lower() if dot else ""
