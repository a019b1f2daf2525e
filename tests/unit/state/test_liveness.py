"""When a worker is stuck, and when it only has nothing to do."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from redis.asyncio import Redis

from tagmill.worker.state.keys import Keys
from tagmill.worker.state.liveness import Look, Signs, complaint, look_again
from tagmill.worker.state.turns import Turns

PATIENCE = 600.0
MINUTE = 60.0


def seen(signs: Sequence[Signs], every: float = MINUTE) -> str | None:
    """What the last of these looks says."""
    look: Look | None = None
    said = None
    for number, sign in enumerate(signs):
        look = look_again(sign, look, every * number, PATIENCE)
        said = complaint(sign, look, PATIENCE)
    return said


def alive(minute: int, *, ended: float = 0.0, waiting: int = 5) -> Signs:
    return Signs(MINUTE * minute, MINUTE * ended, waiting)


def test_nothing_finished_while_messages_wait_is_stuck() -> None:
    looks = [alive(minute, ended=2) for minute in range(14)]
    assert seen(looks[:13]) is None
    assert seen(looks) == "has finished nothing for 660 s, with 5 messages waiting"


def test_who_finishes_something_now_and_then_is_well() -> None:
    assert seen([alive(minute, ended=minute // 9 * 9) for minute in range(100)]) is None


def test_who_has_nothing_to_do_is_well_and_is_not_blamed_for_the_time_before() -> None:
    idle = [alive(minute, waiting=0) for minute in range(100)]
    assert seen(idle) is None
    assert seen([*idle, *(alive(minute) for minute in range(100, 110))]) is None
    assert seen([*idle, *(alive(minute) for minute in range(100, 111))]) is not None


def test_a_silent_worker_is_found_though_nothing_waits() -> None:
    silent = [Signs(2 * MINUTE, 0.0, 0)] * 14
    assert seen(silent[:13]) is None
    assert seen(silent) == "has given no sign of life for 660 s"


@pytest.mark.parametrize("sign", [alive(0), Signs(0.0, 0.0, 0)])
def test_after_a_time_without_looks_all_begins_anew(sign: Signs) -> None:
    assert seen([sign] * 100, every=PATIENCE / 4 + 1) is None
    assert seen([sign] * 100, every=PATIENCE / 4) is not None


async def test_a_message_of_another_version_is_dealt_with_too(redis: Redis) -> None:
    keys = Keys("turns")
    await Turns(redis, keys, "worker").leave("2")
    assert await redis.hgetall(keys.foreign_messages()) == {b"2": b"1"}
    assert float(await redis.get(keys.turn("worker")) or 0) > 0
