"""Runs that are planned and not started: made, planned to the end, started."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from tagmill.config.settings import Settings
from tagmill.producer.consent import flag
from tagmill.producer.forecast import Quota, forecast
from tagmill.producer.launch import (
    NO_CAPS,
    Launch,
    check_caps,
    check_reopenable,
    copy_list,
    exists,
    open_runs,
    refuse_cancelled,
)
from tagmill.producer.modes import against_state
from tagmill.producer.planning import pass_planner, refuse_empty, reopen_source
from tagmill.producer.preparation import RunOptions, account_rate, clear, clearance_of, prepare
from tagmill.producer.safety import Dialogue
from tagmill.producer.sources.opening import located
from tagmill.producer.sources.s3_client import listing_client
from tagmill.producer.sources.spec import SourceSpec
from tagmill.worker.background import Background
from tagmill.worker.errors import ConfigError
from tagmill.worker.models import Json
from tagmill.worker.rate import Rate
from tagmill.worker.store.passes import Passes, PassKind
from tagmill.worker.store.plan import Plan
from tagmill.worker.store.probes import keep_probes
from tagmill.worker.store.runs import PLANNED, Control, Runs, RunSpec, Verb

PROGRESS_SECONDS = 10.0
Say = Callable[[str], None]


def create_planned(settings: Settings, source: SourceSpec, options: RunOptions) -> RunSpec:
    """Make a run that no worker touches. Raise `ConfigError` or `NotFoundError` before it is made."""
    source = located(source, lambda: listing_client(settings.s3_endpoint_url))
    spec = dataclasses.replace(prepare(settings, source, options, asks=False), planned=True)
    runs = open_runs(settings)
    if not runs.is_free(spec.run_id):
        raise exists(spec.run_id)
    spec = against_state(runs.files, spec, source, options)
    if source.input is None:
        refuse_empty(reopen_source(runs, spec, lambda: listing_client(settings.s3_endpoint_url)))
    copy_list(settings, runs, spec, source)
    # First: a fleet looks for runs all the time.
    runs.set_control(spec.run_id, Control(verb=Verb.PAUSE, reason=PLANNED, by="plan", at=_now()))
    if not runs.create(spec):
        raise exists(spec.run_id)
    return spec


def reopen_planned(settings: Settings, run_id: str) -> RunSpec:
    """Return a run whose plan may be finished or shown. Raise `ConfigError` for one that was started."""
    runs = open_runs(settings)
    spec = runs.read(run_id)
    _refuse_started(runs, spec)
    return spec


def finish_plan(settings: Settings, spec: RunSpec, say: Say) -> Json:
    """Plan what is not planned yet, and say now and then how far it is; return the forecast."""
    runs = open_runs(settings)
    plan = Plan(runs.files, spec.run_id, 0)
    current = Passes(runs.files, spec.run_id).read(0)
    endpoint, list_workers = settings.s3_endpoint_url, settings.list_workers
    planner = pass_planner(runs, spec, current, lambda: listing_client(endpoint, list_workers), list_workers)
    with Background(planner.run, "planner") as planning:
        while not planning.wait(PROGRESS_SECONDS):
            say(f"{plan.planned():,} images planned")
    whole = plan.summary()
    assert whole is not None  # noqa: S101 - nobody stopped it
    prices = settings.s3_prices.model_dump(mode="json") if settings.s3_prices is not None else None
    return {**forecast(runs, spec, whole, prices, _quota(settings, spec)), **_effects(settings, spec)}


def _quota(settings: Settings, spec: RunSpec) -> Quota:
    own = Rate.parse(spec.rate) if spec.rate is not None else None
    rates = [account_rate(settings, spec.engine, own), *([own] if own is not None else [])]
    daily = [settings.max_calls_per_day, *(rate.per_day for rate in rates)]
    per_day = min((calls for calls in daily if calls is not None), default=None)
    return Quota(per_day, settings.max_calls_per_month)


def _effects(settings: Settings, spec: RunSpec) -> Json:
    """What a write-back brings about beside tags, and the flags that allow it and were not given."""
    clearance = clearance_of(settings, spec, SourceSpec.from_json(spec.source))
    lines, wanted = clearance.foresee(listing_client(settings.s3_endpoint_url))
    needed = {flag(name) for name, _ in wanted if name not in clearance.allowed}
    return {"effects": lines, "needed": sorted(needed)}


def start_planned(
    settings: Settings, run_id: str, dialogue: Dialogue, caps: Mapping[str, Any] = NO_CAPS
) -> Launch:
    """Let a planned run go. Raise `ConfigError` when it was started already, or may not write where it would.

    Of two starts at once both follow one run.
    """
    runs = open_runs(settings)
    spec = runs.read(run_id)
    _refuse_started(runs, spec)
    if Plan(runs.files, run_id, 0).summary() is None:
        raise ConfigError(
            f"run {run_id} is not planned to its end: go on with `tagmill plan --resume {run_id}`"
        )
    check_reopenable(settings, spec, PassKind.TAG)
    check_caps(spec, caps)
    cleared, probes = clear(settings, spec, SourceSpec.from_json(spec.source), dialogue)
    keep_probes(runs.files, run_id, probes)
    runs.start(dataclasses.replace(cleared, created_at=_now()))
    now = _now()
    runs.set_control(run_id, Control(verb=Verb.RESUME, by="run", at=now, since=now, **caps))
    return Launch(settings, runs, runs.read(run_id), Passes(runs.files, run_id).newest(), is_new=True)


def _refuse_started(runs: Runs, spec: RunSpec) -> None:
    if not spec.planned:
        raise ConfigError(f"run {spec.run_id} was not made by `tagmill plan`")
    control = runs.control(spec.run_id)
    refuse_cancelled(control, spec.run_id, Passes(runs.files, spec.run_id).read(0))
    if control.reason != PLANNED:
        raise ConfigError(
            f"run {spec.run_id} was started already: go on with `tagmill run --resume {spec.run_id}`"
        )


def _now() -> str:
    return datetime.now(UTC).isoformat()
