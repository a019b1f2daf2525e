"""What a source lists beside what its state knows, in the order of the listing. Memory is bounded."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from tagmill.producer.sources.base import Cursor, Listed, Source
from tagmill.producer.sources.spec import S3_SCHEME, Kind, SourceSpec
from tagmill.worker.joining import joined
from tagmill.worker.known import Known, key_of
from tagmill.worker.store.scratch import scratch_database
from tagmill.worker.store.states import State

STATE = "state"  #: in a cursor: id of the last image that was found to have disappeared
_SCHEMA = """
    CREATE TABLE known (id TEXT PRIMARY KEY, key BLOB, line BLOB) WITHOUT ROWID;
    CREATE TABLE listed (id TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_DISAPPEARED = "SELECT line FROM known WHERE key > ? AND id NOT IN (SELECT id FROM listed) ORDER BY key"


@dataclass(frozen=True, slots=True)
class Met:
    """Something of the listing and what is known of it; `item` None: the listing does not have it."""

    item: Listed | None
    known: Known | None
    cursor: Cursor  #: go on behind it
    by_event: bool = False  #: what is known is an event run's, and in no state yet


Meeting = Callable[[Cursor], Iterator[Met]]


def meeting(chosen: SourceSpec, source: Source, state: State) -> Meeting:
    if chosen.input is not None:
        return lambda after: by_name(source, state, after)
    place = _key_of_place(chosen)
    return lambda after: in_order(source, state, after, place, deep=chosen.kind is Kind.FOLDER)


# --- of sources whose listing is in key order -------------------------------------------------------------


def _key_of_place(chosen: SourceSpec) -> Callable[[Cursor], bytes]:
    """From a cursor to the key of the thing that it is behind; empty at the beginning."""
    if chosen.kind is Kind.S3:
        bucket = f"{S3_SCHEME}{chosen.bucket}/"
        return lambda cursor: key_of(bucket + cursor["after"]) if "after" in cursor else b""
    folder = chosen.path if os.path.isdir(chosen.path) else os.path.dirname(chosen.path)

    def of_path(cursor: Cursor) -> bytes:
        return (
            b"file://" + os.path.join(folder, unquote_to_bytes(cursor["after"])) if "after" in cursor else b""
        )

    return of_path


def in_order(
    source: Source, state: State, after: Cursor, key_of_place: Callable[[Cursor], bytes], *, deep: bool
) -> Iterator[Met]:
    """Things that the listing passes over stay known; `deep`: a folder with all below it."""
    covering, cursor = key_of_place(after), after
    listed = ((key_of_place(item.cursor), item) for item in source.list(after))
    known = ((one.key, one) for one in state.known(max(covering, key_of(after.get(STATE, "")))))
    for key, item, one in joined(listed, known):
        if item is not None:
            covering, cursor = key, item.cursor
            yield Met(item, one, cursor)
        elif one is not None and not (deep and covering.endswith(b"/") and key.startswith(covering)):
            cursor = {**cursor, STATE: one.id}
            yield Met(None, one, cursor)


# --- of lists, which are in no order ----------------------------------------------------------------------


def by_name(source: Source, state: State, after: Cursor) -> Iterator[Met]:
    """Look each image up; the temporary files take about 500 bytes an image."""
    with scratch_database(_SCHEMA) as database:
        lines = ((one.id, one.key, one.to_line()) for one in state.known())
        database.executemany("INSERT INTO known VALUES (?, ?, ?)", lines)
        start = {name: value for name, value in after.items() if name != STATE}
        _note(database, source, start)
        cursor = after
        for item in source.list(start):
            cursor = item.cursor
            yield Met(item, _look_up(database, item), cursor)
        for (line,) in database.cursor().execute(_DISAPPEARED, (key_of(after.get(STATE, "")),)):
            one = Known.from_line(line)
            yield Met(None, one, {**cursor, STATE: one.id})


def _note(database: sqlite3.Connection, source: Source, until: Cursor) -> None:
    """What was listed before a plan was gone on with is in the list, too."""
    for item in source.list({}) if until else ():
        _look_up(database, item)
        if item.cursor == until:
            return


def _look_up(database: sqlite3.Connection, item: Listed) -> Known | None:
    """Note that it is there, too: things that the list passes over stay known."""
    image_id = item.ref.id if item.ref is not None else item.passed_over
    if image_id is None:
        return None
    database.execute("INSERT OR IGNORE INTO listed VALUES (?)", (image_id,))
    found = database.execute("SELECT line FROM known WHERE id = ?", (image_id,)).fetchone()
    return Known.from_line(found[0]) if found else None
