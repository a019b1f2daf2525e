"""Sorting more than memory holds: a private SQLite database in temporary files, gone with its user.

SQLite's own sorter merges runs on disk, so memory is its cache however many rows there are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from tagmill.worker.errors import RunError
from tagmill.worker.models import Place

CACHE_KIB = 8 * 1024
SHARD_ROOM = 100_000  #: indices have five digits


@contextmanager
def scratch_database(schema: str) -> Iterator[sqlite3.Connection]:
    """For one thread. Raise `RunError` when its files find no room; `TMPDIR` says where they are."""
    try:
        with closing(sqlite3.connect("", isolation_level=None)) as database:
            database.executescript(
                f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-{CACHE_KIB};"
                "PRAGMA temp_store=FILE;" + schema
            )
            yield database
    except sqlite3.OperationalError as error:
        raise RunError(
            f"sorting failed: {error}; set TMPDIR to a folder with more room", code="disk"
        ) from None


def to_number(place: Place) -> int:
    """Sorts like the place."""
    return place[0] * SHARD_ROOM + place[1]


def to_place(number: int) -> Place:
    return divmod(number, SHARD_ROOM)
