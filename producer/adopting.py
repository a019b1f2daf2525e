"""What event runs tagged of a source since its state was written: answers that need not be paid for again."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Iterator, Sequence

import orjson

from tagmill.producer.meeting import Met
from tagmill.worker.known import Known
from tagmill.worker.remembering import EVENTS_FILE, RunsOfEvents
from tagmill.worker.store.base import Files
from tagmill.worker.store.event_runs import EVENTS
from tagmill.worker.store.passes import Passes
from tagmill.worker.store.runs import Runs, RunSpec
from tagmill.worker.store.scratch import scratch_database
from tagmill.worker.store.states import NO_STATE, States
from tagmill.worker.store.view import View

_SCHEMA = "CREATE TABLE event (id TEXT PRIMARY KEY, line BLOB) WITHOUT ROWID;"


def events_since(runs: Runs, spec: RunSpec) -> Sequence[str]:
    """Return the event runs that came to their end since the state that the run continues; settled once."""
    try:
        return RunsOfEvents.of(runs, spec.run_id).since
    except FileNotFoundError:
        there = [run_id for run_id in runs.ids() if run_id.startswith(EVENTS)]
        state = States(runs.files, spec.state["name"]).state(spec.state["base"])
        before = set(state.mark().get("events", ())) if state.number != NO_STATE else set()
        taken = [one for one in there if one in before or Passes(runs.files, one).finished()]
        settled = {"known": taken, "since": [one for one in taken if one not in before]}
        runs.keep_input(spec.run_id, EVENTS_FILE, orjson.dumps(settled))
        return events_since(runs, spec)  # of whoever came first


def adopting(files: Files, event_runs: Sequence[str], met: Iterator[Met]) -> Iterator[Met]:
    """Let what event runs found stand for what was known before. Memory is bounded."""
    if not event_runs:
        yield from met
        return
    with scratch_database(_SCHEMA) as database:
        for run_id in event_runs:
            _take_in(database, files, run_id)
        for one in met:
            yield _met_by_event(database, one)


def _take_in(database: sqlite3.Connection, files: Files, run_id: str) -> None:
    created_at = Runs(files).read(run_id).created_at
    for line in View(files, run_id, Passes(files, run_id).finished()).lines():
        known = Known.of_row(orjson.loads(line), created_at)
        if known is not None and known.tagged:
            earlier = _look_up(database, known.id)
            news = known if earlier is None else known.over(earlier)
            database.execute("INSERT OR REPLACE INTO event VALUES (?, ?)", (news.id, news.to_line()))


def _met_by_event(database: sqlite3.Connection, met: Met) -> Met:
    if met.item is None or met.item.ref is None or (event := _look_up(database, met.item.ref.id)) is None:
        return met
    known = event if met.known is None else event.over(met.known)
    return dataclasses.replace(met, known=known, by_event=known.run == event.run)


def _look_up(database: sqlite3.Connection, image_id: str) -> Known | None:
    found = database.execute("SELECT line FROM event WHERE id = ?", (image_id,)).fetchone()
    return Known.from_line(found[0]) if found else None
