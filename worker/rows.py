"""The manifest row, schema 1: one per image, stable for those who build on it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from tagmill.worker.models import (
    SCHEMA,
    BadLine,
    Handle,
    ImageRef,
    Json,
    LocalFile,
    Outcome,
    S3Object,
    Source,
)
from tagmill.worker.policy import FILTERED, TagPolicy

ERROR_LENGTH = 500  #: characters of a message that a row keeps


@dataclass(frozen=True, slots=True)
class RowContext:
    """What all rows of a pass have in common."""

    run_id: str
    pass_no: int
    policy: TagPolicy
    engine: str
    engine_version: str
    engine_config: str


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
        "source": _source(ref.source),
        "status": outcome.status.value,
        "duplicate_of": None,
        "flags": list(answer.flags) if answer else [],
        "tags": tags,
        "raw_tags": tags,
        "results": {},
        "labels": [],
        "policy": context.policy.hash,
        "engine": context.engine,
        "engine_version": context.engine_version,
        "engine_config": context.engine_config,
        "transfer": outcome.transfer,
        "attempts": outcome.attempts,
        "calls": outcome.calls,
        "maybe_charged": outcome.maybe_charged,
        "cost": None,
        "latency_ms": outcome.latency_ms,
        "http_status": outcome.http_status,
        "error": _error(outcome),
        "writes": {name: dataclasses.asdict(write) for name, write in outcome.writes.items()},
        "tagged_at": outcome.tagged_at,
    }
    return under_policy(row, context.policy)


def under_policy(row: Json, policy: TagPolicy) -> Json:
    """Return the row with the tags that this policy makes of its raw ones, whatever policy it had before."""
    raw = row["raw_tags"]
    tags = raw and policy.apply(raw)
    emptied = bool(raw and raw["auto"] and not tags["auto"])
    flags = [flag for flag in row["flags"] if flag != FILTERED] + [FILTERED] * emptied
    return {**row, "flags": flags, "tags": tags, "policy": policy.hash}


def _error(outcome: Outcome) -> Json | None:
    if outcome.error is None:
        return None
    return {**outcome.error.to_json(), "message": outcome.error.message[:ERROR_LENGTH]}


def _source(source: Source) -> dict[str, Any]:
    match source:
        case S3Object():
            return dataclasses.asdict(source)
        case LocalFile():
            return {"path": source.path, "size": source.size, "mtime_ns": source.mtime_ns}
        case Handle():
            return {"handle": source.handle, "line": source.line}
        case BadLine():
            return {"list": source.list_name, "line": source.line}
