"""When slots are, above all where the clock is changed. Berlin: 2026-03-29 and 2026-10-25, at 01:00 UTC."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagmill.producer.schedules.cron import Cron

BERLIN = ZoneInfo("Europe/Berlin")
SPRING, AUTUMN = datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC)
LINES = [
    "0 2 * * *",
    "30 2 * * *",
    "*/20 2 * * *",
    "0 */2 * * *",
    "0,30 1-3 * * *",
    "59 1 * * *",
    "15 3 * * 0",
]


def slots(line: str, after: datetime, hours: int, zone: ZoneInfo = BERLIN) -> list[str]:
    """Those of so many hours, in UTC, without the year."""
    end = after + timedelta(hours=hours)
    found = itertools.takewhile(lambda slot: slot <= end, Cron.parse(line, zone).after(after))
    return [f"{slot:%m-%d %H:%M}" for slot in found]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("30 2 * * *", ["03-29 01:00", "03-30 00:30"]),  # 02:30 is skipped: it comes at 03:00
        ("0,30 2 * * *", ["03-29 01:00", "03-30 00:00", "03-30 00:30"]),  # both at once, which is one
        ("*/20 2 * * *", ["03-29 01:00", "03-30 00:00", "03-30 00:20", "03-30 00:40"]),
        ("0 2,3 * * *", ["03-29 01:00", "03-30 00:00", "03-30 01:00"]),
        ("0 3 * * *", ["03-29 01:00", "03-30 01:00"]),
    ],
)
def test_what_falls_into_the_skipped_hour_comes_once_at_its_end(line: str, expected: list[str]) -> None:
    assert slots(line, SPRING, 40) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("30 2 * * *", ["10-25 00:30", "10-26 01:30"]),
        ("*/30 2 * * *", ["10-25 00:00", "10-25 00:30", "10-26 01:00", "10-26 01:30"]),
        (
            "0 */6 * * *",
            ["10-24 16:00", "10-24 22:00", "10-25 05:00", "10-25 11:00", "10-25 17:00", "10-25 23:00"],
        ),
    ],
)
def test_what_would_come_twice_comes_once(line: str, expected: list[str]) -> None:
    assert slots(line, AUTUMN, 38) == expected


def test_every_hour_is_every_hour_that_passes() -> None:
    assert len(slots("0 * * * *", AUTUMN, 24)) == len(slots("0 * * * *", SPRING, 24)) == 24


def test_a_look_in_the_second_of_two_equal_hours_does_not_find_the_first_again() -> None:
    second = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)  # 02:10 for the second time
    assert slots("30 2 * * *", second, 24) == []


def test_days_of_month_and_week() -> None:
    assert slots("0 0 1 * *", SPRING, 24 * 40, ZoneInfo("UTC")) == ["04-01 00:00", "05-01 00:00"]
    assert slots("0 0 * * SUN", SPRING, 24 * 8, ZoneInfo("UTC")) == ["03-29 00:00", "04-05 00:00"]


@given(st.sampled_from(LINES), st.lists(st.integers(1, 200), min_size=1, max_size=30))
def test_slots_do_not_depend_on_when_one_looks(line: str, minutes: list[int]) -> None:
    cron, start = Cron.parse(line, BERLIN), datetime(2026, 10, 24, 20, tzinfo=UTC)
    end = start + timedelta(minutes=sum(minutes))
    at_once = list(itertools.takewhile(lambda slot: slot <= end, cron.after(start)))
    by_and_by: list[datetime] = []
    now = start
    for passing in minutes:
        later = now + timedelta(minutes=passing)
        by_and_by += itertools.takewhile(lambda slot: slot <= later, cron.after(now))  # noqa: B023 - used at once
        now = later
    assert by_and_by == at_once


@pytest.mark.parametrize(
    "line", ["", "* * * *", "* * * * * *", "61 * * * *", "a b c d e", "0 0 30 2 *", "@daily", "*/0 * * * *"]
)
def test_what_is_no_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"five fields|bad "):
        Cron.parse(line, BERLIN)
