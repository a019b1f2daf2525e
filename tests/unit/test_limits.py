from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from fakes.runs import CREATED, a_spec

from tagmill.worker.limits import max_calls, overdue, time_limit, too_many_failures
from tagmill.worker.state.failures import LastImages
from tagmill.worker.store.runs import Control, Verb

START = datetime.fromisoformat(CREATED)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("most", "control", "seconds", "up"),
    [
        (None, Control(), 1e9, False),
        (60, Control(), 60, False),
        (60, Control(), 61, True),
        (60, Control(since=after(50).isoformat()), 110, False),
        (60, Control(since=after(50).isoformat()), 111, True),
        (60, Control(max_duration=100), 99, False),
        (None, Control(max_duration=100), 101, True),
    ],
)
def test_time_is_counted_from_the_start_or_the_last_lift_from_a_pause(
    most: float | None, control: Control, seconds: float, *, up: bool
) -> None:
    assert overdue(a_spec(max_duration=most), control, after(seconds)) is up


@pytest.mark.parametrize(
    ("images", "failed", "control", "stops"),
    [
        (199, 199, Control(), False),
        (200, 40, Control(), False),
        (200, 41, Control(), True),
        (300, 100, Control(max_failure_rate=50), False),
        (300, 31, Control(max_failure_rate=10), True),
        (300, 300, Control(max_failure_rate=100), False),
    ],
)
def test_a_run_stops_itself_when_more_fail_than_it_allows(
    images: int, failed: int, control: Control, *, stops: bool
) -> None:
    spec = a_spec(max_failure_rate=20.0, failure_sample=200)
    error = too_many_failures(spec, control, LastImages(images, failed))
    assert (error is not None) is stops
    assert error is None or str(error).startswith(f"{failed} of the last {images} images failed")


def test_a_run_from_before_there_was_such_a_rate_goes_on() -> None:
    assert too_many_failures(a_spec(), Control(), LastImages(1000, 1000)) is None


@pytest.mark.parametrize(
    ("caps", "calls"),
    [
        ({}, None),
        ({"max_calls": 50}, 50),
        ({"max_cost": "1", "price_per_1000": "2"}, 500),
        ({"max_calls": 50, "max_cost": "1", "price_per_1000": "2"}, 50),
        ({"max_calls": 5000, "max_cost": "1", "price_per_1000": "2"}, 500),
    ],
)
def test_the_tighter_one_of_calls_and_cost_holds(caps: dict[str, Any], calls: int | None) -> None:
    assert max_calls(a_spec(**caps)) == calls


def test_the_pause_says_what_to_do() -> None:
    pause = time_limit(START)
    assert (pause.verb, pause.reason, pause.at) == (Verb.PAUSE, "time_limit", CREATED)
    assert "--max-duration" in (pause.message or "")
