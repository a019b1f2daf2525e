"""Where dealing with webhook events goes on, and what is known of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from fakes.files import MemoryFiles

from tagmill.worker.store.digests import AT_ONCE, Digest, Digests

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
EACH_DAY = 50


@pytest.fixture
def files() -> MemoryFiles:
    """Of ten days, with a mark in each digest."""
    files = MemoryFiles()
    for number in range(10 * EACH_DAY):
        at = NOW - timedelta(days=9 - number // EACH_DAY)
        writer = Digests(files, at)
        writer.newest(1)
        assert writer.add(Digest({}, [str(number)], {}), at)
    return files


def marks(digests: list[Digest]) -> list[int]:
    return [int(mark) for digest in digests for mark in digest.marks]


@pytest.mark.parametrize(
    ("wanted", "read"), [(1, AT_ONCE), (AT_ONCE + 1, 2 * AT_ONCE), (10_000, 8 * EACH_DAY)]
)
def test_the_newest_are_read_up_to_a_week_and_then_what_is_added(
    files: MemoryFiles, wanted: int, read: int
) -> None:
    reader, other = Digests(files, NOW), Digests(files, NOW)
    assert marks(reader.newest(wanted)) == list(range(10 * EACH_DAY - read, 10 * EACH_DAY))
    assert list(reader.read_on()) == []
    assert marks(list(other.read_on())) == list(range(2 * EACH_DAY, 10 * EACH_DAY))
    assert other.add(Digest({}, ["500"], {}), NOW)
    assert marks(list(reader.read_on())) == [500]


def test_of_a_receiver_that_was_away_for_longer_the_last_day_is_read(files: MemoryFiles) -> None:
    reader = Digests(files, NOW + timedelta(days=30))
    assert marks(reader.newest(10_000)) == list(range(9 * EACH_DAY, 10 * EACH_DAY))
