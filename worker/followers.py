"""Answers handed on: the passes that give images of equal content what one of them was answered.

Pass 0 asks for the first of each group and leaves the others waiting. What has an answer is handed on without
a call; where asking failed, another image of the group is asked, and the rest wait for one more pass.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TypeVar

import orjson

from tagmill.worker.background import Stopped
from tagmill.worker.counts import Counts, is_waiting
from tagmill.worker.models import Json, Status, WriteStatus
from tagmill.worker.rows import FRESH, OWN_FLAGS
from tagmill.worker.store.base import Files
from tagmill.worker.store.duplicates import Duplicates
from tagmill.worker.store.passes import Passes, PassKind, PassSpec
from tagmill.worker.store.plan import Plan, Planned, PlanSummary, ShardHeader
from tagmill.worker.store.runs import RunSpec
from tagmill.worker.store.scratch import scratch_database, to_number
from tagmill.worker.store.view import View, place_of

WAITING = "waiting"  #: why an image is not in the plan: another of its group is asked first
ONE_BY_ONE = 3  #: images of a group that are asked one after the other; when all fail, the rest at once
CERTAIN = 2  #: images of a group that were refused for their content: so would the others be
CONTENT_FAILURES = frozenset({"ImageRejectedError", "Quarantine"})
NEVER_ASKED = frozenset({"already_tagged"})  #: codes
ANSWER = ("tags", "raw_tags", "results", "labels", "engine", "engine_version", "engine_config", "tagged_at")
MIN_CHUNK, MAX_CHUNK, PARALLEL_CHUNKS = 10, 1_000, 4
T = TypeVar("T")

_SCHEMA = """
    CREATE TABLE member (leader INTEGER, rank INTEGER, place INTEGER, line BLOB);
    CREATE TABLE decided (place INTEGER, line BLOB);
"""
_BY_GROUP = "SELECT leader, line FROM member ORDER BY leader, rank, place"
_IN_ORDER = "SELECT line FROM decided ORDER BY place"


# --- which pass -------------------------------------------------------------------------------------------


def begin_followers(files: Files, run_id: str, current: PassSpec) -> None:
    """Make the pass that comes after one that left images waiting; its time counts from the run's start."""
    number = current.number + 1
    inputs = [f"{earlier:04d}" for earlier in range(number)]
    Passes(files, run_id).create(PassSpec(number, PassKind.FOLLOWERS, current.policy, inputs))


# --- what becomes of one image ----------------------------------------------------------------------------


def handed_on(row: Json, answered: Json) -> Json:
    """The plan line of a follower that shares the answer of another row."""
    flags = [flag for flag in answered["flags"] if flag not in OWN_FLAGS] + [FRESH] * (FRESH in row["flags"])
    return {
        **row,
        **{name: answered[name] for name in ANSWER},
        "flags": flags,
        "duplicate_of": answered["id"],
    }


def refused_likewise(row: Json, refused: Json) -> Json:
    """The plan line of a follower that is not asked for, because its content was refused before."""
    return {**row, **{name: refused[name] for name in ("status", "error")}, "duplicate_of": refused["id"]}


def is_answered(row: Json) -> bool:
    """Whether its answer is surely one for the planned content."""
    return bool(row["status"] == Status.TAGGED and not _is_stale(row))


def rank(row: Json) -> int:
    """Order within a group: who can hand on an answer, who else is settled, who waits."""
    return 2 if is_waiting(row) else 0 if is_answered(row) else 1


def decide(group: Iterable[Json]) -> Iterator[Json | None]:
    """Return a plan line for each row that waits; None: it goes on waiting. Rows come by rank and place."""
    known = _Group()
    for row in group:
        if is_waiting(row):
            yield known.plan_line(row)
        else:
            known.note(row)


