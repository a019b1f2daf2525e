"""The manifest row, schema 1: one per image, stable for those who build on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tagmill.worker.counts import is_waiting
from tagmill.worker.models import (
    NOTHING_YET,
    PARTIAL,
    SCHEMA,
    Answer,
    BadLine,
    Chunk,
    Failure,
    Handle,
    ImageRef,
    Json,
    LocalFile,
    Outcome,
    Place,
    S3Object,
    Source,
    Status,
    WriteStatus,
)
from tagmill.worker.money import cost_of
from tagmill.worker.policy import FILTERED, TagPolicy
from tagmill.worker.store.passes import PassKind

if TYPE_CHECKING:
    from tagmill.worker.store.plan import Planned

ERROR_LENGTH = 500  #: characters of a message that a row keeps
FRESH = "fresh"  #: flag: its content changed since its last tags
UNDONE = "undone"  #: flag: its write-backs were taken back
OWN_FLAGS = frozenset({FRESH, UNDONE, FILTERED})  #: all others are the engine's
PREVIOUS = "previous"  #: beside the fields of a row in a plan: what stood at our keys before the run, by sink
ANSWERED_BY = ("duplicate_of", "engine", "engine_version", "engine_config")


@dataclass(frozen=True, slots=True)
class RowContext:
    """What all rows of a pass have in common."""

    run_id: str
    pass_no: int
    policy: TagPolicy
    engine: str
    engine_version: str
    engine_config: str
    kind: PassKind = PassKind.TAG
    price_per_1000: str | None = None  #: decimal


def row_for(context: RowContext, chunk: Chunk, index: int, planned: Planned, outcome: Outcome) -> Json:
    """The row of the image at that index of the chunk; in a later pass it revises an earlier one."""
    earlier = planned.row
    if earlier is None:
        row = build_row(context, chunk.shard, chunk.offset + index, planned.ref, outcome)
    elif context.pass_no and not is_waiting(earlier) and _leaves(context, earlier, outcome):
        row = left_row(context, earlier, outcome)
    else:
        row = later_row(context, earlier, planned.ref, outcome)
    waits = planned.duplicate_of is not None and outcome.status is Status.DUPLICATE
    return row | {"duplicate_of": planned.duplicate_of} if waits else row


def _leaves(context: RowContext, earlier: Json, outcome: Outcome) -> bool:
    """Whether the image stays as it was, as one does whose failed tasks could not even be asked for."""
    has_answer = context.kind is PassKind.RETRY and earlier["raw_tags"] is not None
    return outcome.status is Status.CANCELLED or (has_answer and outcome.answer is None)


def build_row(context: RowContext, shard: int, index: int, ref: ImageRef, outcome: Outcome) -> Json:
    answer = outcome.answer
    tags = answer.tags if answer else None
    row = {
        "schema": SCHEMA,
        "run_id": context.run_id,
        "pass": context.pass_no,
        "shard": shard,
        "index": index,
        "id": ref.id,
        "source": _source(ref.at(outcome.behind).source),
        "status": outcome.status.value,
        "duplicate_of": None,
        "flags": [*(answer.flags if answer else ()), *((FRESH,) if ref.fresh else ())],
        "tags": tags,
        "raw_tags": tags,
        "results": answer.results if answer else outcome.results,
        "labels": [],
        "policy": context.policy.hash,
        "engine": context.engine,
        "engine_version": context.engine_version,
        "engine_config": context.engine_config,
        "transfer": outcome.transfer,
        "attempts": outcome.attempts,
        "calls": outcome.calls,
        "maybe_charged": outcome.maybe_charged,
        "cost": cost_of(outcome.calls, context.price_per_1000),
        "latency_ms": outcome.latency_ms,
        "http_status": outcome.http_status,
        "error": _error(outcome),
        "writes": {name: dataclasses.asdict(write) for name, write in outcome.writes.items()},
        "tagged_at": outcome.tagged_at,
    }
    return under_policy(row, context.policy)


def under_policy(row: Json, policy: TagPolicy) -> Json:
    """Return the row with the tags and labels that this policy makes of its answers, whatever it had."""
    raw = row["raw_tags"]
    tags, labels = policy.judge(raw, row["results"]) if raw else (raw, [])
    emptied = bool(raw and raw["auto"] and not tags["auto"])
    flags = [flag for flag in row["flags"] if flag != FILTERED] + [FILTERED] * emptied
    return {**row, "flags": flags, "tags": tags, "labels": labels, "policy": policy.hash}


def later_row(context: RowContext, earlier: Json, ref: ImageRef, outcome: Outcome) -> Json:
    """The row of a later pass: at the same place, with all that the image has cost so far."""
    row = build_row(context, earlier["shard"], earlier["index"], ref, outcome)
    row |= _spent(context, earlier, outcome)
    if context.kind.reuses(earlier):
        row |= {name: earlier[name] for name in ANSWERED_BY}
    if context.kind is PassKind.UNDO:
        return row | {"flags": [*row["flags"], UNDONE]}
    return row | {"writes": _standing(earlier["writes"], row["writes"])}


def left_row(context: RowContext, earlier: Json, outcome: Outcome) -> Json:
    """The row of an image that a later pass leaves as it was, though it may have cost something."""
    kept = {name: value for name, value in earlier.items() if name != PREVIOUS}
    return kept | {"pass": context.pass_no} | _spent(context, earlier, outcome)


def again(row: Json, ref: ImageRef, run_id: str, place: Place) -> Json:
    """The plan line of an image that `run_id` gives the answer of an earlier run once more, at no cost."""
    source = ref.at(ref_of(row).behind).source
    return {
        **row,
        "run_id": run_id,
        "pass": 0,
        "shard": place[0],
        "index": place[1],
        "source": _source(source),
        "status": Status.TAGGED.value,
        "duplicate_of": None,
        "flags": [flag for flag in row["flags"] if flag not in OWN_FLAGS],
        "attempts": 0,
        "calls": 0,
        "maybe_charged": 0,
        "cost": None,
        "writes": {},
    }


def _spent(context: RowContext, earlier: Json, outcome: Outcome) -> Json:
    calls = earlier["calls"] + outcome.calls
    return {
        "attempts": earlier["attempts"] + outcome.attempts,
        "calls": calls,
        "maybe_charged": earlier["maybe_charged"] + outcome.maybe_charged,
        "cost": cost_of(calls, context.price_per_1000),
    }


def _standing(earlier: Mapping[str, Json], now: Mapping[str, Json]) -> Json:
    """What this run had written already stays known as written; also what it was told had failed."""
    made = {sink: _made(earlier[sink], write) for sink, write in now.items() if sink in earlier}
    return {**now, **made}


def _made(earlier: Json, now: Json) -> Json:
    if now["status"] != WriteStatus.UNCHANGED:
        return now
    return {**now, "status": WriteStatus.WRITTEN} if earlier["status"] == WriteStatus.FAILED else earlier


def outcome_of(row: Json) -> Outcome:
    """What an earlier pass paid for; nothing is counted twice, and its write-backs are another matter."""
    error = row["error"] and Failure.from_json(row["error"])
    tags = row["raw_tags"]
    flags = tuple(flag for flag in row["flags"] if flag not in OWN_FLAGS)
    answer = (
        Answer(tags, flags, row["http_status"], row["latency_ms"], calls=0, results=row["results"])
        if tags
        else None
    )
    return Outcome(
        Status(row["status"]),
        answer,
        error,
        http_status=row["http_status"],
        latency_ms=row["latency_ms"],
        transfer=row["transfer"],
        tagged_at=row["tagged_at"],
    )


def failed_tasks(row: Json) -> list[Json]:
    """The errors of those tasks of a pipeline that its image goes without."""
    return [result["error"] for result in row["results"].values() if "error" in result]


def unfinished(row: Json) -> Answer | None:
    """What was answered but for those, so that they are asked for anew; None: nothing was."""
    results = {task: result for task, result in row["results"].items() if "error" not in result}
    answer = outcome_of(row).answer or (NOTHING_YET if results else None)
    if answer is None:
        return None
    flags = tuple(flag for flag in answer.flags if flag != PARTIAL)
    return dataclasses.replace(answer, results=results, flags=flags, complete=False)


def ref_of(row: Json) -> ImageRef:
    """The image of a row."""
    source, id_ = row["source"], row["id"]
    fresh = FRESH in row["flags"]
    if "bucket" in source:
        return ImageRef(S3Object(**source), fresh=fresh)
    if "path" in source:
        return ImageRef(LocalFile(id_, **source), fresh=fresh)
    if "handle" in source:
        return ImageRef(Handle(**source), fresh=fresh)
    return ImageRef(BadLine(source["list"], source["line"], row["error"]["message"]))


def _error(outcome: Outcome) -> Json | None:
    if outcome.error is None:
        return None
    return {**outcome.error.to_json(), "message": outcome.error.message[:ERROR_LENGTH]}


def _source(source: Source) -> dict[str, Any]:
    match source:
        case S3Object():
            return _object(source)
        case LocalFile():
            return {"path": source.path, "size": source.size, "mtime_ns": source.mtime_ns}
        case Handle():
            behind = {"behind": _object(source.behind)} if source.behind else {}
            return {"handle": source.handle, "line": source.line, **behind}
        case BadLine():
            return {"list": source.list_name, "line": source.line}


def _object(image: S3Object) -> Json:
    said = dataclasses.asdict(image)
    if image.is_latest is None:
        del said["is_latest"]
    return said
