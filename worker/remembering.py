"""The state that a run leaves of its source: what was known, less what disappeared, with what it found."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter

import orjson

from tagmill.worker.joining import joined
from tagmill.worker.known import Known
from tagmill.worker.models import Json
from tagmill.worker.store.base import Files
from tagmill.worker.store.departures import Departures
from tagmill.worker.store.passes import PassSpec
from tagmill.worker.store.runs import Runs, RunSpec
from tagmill.worker.store.scratch import scratch_database
from tagmill.worker.store.states import Claim, States
from tagmill.worker.store.view import View

EVENTS_FILE = "events.json"
_SCHEMA = "CREATE TABLE found (key BLOB, line BLOB);"

Found = Callable[[], Iterator[Known]]  #: what a run knows of its images, in key order


@dataclass(frozen=True, slots=True)
class RunsOfEvents:
    """Those that a run over a source found finished, and those among them that its base did not know."""

    known: list[str]
    since: list[str]

    @classmethod
    def of(cls, runs: Runs, run_id: str) -> RunsOfEvents:
        """Raise FileNotFoundError before that is settled."""
        return cls(**orjson.loads(runs.read_input(run_id, EVENTS_FILE)))


def remember(files: Files, spec: RunSpec, current: PassSpec) -> None:
    """Write the source's next state, once the pass is finished; done again, it changes nothing."""
    if not spec.state:
        return
    states, run, number = States(files, spec.state["name"]), spec.run_id, current.number
    claim = states.claimed(run, number, after=spec.state["base"]) or states.claim(run, number)
    with _found(files, spec, number) as found:
        _write(files, states, claim, found)
        while states.newest() > claim.number:  # which knew nothing of this pass
            claim = states.claim(run, number)
            _write(files, states, claim, found)


def revised(before: Iterable[Known], gone: Iterable[Known], found: Iterable[Known]) -> Iterator[Known]:
    """All three in key order. What disappeared but is known otherwise by now, another run has found."""
    left = joined(_keyed(before), _keyed(gone))
    kept = ((key, known) for key, known, departed in left if known is not None and known != departed)
    for _, known, news in joined(kept, _keyed(found)):
        if news is None or known is None:
            yield from (one for one in (known, news) if one is not None)
        else:
            yield news.over(known)


def _write(files: Files, states: States, claim: Claim, found: Found) -> None:
    state = states.state(claim.number)
    if state.whole():
        return
    facts: Json = {
        "run": claim.run,
        "pass": claim.pass_no,
        "base": claim.base,
        "at": datetime.now(UTC).isoformat(),
    }
    with contextlib.suppress(FileNotFoundError):
        facts["events"] = RunsOfEvents.of(Runs(files), claim.run).known
    gone = Departures(files, claim.run).known()
    state.write(revised(states.state(claim.base).known(), gone, found()), facts)


@contextmanager
def _found(files: Files, spec: RunSpec, last_pass: int) -> Iterator[Found]:
    """A listing was planned in key order; what was copied, a list or a report, is in none."""

    def as_planned() -> Iterator[Known]:
        rows = map(orjson.loads, View(files, spec.run_id, last_pass + 1).lines())
        return filter(None, (Known.of_row(row, spec.created_at) for row in rows))

    if spec.source["input"] is None:
        yield lambda: _last_of_each(as_planned())
        return
    with scratch_database(_SCHEMA) as database:
        lines = ((one.key, one.to_line()) for one in as_planned())
        database.executemany("INSERT INTO found VALUES (?, ?)", lines)
        yield lambda: _last_of_each(_sorted(database))


def _sorted(found: sqlite3.Connection) -> Iterator[Known]:
    lines = found.cursor().execute("SELECT line FROM found ORDER BY key, rowid")
    return (Known.from_line(line) for (line,) in lines)


def _last_of_each(known: Iterator[Known]) -> Iterator[Known]:
    """A list may name an image twice."""
    return (list(of_one)[-1] for _, of_one in itertools.groupby(known, key=attrgetter("id")))


def _keyed(known: Iterable[Known]) -> Iterator[tuple[bytes, Known]]:
    return ((one.key, one) for one in known)
