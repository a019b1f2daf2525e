"""The one object that `--json` prints and `summary.json` holds, schema 1."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson

from tagmill.worker.counts import Counts
from tagmill.worker.models import SCHEMA, Json
from tagmill.worker.store.base import Files
from tagmill.worker.store.layout import run_folder
from tagmill.worker.store.manifest import SINGLE_FILE_ROWS
from tagmill.worker.store.runs import Control, RunSpec, Verb

_STATES = {Verb.PAUSE: "paused", Verb.CANCEL: "cancelled", Verb.RESUME: "running"}


def summary(
    spec: RunSpec,
    *,
    location: str,
    pass_no: int,
    planned: int,
    counts: Counts,
    control: Control | None = None,
    finished_at: str | None = None,
) -> Json:
    """`finished_at` None: the run is not finished, and `control` says what it is doing."""
    control = control or Control()
    run_dir = f"{location}/{run_folder(spec.run_id)}"
    rows = "manifest.jsonl" if planned <= SINGLE_FILE_ROWS else f"passes/{pass_no:04d}/manifest.json"
    return {
        "schema": SCHEMA,
        "run_id": spec.run_id,
        "state": "completed" if finished_at else _STATES[control.verb],
        "reason": None if finished_at or control.running else control.reason,
        "pass": pass_no,
        "planned": planned,
        "tagged": counts.tagged,
        "failed": counts.failed,
        "skipped": counts.skipped,
        "duplicate": counts.duplicate,
        "quarantined": counts.quarantined,
        "cancelled": counts.cancelled,
        "remaining": max(planned - counts.settled, 0),
        "calls": counts.calls,
        "maybe_charged": counts.maybe_charged,
        "throttled": counts.throttled,
        "cost": None,
        "writes": dict(counts.writes),
        "duration_s": _seconds(spec.created_at, finished_at),
        "run_dir": run_dir,
        "manifest": f"{run_dir}/{rows}",
    }


def read_summary(files: Files, run_id: str) -> Json | None:
    """Return the view of a finished run; None until it is written."""
    try:
        value: Json = orjson.loads(files.read(f"{run_folder(run_id)}/summary.json"))
    except FileNotFoundError:
        return None
    return value


def finished(files: Files, run_id: str, pass_no: int) -> bool:
    """Tell whether a pass and its views are there: a crash may leave a whole manifest without them."""
    final = read_summary(files, run_id)
    return final is not None and final["pass"] >= pass_no


def _seconds(start: str, end: str | None) -> float:
    until = datetime.fromisoformat(end) if end else datetime.now(UTC)
    return round((until - datetime.fromisoformat(start)).total_seconds(), 1)
