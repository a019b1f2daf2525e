from __future__ import annotations

from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest

from tagmill.producer.schedules.timetable import Timetable
from tagmill.worker.rate import Rate

SLOW, FAST = Rate.parse("5/s"), Rate.parse("50/s")
DAY_AND_NIGHT = Timetable(((time(8), SLOW), (time(20), FAST)), ZoneInfo("Europe/Berlin"))


@pytest.mark.parametrize(
    ("now", "rate", "since"),
    [
        ("2026-11-22T06:59", FAST, "2026-11-21T19:00"),  # of the evening before
        ("2026-11-22T07:00", SLOW, "2026-11-22T07:00"),
        ("2026-11-22T19:00", FAST, "2026-11-22T19:00"),
        ("2026-07-22T06:00", SLOW, "2026-07-22T06:00"),  # in summer an hour earlier
    ],
)
def test_a_step_holds_from_its_local_time_to_the_next(now: str, rate: Rate, since: str) -> None:
    step = DAY_AND_NIGHT.at(datetime.fromisoformat(now).replace(tzinfo=UTC))
    assert (step.rate, step.since) == (rate, datetime.fromisoformat(since).replace(tzinfo=UTC))


def test_a_step_in_the_skipped_hour_is_not_lost() -> None:
    table = Timetable(((time(2, 30), SLOW), (time(20), FAST)), ZoneInfo("Europe/Berlin"))
    assert table.at(datetime(2026, 3, 29, 1, 29, tzinfo=UTC)).rate == FAST
    assert table.at(datetime(2026, 3, 29, 1, 30, tzinfo=UTC)).rate == SLOW
