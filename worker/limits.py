"""How far a run may go, from its specification as it is in effect."""

from __future__ import annotations

from datetime import datetime

from tagmill.worker.errors import FailureRateError
from tagmill.worker.money import calls_for
from tagmill.worker.state.failures import LastImages
from tagmill.worker.store.runs import Control, RunSpec, Verb, effective


def max_calls(spec: RunSpec) -> int | None:
    """Return the tighter one of the caps on calls and on cost."""
    caps = [] if spec.max_calls is None else [spec.max_calls]
    if spec.max_cost is not None and spec.price_per_1000 is not None:
        caps.append(calls_for(spec.max_cost, spec.price_per_1000))
    return min(caps, default=None)


def too_many_failures(spec: RunSpec, control: Control, last: LastImages) -> FailureRateError | None:
    """Return the error to pause for, when the last images say so and are enough to go by."""
    most = effective(spec, control).max_failure_rate
    if last.images < spec.failure_sample or last.percent <= most:
        return None
    return FailureRateError(
        f"{last.failed} of the last {last.images} images failed, more than {most:g} %: look into why "
        "(tagmill failures); resuming begins to count anew, --max-failure-rate allows more"
    )


def overdue(spec: RunSpec, control: Control, now: datetime) -> bool:
    """Whether its time is up, counted from its start or from when it was last lifted from a pause."""
    most = effective(spec, control).max_duration
    started = datetime.fromisoformat(control.since or spec.created_at)
    return most is not None and (now - started).total_seconds() > most


def time_limit(now: datetime) -> Control:
    """The pause of a run whose time is up."""
    message = "its time is up: resuming gives it as much again, --max-duration sets another limit"
    return Control(verb=Verb.PAUSE, reason="time_limit", message=message, by="refill", at=now.isoformat())
