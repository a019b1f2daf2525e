"""The runs of a store at a glance: a few small reads each, and live counts where Redis has them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tagmill.worker.counts import Counts
from tagmill.worker.errors import ConfigError, RedisUnavailableError
from tagmill.worker.models import SCHEMA, Json
from tagmill.worker.state.board import Board
from tagmill.worker.store.base import Files
from tagmill.worker.store.passes import Passes, PassSpec
from tagmill.worker.store.plan import Plan
from tagmill.worker.store.runs import Runs, RunSpec
from tagmill.worker.summary import read_summary, summary

READERS = 8  #: threads: a store far away answers slowly
STATE = ("state", "reason", "pass", "planned")
COUNTS = (
    "tagged",
    "failed",
    "skipped",
    "duplicate",
    "quarantined",
    "cancelled",
    "remaining",
    "calls",
    "cost",
)
Reach = Callable[[RunSpec], Board | None]  #: may raise `RedisUnavailableError`


def list_runs(files: Files, reach: Reach, limit: int | None = None) -> Json:
    """Return the object that `tagmill list --json` prints."""
    runs = Runs(files)
    with ThreadPoolExecutor(READERS) as readers:
        found = [spec for spec in readers.map(lambda run_id: _spec(runs, run_id), runs.ids()) if spec]
        newest = sorted(found, key=lambda spec: spec.created_at, reverse=True)[:limit]
        listed = list(readers.map(lambda spec: listed_run(runs, spec, reach), newest))
    return {"schema": SCHEMA, "runs": listed}


def _spec(runs: Runs, run_id: str) -> RunSpec | None:
    """Return None for a run that was only half created, or that a newer Tagmill wrote."""
    try:
        return runs.read(run_id)
    except ConfigError:
        return None


def listed_run(runs: Runs, spec: RunSpec, reach: Reach) -> Json:
    passes, final = Passes(runs.files, spec.run_id), read_summary(runs.files, spec.run_id)
    newest = passes.count() - 1
    if final is None or final["pass"] < newest:
        final = _unfinished(runs, spec, passes.read(newest), reach)
    return {
        "run_id": spec.run_id,
        "created_at": spec.created_at,
        "source": spec.source.get("uri"),
        "engine": spec.engine,
        **{name: final[name] for name in (*STATE, *COUNTS)},
    }


def _unfinished(runs: Runs, spec: RunSpec, current: PassSpec, reach: Reach) -> Json:
    """Counts that only many reads would tell are `null`; so is the number of images until all are planned."""
    counts, whole = _counts(spec, current, reach), Plan(runs.files, spec.run_id, 0).summary()
    told = summary(
        spec,
        current,
        location=runs.files.location,
        planned=whole.images if whole else 0,
        counts=counts or Counts(),
        control=runs.control(spec.run_id),
    )
    unknown = [*(() if whole else ("planned", "remaining")), *(() if counts else COUNTS)]
    return told | dict.fromkeys(unknown)


def _counts(spec: RunSpec, current: PassSpec, reach: Reach) -> Counts | None:
    """Return what Redis knows; of a later pass that is not the run."""
    try:
        board = reach(spec) if current.number == 0 else None
        return board.counts(spec.run_id, 0) if board is not None else None
    except RedisUnavailableError:
        return None
