"""The one object that `--json` prints and `summary.json` holds, schema 1."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import orjson

from tagmill.worker.counts import Counts
from tagmill.worker.models import SCHEMA, Json
from tagmill.worker.money import cost_of
from tagmill.worker.store.base import Files
from tagmill.worker.store.layout import run_folder
from tagmill.worker.store.manifest import Manifest
from tagmill.worker.store.passes import PassSpec
from tagmill.worker.store.plan import Plan
from tagmill.worker.store.runs import Control, RunSpec, Verb
from tagmill.worker.store.view import SINGLE_FILE_ROWS

NOTHING: Mapping[str, int] = {}
_STATES = {Verb.PAUSE: "paused", Verb.CANCEL: "cancelled", Verb.RESUME: "running"}


def summary(  # noqa: PLR0913 - what it is made of
    spec: RunSpec,
    current: PassSpec,
    *,
    location: str,
    planned: int,
    counts: Counts,
    drawn: int = 0,
    control: Control | None = None,
    finished_at: str | None = None,
    found: Mapping[str, int] = NOTHING,
) -> Json:
    """`drawn`: calls of the budget that were drawn or lost. `found`: in a known source, images by why.

    `finished_at` None: the pass is not finished, and `control` says what it is doing.
    """
    control = control or Control()
    run_dir = f"{location}/{run_folder(spec.run_id)}"
    rows = "manifest.jsonl" if planned <= SINGLE_FILE_ROWS else "passes/0000/manifest.json"
    return {
        "schema": SCHEMA,
        "run_id": spec.run_id,
        "state": _final_state(control) if finished_at else _STATES[control.of(current.number)],
        "reason": None if finished_at or control.running else control.reason,
        "pass": current.number,
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
        "unaccounted": max(drawn - counts.calls, 0),
        "throttled": counts.throttled,
        "cost": cost_of(counts.calls, spec.price_per_1000),
        "writes": dict(counts.writes),
        "duration_s": _seconds(current.created_at or spec.created_at, finished_at),
        "run_dir": run_dir,
        "manifest": f"{run_dir}/{rows}",
        "warnings": spec.warnings,
        "saved": {"calls": counts.duplicate, "cost": cost_of(counts.duplicate, spec.price_per_1000)},
        "incremental": {"mode": spec.mode, "images": dict(found)} if spec.is_incremental else None,
    }


def _final_state(control: Control) -> str:
    """A cancelled run stays one, whatever passes may follow."""
    return "completed" if control.cancelled is None else "cancelled"


def counts_before(files: Files, run_id: str, plan: Plan) -> Counts:
    """Counts of the run without the images that this plan, of a later pass, has so far: those are to do."""
    if plan.pass_no == 0:
        return Counts()
    return Manifest(files, run_id, plan.pass_no - 1).counts().less(plan.replaced())


def write_summary(files: Files, run_id: str, final: Json) -> None:
    data = orjson.dumps(final, option=orjson.OPT_INDENT_2)
    files.replace(f"{run_folder(run_id)}/summary.json", [data])


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