@dataclass(slots=True)
class _Group:
    """What became of those that do not wait."""

    answered: Json | None = None
    failed: list[Json] = field(default_factory=list)  #: the first few
    cancelled: bool = False  #: the run is: each gets its row, and nobody is asked
    asked: int = 0  #: of those that waited

    def note(self, row: Json) -> None:
        if is_answered(row):
            self.answered = self.answered or row
        elif row["status"] == Status.CANCELLED:
            self.cancelled = True
        elif _was_asked(row) and len(self.failed) < ONE_BY_ONE:
            self.failed.append(row)

    def plan_line(self, row: Json) -> Json | None:
        if self.answered is not None:
            return handed_on(row, self.answered)
        refused = [other for other in self.failed if _error(other, "class") in CONTENT_FAILURES]
        if len(refused) >= CERTAIN:
            return refused_likewise(row, refused[-1])
        if self.asked and not self.cancelled and len(self.failed) < ONE_BY_ONE:
            return None
        self.asked += 1
        return row


def _was_asked(row: Json) -> bool:
    """In vain."""
    return row["status"] != Status.DUPLICATE and _error(row, "code") not in NEVER_ASKED


def _error(row: Json, name: str) -> str | None:
    error: Json = row["error"] or {}
    return error.get(name)


def _is_stale(row: Json) -> bool:
    """Whether the image was changed since it was planned: then the answer may be for other content."""
    return any(write["status"] == WriteStatus.STALE for write in row["writes"].values())


# --- the plan of a pass -----------------------------------------------------------------------------------


def plan_followers(files: Files, spec: RunSpec, current: PassSpec, stopped: Stopped) -> None:
    """Plan the whole pass, unless it is planned. Planned twice it is the same, byte for byte."""
    plan = Plan(files, spec.run_id, current.number)
    if plan.summary() is not None:
        return
    with contextlib.suppress(_StoppedError), scratch_database(_SCHEMA) as database:
        members = _until(stopped, _members(files, spec.run_id, current.number))
        database.executemany("INSERT INTO member VALUES (?, ?, ?, ?)", members)
        waiting = _decide(database)
        lines = (line for (line,) in database.cursor().execute(_IN_ORDER))
        shards, images = _write(plan, spec, _until(stopped, lines))
        plan.finish(PlanSummary(shards, images, images + waiting, {WAITING: waiting} if waiting else {}))


class _StoppedError(Exception):
    pass


def _until(stopped: Stopped, items: Iterable[T]) -> Iterator[T]:
    for item in items:
        if stopped():
            raise _StoppedError
        yield item


def _members(files: Files, run_id: str, until: int) -> Iterator[tuple[int, int, int, bytes]]:
    """Every image of every group, with its row: one reading of the view."""
    rows = View(files, run_id, until).placed()
    for member in Duplicates(files, run_id).members():
        line = next(line for place, line in rows if place == member.place)
        yield to_number(member.leader), rank(orjson.loads(line)), to_number(member.place), line


def _decide(database: sqlite3.Connection) -> int:
    """Return how many images go on waiting."""
    waiting = 0
    rows = database.cursor().execute(_BY_GROUP)
    for _, group in itertools.groupby(rows, key=itemgetter(0)):
        for line in decide(orjson.loads(line) for _, line in group):
            if line is None:
                waiting += 1
            else:
                decided = to_number(place_of(line)), orjson.dumps(line)
                database.execute("INSERT INTO decided VALUES (?, ?)", decided)
    return waiting


def _write(plan: Plan, spec: RunSpec, lines: Iterator[bytes]) -> tuple[int, int]:
    """Return the number of shards and of images. A shard that another planner wrote is the same."""
    shards = planned = 0
    while rows := [orjson.loads(line) for line in itertools.islice(lines, spec.shard_size)]:
        images = [Planned.from_json(row, place_of(row)) for row in rows]
        first, planned = planned, planned + len(images)
        chunk_size = spec.chunk_size or _chunk_size(len(images))
        replaced = Counts(waiting=planned).to_json()
        plan.write(
            ShardHeader(shards, len(images), first, chunk_size, {}, listed=planned, replaced=replaced), images
        )
        shards += 1
    return shards, planned


def _chunk_size(images: int) -> int:
    """Even a small shard is work for several processes."""
    return max(MIN_CHUNK, min(MAX_CHUNK, math.ceil(images / PARALLEL_CHUNKS)))
