from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from tagmill.producer.sources.quantities import SIZE_RULE, TIME_RULE, parse_size, parse_time, rfc3339


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("512B", 512),
        ("10KB", 10_000),
        ("10 kb", 10_000),
        ("5MB", 5_000_000),
        ("5M", 5_000_000),
        ("1.5MiB", 1_572_864),
        ("1GiB", 1 << 30),
        ("2TB", 2 * 10**12),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", "1 2", "10iB", "10KX", "1e3", "1,5MB"])
def test_what_is_no_size_is_answered_with_the_rule(text: str) -> None:
    with pytest.raises(ValueError, match=SIZE_RULE[:12]):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-01", "2026-11-01T00:00:00Z"),
        ("2026-11-01T08:30:00Z", "2026-11-01T08:30:00Z"),
        ("2026-11-01 08:30", "2026-11-01T08:30:00Z"),
        ("2026-11-01T08:30:00+02:00", "2026-11-01T06:30:00Z"),
    ],
)
def test_times_are_utc_unless_they_say_otherwise(text: str, time: str) -> None:
    assert parse_time(text) == time


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "0001-01-01T00:00:00+14:00", "1767225600"])
def test_what_is_no_time_is_answered_with_the_rule(text: str) -> None:
    with pytest.raises(ValueError, match=TIME_RULE[:12]):
        parse_time(text)


def test_times_are_written_with_a_z_and_with_milliseconds_only_where_there_are_any() -> None:
    assert rfc3339(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2026-01-02T03:04:05Z"
    assert rfc3339(datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)) == "2026-01-02T03:04:05.678Z"
    assert rfc3339(datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=2)))) == "2026-01-02T01:00:00Z"
