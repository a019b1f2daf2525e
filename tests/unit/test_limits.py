from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from fakes.runs import CREATED, a_spec

from tagmill.worker.limits import max_calls, overdue, time_limit
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
