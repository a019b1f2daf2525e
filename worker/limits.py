"""How far a run may go, from its specification as it is in effect."""

from __future__ import annotations

from datetime import datetime

from tagmill.worker.store.runs import Control, RunSpec, Verb, effective


def overdue(spec: RunSpec, control: Control, now: datetime) -> bool:
    """Whether its time is up, counted from its start or from when it was last lifted from a pause."""
    most = effective(spec, control).max_duration
    started = datetime.fromisoformat(control.since or spec.created_at)
    return most is not None and (now - started).total_seconds() > most


def time_limit(now: datetime) -> Control:
    """The pause of a run whose time is up."""
    message = "its time is up: resuming gives it as much again, --max-duration sets another limit"
    return Control(verb=Verb.PAUSE, reason="time_limit", message=message, by="refill", at=now.isoformat())
