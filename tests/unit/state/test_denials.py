from __future__ import annotations

from redis.asyncio import Redis

from tagmill.worker.state.denials import KEPT_SECONDS, MOST, Denials
from tagmill.worker.state.keys import Keys


async def test_images_are_counted_once_over_all_processes(redis: Redis, keys: Keys) -> None:
    processes = [Denials(redis, keys, "run-1"), Denials(redis, keys, "run-1")]
    counts = [await processes[i % 2].denied(image) for i, image in enumerate(["a", "b", "a", "c"])]
    assert counts == [1, 2, 2, 3]
    assert await processes[0].count() == 3


async def test_runs_do_not_mix(redis: Redis, keys: Keys) -> None:
    await Denials(redis, keys, "run-1").denied("a")
    assert await Denials(redis, keys, "run-2").denied("b") == 1


async def test_the_set_is_bounded_and_ends_by_itself(redis: Redis, keys: Keys) -> None:
    denials = Denials(redis, keys, "run-1")
    for i in range(MOST + 10):
        count = await denials.denied(f"image-{i}")
    assert count == MOST
    assert 0 < await redis.ttl(keys.denied("run-1")) <= KEPT_SECONDS


async def test_an_id_of_any_bytes_counts(redis: Redis, keys: Keys) -> None:
    assert await Denials(redis, keys, "run-1").denied("s3://bucket/\udcff") == 1
