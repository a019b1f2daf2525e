from __future__ import annotations

import pytest
from redis.asyncio import Redis

from tagmill.worker.state.failures import Failures, LastImages
from tagmill.worker.state.keys import Keys


@pytest.fixture
def failures(redis: Redis, keys: Keys) -> Failures:
    return Failures(redis, keys, "a-run", sample=100)


async def test_the_fleet_counts_together(redis: Redis, keys: Keys, failures: Failures) -> None:
    assert await failures.count(40, 4) == LastImages(40, 4)
    assert await Failures(redis, keys, "a-run", 100).count(30, 8) == LastImages(70, 12)
    assert await Failures(redis, keys, "another-run", 100).count(1, 0) == LastImages(1, 0)


async def test_what_is_long_past_is_forgotten(failures: Failures) -> None:
    for _ in range(20):
        await failures.count(10, 0)
    assert (await failures.count(10, 10)).images == 110
    for _ in range(19):
        last = await failures.count(10, 10)
    assert last == LastImages(200, 200)


async def test_the_last_images_are_between_one_and_two_samples(failures: Failures) -> None:
    seen = [(await failures.count(7, 1)).images for _ in range(200)]
    assert min(seen[30:]) >= 100
    assert max(seen) <= 2 * (100 + 7)


def test_a_share_of_nothing_is_none() -> None:
    assert LastImages(0, 0).percent == 0
    assert LastImages(200, 41).percent == 20.5
